"""benchmarks.meaning: scores of known embeddings, halves, baselines, and the command on fake bundles and sounds.

The embedding is replaced by the mean spectrogram, so that no test needs the package of the real one.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks.common import halves
from benchmarks.meaning import __main__ as meaning
from benchmarks.meaning import recordings
from benchmarks.meaning.measure import Measured, score_system, swapped_lifts
from benchmarks.meaning.systems import Track
from benchmarks.meaning.tables import summary
from runtime import Words
from runtime.audio import write_wav
from runtime.errors import OptionError
from tests.conftest import Bundles, MakeVideo
from train.metrics.inputs import Sound
from train.metrics.semantic import spectrogram
from train.synthetic.concepts.features import ClassifierHead
from train.synthetic.concepts.table import CLASSES, read_table
from train.synthetic.recordings import PoolError

RATE = 44100
FREQUENCIES = {"low": 150, "middle": 900, "high": 5000}


def tone(frequency: float, seconds: float = 2.4) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture
def folder(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Three videos whose true sounds are tones."""
    out = tmp_path / "videos"
    out.mkdir()
    for name, frequency in FREQUENCIES.items():
        (out / f"{name}.mp4").write_bytes(make_video().read_bytes())
        write_wav(out / f"{name}.wav", tone(frequency), RATE)
    return out


@pytest.fixture(autouse=True)
def simple_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning.AiSFX, "load", lambda: None)
    monkeypatch.setattr(meaning, "embed", lambda _, sound: spectrogram(sound.at(RATE)).mean(0))


# ---------------------------------------------------------------- scores
def measured(systems: dict[str, list[list[list[np.ndarray]]]], truth: np.ndarray) -> Measured:
    tracks = [Track(Path(f"{name}.mp4"), Sound(np.zeros(10, np.float32), RATE)) for name in "abcd"]
    return Measured(tracks, list(truth), systems)


def test_scores_are_means_over_seeds_and_keep_all_takes() -> None:
    truth = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    right = [[[x, -x], [x, x]] for x in truth]  # SCAV's choice is right in both seeds
    wrong = [[[-x]] for x in truth]
    found = measured({"right": right, "wrong": wrong}, truth)
    rows = {name: score_system(found, name, {"a.mp4": ["dog", "cat"]}) for name in ("right", "wrong")}
    assert [row["lift"] for row in rows["right"]] == pytest.approx([4 / 3] * 4)
    assert [row["rank"] for row in rows["right"]] == [1] * 4 and [row["rank"] for row in rows["wrong"]] == [4] * 4
    assert rows["right"][1]["takes"] == [pytest.approx([4 / 3, -4 / 3]), pytest.approx([4 / 3, 4 / 3])]
    values = summary(rows, {"other": swapped_lifts(found.truth)})
    figures = values["systems"]["right"]
    assert figures["rank_chance"] == 2.5 and list(figures["concepts"]) == ["cat", "dog", "none"]
    assert [figures["concepts"][c]["n"] for c in ("cat", "dog", "none")] == [1, 1, 3]
    assert figures["candidates"]["difference"]["mean"] == pytest.approx(2 / 3)  # 4/3 against a mean of 2/3
    assert values["systems"]["wrong"]["candidates"] is None
    assert values["pairs"]["right - wrong"]["mean"] == pytest.approx(8 / 3)
    assert values["floors"]["other"]["mean"] == pytest.approx(np.mean([0, -4 / 3, 0]))


# ---------------------------------------------------------------- halves
def test_halves_divide_the_development_clips_of_several_folders(tmp_path: Path) -> None:
    for k in range(halves.CLIPS):
        file = tmp_path / "ab"[k % 2] / f"clip{k}.mp4"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    folders = [tmp_path / "a", tmp_path / "b"]
    choose, report, every = (halves.find_half(folders, half) for half in ("choose", "report", "all"))
    assert len(choose) == halves.CHOOSING and sorted(choose + report) == sorted(every) and not set(choose) & set(report)
    digests = {p: hashlib.sha256(p.name.encode()).hexdigest() for p in every}
    assert max(digests[p] for p in choose) < min(digests[p] for p in report)
    with pytest.raises(OptionError, match="63 development clips; the folders have 32 videos"):
        halves.find_half(folders[:1], "choose")
    (tmp_path / "b" / "clip0.mkv").touch()
    with pytest.raises(OptionError, match="clip0"):
        halves.find_half(folders)


