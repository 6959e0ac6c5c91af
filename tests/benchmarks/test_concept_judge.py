"""Simulated videos that show concepts: what the judge hears, and the made-up features that a bundle gets."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks.meaning import __main__ as meaning
from benchmarks.meaning import judge as judging
from benchmarks.meaning import shown as showing
from benchmarks.meaning.judge import train_judge
from benchmarks.meaning.shown import FeaturesOfShown, Shown, ShownPipeline, read_shown
from benchmarks.meaning.tables import summarise_heard
from runtime import SamplingConfig
from runtime.audio import write_wav
from runtime.errors import MediaError, OptionError
from tests.conftest import Bundles, MakeVideo
from train.metrics.inputs import Sound
from train.metrics.onsets import RATE
from train.metrics.semantic import spectrogram
from train.synthetic.concepts.features import ClassifierHead
from train.synthetic.concepts.table import CLASSES, Concept
from train.synthetic.recordings import PoolError

SOUNDS = {"drum": (120, "kdrum"), "dog": (700, "dog_bark"), "bell": (3000, "small_bell")}  # Hz, label
TABLE = [Concept(name, "hit", (k,), (label,)) for k, (name, (_, label)) in enumerate(SOUNDS.items())]
HEAD = ClassifierHead(np.eye(CLASSES, 8, dtype=np.float32), np.zeros(CLASSES, np.float32))


def tone(name: str, seconds: float, rate: int = RATE, shift: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * SOUNDS[name][0] * shift * t) * np.exp(-(t % 0.5) / 0.2)).astype(np.float32)


@pytest.fixture
def pools(tmp_path: Path) -> tuple[Path, Path]:
    """A pool of materials with the drum, and one of sound classes with the others; every recording is a session."""
    for pool, names in (("materials", ["drum"]), ("classes", ["dog", "bell"])):
        (tmp_path / pool).mkdir()
        rows = []
        for name in names:
            for k in range(12):
                file = f"{name}{'abcdefghijkl'[k]}.wav"
                write_wav(tmp_path / pool / file, tone(name, 0.6, shift=1 + 0.02 * k), RATE)
                row = {"file": file, "label": SOUNDS[name][1], "licence": "CC0-1.0", "author": file, "source": file}
                rows.append(row | {"seconds": "0.6"})
        with open(tmp_path / pool / "sounds.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    return tmp_path / "materials", tmp_path / "classes"


# ---------------------------------------------------------------- the judge
def test_judge_learns_from_both_pools_and_hears_spans(
    pools: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "STEPS", 200)
    judge, facts = train_judge(*pools, TABLE)
    assert judge.concepts == ("bell", "dog", "drum") and facts["right"] > 0.9 and facts["held_out"] > 2
    true = Sound(np.concatenate([tone("dog", 3), tone("bell", 3), np.zeros(3 * RATE)]).astype(np.float32), RATE)
    spans = [Shown(0, 3, {"dog": 0.6, "drum": 0.4}), Shown(3, 5.5, {"bell": 1.0}), Shown(5.5, 6, {"bell": 1.0})]
    spans += [Shown(6, 9, {"dog": 1.0})]  # the last two are too short, and silent
    heard = judge.judge(true, true, spans)
    assert [g["right"] for g in heard] == [True, True] and heard[0]["concepts"] == ["dog", "drum"]
    swapped = Sound(np.concatenate([tone("bell", 3), np.zeros(3 * RATE)]).astype(np.float32), RATE)
    wrong = judge.judge(swapped, true, spans)
    assert [(g["guess"], g["right"], g["right_five"]) for g in wrong] == [("bell", False, True), (None, False, False)]
    with pytest.raises(PoolError, match="recordings of 1 concepts"):
        train_judge(*pools, TABLE[:1])


def test_ratio_is_of_means_over_videos() -> None:
    def guesses(*right: bool) -> list[dict[str, bool]]:
        return [{"right": r, "right_five": True} for r in right]

    rows = [
        {"heard": guesses(True, False), "heard_true": guesses(True)},  # two seeds
        {"heard": guesses(False), "heard_true": guesses(True, False)},
        {"heard": [], "heard_true": []},
        {},
    ]
    found = summarise_heard(rows)
    assert found is not None and found["spans"] == 3
    assert found["right"]["generated"]["mean"] == pytest.approx(0.25)
    assert found["right"]["true_track"]["mean"] == pytest.approx(0.75)
    assert found["right"]["ratio"]["mean"] == pytest.approx(1 / 3) and found["right_five"]["ratio"]["mean"] == 1
    assert summarise_heard([{}]) is None


# ---------------------------------------------------------------- what is shown
def test_what_a_video_shows_is_read_from_its_json(tmp_path: Path) -> None:
    video, label = tmp_path / "a.mp4", tmp_path / "a.json"
    assert read_shown(video) == []
    label.write_text(json.dumps({"events": []}))
    assert read_shown(video) == []
    label.write_text(json.dumps({"concepts": [[0, 4, {"dog": 1.0}], [4, 10, {}]]}))
    assert read_shown(video) == [Shown(0, 4, {"dog": 1.0}), Shown(4, 10, {})]
    for text in ("{", "[]", '{"concepts": [[0, 4]]}', '{"concepts": 3}'):
        label.write_text(text)
        with pytest.raises(MediaError, match=r"a\.json cannot be used"):
            read_shown(video)


@pytest.mark.parametrize("width", [8, CLASSES])
def test_made_up_features_show_the_concepts_of_their_frames(width: int) -> None:
    features = FeaturesOfShown(TABLE, None, HEAD)  # type: ignore[arg-type]
    background = np.abs(np.random.default_rng(0).standard_normal((20, 8))).astype(np.float32)
    shown = [Shown(0, 5, {"drum": 1.0}), Shown(5, 10, {"bell": 1.0})]
    made = features.make(shown, background, 82, 8, width)
    assert made.shape == (82, width) and np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-4)
    means = made[:40].mean(0)[:3], made[40:].mean(0)[:3]  # drum, dog, bell
    assert means[0][0] > means[1][0] and means[1][2] > means[0][2]
    with pytest.raises(MediaError, match="lacks: unicorn"):
        features.make([Shown(0, 5, {"unicorn": 1.0})], background, 40, 8, width)
    with pytest.raises(OptionError, match="are 5 wide"):
        features.make(shown, background, 80, 8, 5)


def test_errors_name_the_video(bundles: Bundles, monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo) -> None:
    monkeypatch.setattr(showing, "pooled_features", lambda path, encoder: np.ones((4, 8), np.float32))
    features = FeaturesOfShown(TABLE, None, HEAD)  # type: ignore[arg-type]
    with ShownPipeline(bundles()) as pipeline:
        with pytest.raises(MediaError, match=r"^a/b\.mp4: it shows concepts that the table lacks: unicorn$"):
            features.of_track(Path("a/b.mp4"), [Shown(0, 5, {"unicorn": 1.0})], pipeline)
        pipeline.bundle.show(np.ones((1, pipeline.config.frame_dim), np.float32), make_video())
        with pytest.raises(OptionError, match=rf"^{make_video()} is longer than one window; give shorter videos$"):
            pipeline.generate(make_video(), SamplingConfig(steps=1))


def test_a_bundle_gets_the_made_up_features(bundles: Bundles) -> None:
    with ShownPipeline(bundles()) as pipeline:
        size, width = pipeline.config.frame_size, pipeline.config.frame_dim
        frames = np.zeros((4, size, size, 3), np.uint8)
        real = pipeline.bundle.run("frame_encoder", frames=frames)[0]
        made = np.arange(6 * width, dtype=np.float32).reshape(6, width)
        pipeline.bundle.show(made)
        assert np.array_equal(pipeline.bundle.run("frame_encoder", frames=frames)[0], made[:4])
        assert np.array_equal(pipeline.bundle.run("frame_encoder", frames=frames[:2])[0], made[4:])
        with pytest.raises(OptionError, match="longer than one window"):
            pipeline.bundle.run("frame_encoder", frames=frames)
        pipeline.bundle.show(None)
        assert np.array_equal(pipeline.bundle.run("frame_encoder", frames=frames)[0], real)


# ---------------------------------------------------------------- the command
def test_command_judges_simulated_videos(
    pools: tuple[Path, Path],
    bundles: Bundles,
    make_video: MakeVideo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sounds of the right concepts score as the true tracks; the bundle's features are made up."""
    monkeypatch.setattr(judging, "STEPS", 200)
    monkeypatch.setattr(meaning.AiSFX, "load", lambda: None)
    monkeypatch.setattr(meaning, "embed", lambda _, sound: spectrogram(sound.at(44100)).mean(0))
    monkeypatch.setattr(meaning, "read_encoder", lambda weights: (None, HEAD))
    monkeypatch.setattr(meaning, "read_table", lambda: TABLE)
    monkeypatch.setattr(meaning, "read_truth", lambda table: {})
    monkeypatch.setattr(showing, "pooled_features", lambda path, encoder: np.ones((4, 8), np.float32))
    bundle = bundles(window_seconds=3)  # longer than the videos
    width = ShownPipeline(bundle).config.frame_dim
    asked: list[int] = []

    def make(self: FeaturesOfShown, shown: list[Shown], background: np.ndarray, count: int, *_: object) -> np.ndarray:
        asked.append(count)
        return np.ones((count, width), np.float32)

    monkeypatch.setattr(FeaturesOfShown, "make", make)
    (tmp_path / "videos").mkdir()
    (tmp_path / "made").mkdir()
    for name in SOUNDS:
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(make_video().read_bytes())
        write_wav(tmp_path / "videos" / f"{name}.wav", tone(name, 2.4, 44100), 44100)
        write_wav(tmp_path / "made" / f"{name}.wav", tone(name, 2.4, 44100, 1.05), 44100)
        concepts = [[0, 2.4, {name: 1.0}]] if name != "bell" else []
        (tmp_path / "videos" / f"{name}.json").write_text(json.dumps({"events": [], "concepts": concepts}))
    options = ["--generated", str(tmp_path / "made"), "--engines", str(bundle), "--steps", "2"]
    assert meaning.main([str(tmp_path / "videos"), *options, "--judge", *map(str, pools)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert len(asked) == 2 and result["judge"]["concepts"] == 3  # two of the videos show a concept
    figures = result["summary"]["systems"]["made"]
    assert figures["heard"]["spans"] == 2 and figures["heard"]["right"]["ratio"]["mean"] == 1
    assert figures["concepts"]["dog"]["n"] == 1 and figures["concepts"]["none"]["n"] == 1
    assert "made: concept right: generated 1.000" in printed
    # the judge hears the wrong word where a sound has it; the video of which nothing is known is left out
    for name, other in (("drum", "dog"), ("dog", "drum")):
        write_wav(tmp_path / "made" / f"{name}.wav", tone(other, 2.4, 44100, 1.05), 44100)
    assert meaning.main([str(tmp_path / "videos"), *options, "--words", "--judge", *map(str, pools)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = result["clips"]["made"]
    assert [(row["clip"], row["wrong_word"], row["hears_wrong"]) for row in rows] == [
        ("dog.mp4", "drum", 1),
        ("drum.mp4", "dog", 1),
    ]
    (measures,) = result["wishes"].values()
    assert set(measures["wrong word, heard"]) == {"with", "without", "difference"}