# ---------------------------------------------------------------- random recordings
def test_random_recordings_are_of_the_most_probable_concept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier sees the first class of `cat`, and less of a concept that has no recordings."""
    table = {concept.name: concept for concept in read_table()}
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, frequency in (("meow", 700), ("bark", 300)):
        write_wav(pool / f"{name}.wav", tone(frequency, 0.5), RATE)
    labels = {"meow": table["cat"].labels[0], "bark": table["dog"].labels[0]}
    rows = [f"{name}.wav,{label}" for name, label in labels.items()]
    (pool / "sounds.csv").write_text("\n".join(["file,label", *rows]))
    rows_of_head = np.zeros((CLASSES, 2), np.float32)
    rows_of_head[table["cat"].classes[0], 0] = rows_of_head[table["dog"].classes[0], 1] = 1
    head = ClassifierHead(rows_of_head, np.zeros(CLASSES, np.float32))
    monkeypatch.setattr(recordings, "pooled_features", lambda path, encoder: np.array([[1, 0.2], [1, 0.1]], np.float32))
    system = recordings.RandomRecordings([pool], None, head)
    concept, probability = system.concept(folder / "low.mp4")
    assert concept.name == "cat" and probability > 0.9
    sounds = system(Track(folder / "low.mp4", Sound(tone(150), RATE)))
    assert len(sounds) == recordings.DRAWS and all(len(s.samples) == round(2.4 * RATE) for (s,) in sounds)
    spectrum = np.abs(np.fft.rfft(sounds[0][0].samples[: RATE // 2]))
    assert np.argmax(spectrum) == 350  # 700 Hz: a bin is 2 Hz; the bark is not used
    halved = SimpleNamespace(encode=lambda audio: audio / 4, decode=lambda codes: np.pad(codes, (0, 99)))
    coded = system.through(halved)(Track(folder / "low.mp4", Sound(tone(150), RATE)))
    for (one,), (other,) in zip(sounds, coded, strict=True):  # the same draws, not new ones
        assert np.allclose(one.samples / 8, other.samples)
    (pool / "sounds.csv").write_text("file,label\nmeow.wav,unknown\n")
    with pytest.raises(PoolError, match="no recordings of any concept"):
        recordings.RandomRecordings([pool], None, head)


# ---------------------------------------------------------------- the command
@pytest.mark.parametrize("options", [[], ["--recordings", "pool", "--generated", "sounds"]])
def test_codecs_need_recordings_and_a_bundle(
    folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert meaning.main([str(folder), "--codecs", *options]) == 1
    assert "--codecs needs --recordings and a bundle" in capsys.readouterr().err


def test_command_scores_bundles_and_generated_sounds(
    bundles: Bundles, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (folder / "mute.mp4").write_bytes((folder / "low.mp4").read_bytes())  # no sound to compare with
    for system, shift in (("right", 0), ("swapped", 1)):
        (tmp_path / system).mkdir()
        for name, other in zip(FREQUENCIES, [*FREQUENCIES][shift:] + [*FREQUENCIES][:shift], strict=True):
            write_wav(tmp_path / system / f"{name}.wav", tone(1.1 * FREQUENCIES[other]), RATE)
    generated = [f"--generated={tmp_path / name}" for name in ("right", "swapped")]
    choice = ["--candidates", "2", "--compare-candidates", "--steps", "2", "--seeds", "2"]
    out, plots = tmp_path / "out.json", tmp_path / "plots"
    options = ["--engines", str(bundles()), *choice, *generated, "--out", str(out), "--plots", str(plots)]
    assert meaning.main([str(folder), *options]) == 0
    printed = capsys.readouterr()
    values = json.loads(out.read_text())
    assert values == json.loads(printed.out.splitlines()[-1]) and values["benchmark"] == "meaning"
    assert values["skipped"] == 1 and "skipped mute.mp4" in printed.err and values["half"] == "all"
    bundle, right, swapped = values["summary"]["systems"].values()
    assert right["lift"]["mean"] > 0.5 > 0 > swapped["lift"]["mean"] and right["rank"]["mean"] == 1
    assert bundle["candidates"]["takes"] == 2 and right["candidates"] is None
    assert np.shape(next(iter(values["clips"].values()))[0]["takes"]) == (2, 2)
    assert values["summary"]["pairs"]["right - swapped"]["n"] == 3
    assert set(values["summary"]["floors"]) == {"noise", "other"}
    assert "paired lift, right - swapped" in printed.out
    sheets = {f"contact-sheet-{name}.png" for name in values["summary"]["systems"]}
    assert {p.name for p in plots.iterdir()} == {*(f"{name}.png" for name in FREQUENCIES), *sheets}


def test_command_measures_whether_wishes_are_followed(
    bundles: Bundles, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two videos show a dog, one a cat; of a fourth nothing is known. The fake pipeline gives a tone for each word."""
    shown = {"low": {"dog": 1.0}, "middle": {"dog": 1.0}, "high": {"big_cat": 1.0}}
    for name, concepts in shown.items():
        (folder / f"{name}.json").write_text(json.dumps({"concepts": [[0, 99, concepts]]}))
    for suffix in ("mp4", "wav"):
        (folder / f"unknown.{suffix}").write_bytes((folder / f"low.{suffix}").read_bytes())
    asked = []
    real = meaning.ShownPipeline.generate

    def generate(pipeline: object, video: Path, sampling: object, words: Words | None = None) -> list:
        (take,) = real(pipeline, video, sampling, words=words)
        asked.append(take.report.words)
        heard = (words.texts[0].partition(":")[0] if words else "") or "none"
        return [replace(take, audio=tone({"dog": 160, "big_cat": 5000, "none": 900}[heard])[: len(take.audio)])]

    monkeypatch.setattr(meaning.ShownPipeline, "generate", generate)
    assert meaning.main([str(folder), "--engines", str(bundles()), "--steps", "1", "--words"]) == 0
    printed = capsys.readouterr()
    assert "skipped unknown.mp4: nothing says which concepts" in printed.err
    values = json.loads(printed.out.splitlines()[-1])
    none = next(iter(values["clips"].values()))
    assert [row["wrong_word"] for row in none] == ["dog", "big_cat", "big_cat"]  # high, low, middle
    assert [a is None for a in asked] == [True, False, False] * 3
    assert asked[1]["prompts"] == [{"prompt": "big_cat:1.0000", "weight": 1, "begin": 0, "end": 2.4}]
    assert asked[2]["prompts"] == [{"prompt": "dog", "weight": 1, "begin": None, "end": None}]
    (measures,) = values["wishes"].values()
    assert measures["right word, lift"]["difference"]["mean"] > 0 > measures["wrong word, lift"]["difference"]["mean"]
    assert measures["wrong word, towards it"]["difference"]["mean"] > 0.5 and "wrong word, heard" not in measures
    assert "wrong word, towards it: with" in printed.out


def test_videos_without_a_generated_sound_are_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some").mkdir()
    for name in ("low", "high"):
        write_wav(tmp_path / "some" / f"{name}.wav", tone(FREQUENCIES[name]), RATE)
    assert meaning.main([str(folder), "--generated", f"mine={tmp_path / 'some'}"]) == 0
    printed = capsys.readouterr()
    values = json.loads(printed.out.splitlines()[-1])
    assert [row["clip"] for row in values["clips"]["mine"]] == ["high.mp4", "low.mp4"] and values["steps_in"] == {}
    assert "skipped middle.mp4: no sound of middle in" in printed.err
    (tmp_path / "some" / "low.wav").unlink()
    assert meaning.main([str(folder), "--generated", str(tmp_path / "some")]) == 1
    assert "error: 1 of 3 videos can be used; 2 or more are needed" in capsys.readouterr().err


def test_errors_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        (["--seeds", "0"], "--seeds is 0"),
        (["--half", "report"], "--half report divides the 63 development clips"),
        (["--generated", f"noise={folder}"], "the name noise is taken"),
        (["--compare-candidates"], "needs --candidates 2 or more"),
    ):
        assert meaning.main([str(folder), *options]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.setattr("train.metrics.aisfx.PACKAGE", "no_such_package")
    assert meaning.main([str(folder)]) == 1
    assert "install it with: pip install --no-deps aisfx==0.1.2" in capsys.readouterr().err
