"""benchmarks.sync and benchmarks.scenes: measures on simple tracks, and the commands on fake bundles."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks import sync
from benchmarks.common.pairing import compare_candidates, paired_differences
from benchmarks.common.true_track import peak_rms
from benchmarks.scenes import __main__ as scenes
from benchmarks.scenes.materials import accuracy, features, fit, window_after
from benchmarks.scenes.measure import recognise_materials
from benchmarks.scenes.scene_video import read_scene_video
from benchmarks.scenes.tables import ratio_of_sums, summarise_materials
from runtime.audio import write_wav
from tests.conftest import Bundles, MakeVideo
from train.evaluate.bootstrap import interval, summarise
from train.metrics.onsets import RATE

TIMES = (0.4, 1.0, 1.7)


def track(times: tuple[float, ...], rate: int, seconds: float = 2.4) -> np.ndarray:
    """Decaying noise bursts over silence."""
    audio, noise = np.zeros(round(seconds * rate), np.float32), np.random.default_rng(0).standard_normal(rate // 8)
    for time in times:
        begin = round(time * rate)
        audio[begin : begin + len(noise)] += 0.3 * noise * np.exp(-np.arange(len(noise)) / (0.02 * rate))
    return audio


@pytest.fixture
def folder(make_video: MakeVideo, tmp_path: Path) -> Path:
    """A clip with three impacts on wood, and a silent one."""
    out = tmp_path / "clips"
    out.mkdir()
    for name, times in (("hits", TIMES), ("quiet", ())):
        (out / f"{name}.mp4").write_bytes(make_video().read_bytes())
        write_wav(out / f"{name}.wav", track(times, 44100), 44100)
        events = [{"time": t, "kind": "hammer", "material": "wood", "end": 0.0, "strength": 1.0} for t in times]
        (out / f"{name}.json").write_text(json.dumps({"events": events, "silent": not times}))
    return out


# ---------------------------------------------------------------- measures
def test_interval_covers_the_mean_and_shrinks() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.normal(3, 1, 20), rng.normal(3, 1, 2000)
    low, high = interval(many)
    assert low < many.mean() < high and high - low == pytest.approx(4 / np.sqrt(2000), rel=0.1)
    assert interval(few)[1] - interval(few)[0] > 5 * (high - low)
    assert summarise([]) is None
    assert summarise([1, 1, 10], median=True)["median"] == 1  # type: ignore[index]


def test_peak_rms_is_of_the_loudest_50_ms() -> None:
    audio = np.zeros(RATE, np.float32)
    assert peak_rms(audio, RATE) < -150
    audio[4000 : 4000 + RATE // 20] = 0.1
    assert peak_rms(audio, RATE) == pytest.approx(-20, abs=0.01)


def test_clip_is_read(folder: Path) -> None:
    hits, quiet = read_scene_video(folder / "hits.mp4"), read_scene_video(folder / "quiet.mp4")
    assert hits.kind == "hammer" and hits.scored and hits.track.onsets == pytest.approx(TIMES, abs=0.03)
    assert quiet.kind == "silent" and not quiet.scored
    assert hits.impact_at(1.03, 0.05) is hits.events[1] and hits.impact_at(1.06, 0.05) is None


def tone(frequency: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(RATE) / RATE
    return (np.sin(2 * np.pi * frequency * rng.uniform(0.9, 1.1) * t) * np.exp(-t / 0.1)).astype(np.float32)


def test_classifier_tells_what_differs_and_is_only_asked_at_impacts(folder: Path) -> None:
    examples = [(tone(f, n), name) for n in range(12) for f, name in ((300, "drum"), (3000, "wood"))]
    classifier = fit(np.stack([features(window_after(s, 0.02)) for s, _ in examples]), [name for _, name in examples])
    assert classifier([window_after(tone(300, 99), 0.02), window_after(tone(3000, 98), 0.02)]) == ["drum", "wood"]
    sound = np.zeros(3 * RATE, np.float32)
    sound[round(1.0 * RATE) :][:RATE] += tone(3000, 50)
    got = recognise_materials(read_scene_video(folder / "hits.mp4"), sound, np.array([0.7, 1.01]), classifier)
    assert got == [{"kind": "hammer", "truth": "wood", "guess": "wood"}]


def test_a_window_ends_at_the_next_onset() -> None:
    sound = np.ones(2 * RATE, np.float32)
    assert window_after(sound, 0.5).sum() > window_after(sound, 0.5, until=0.7).sum()
    assert not window_after(sound, 0.5, until=0.7)[round(0.2 * RATE) :].any()


def test_summaries() -> None:
    assert accuracy(["a", "b", "b"], ["a", "a", "b"])["accuracy"] == pytest.approx(2 / 3)
    assert accuracy(["a", "b", "b"], ["a", "a", "b"])["chance_most_frequent"] == pytest.approx(2 / 3)
    assert ratio_of_sums([(0.4, 0.8), (0.2, 0.4)])["mean"] == pytest.approx(0.5)  # type: ignore[index]
    assert summarise_materials([{"heard": []}, {}], "heard") is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_candidates(seeds: int) -> None:
    """SCAV's choice comes first. A second seed with scores 0.1 higher moves all values by 0.05, except differences."""
    scores = [[[0.4, 0.2, 0.0], [0.5, 0.3, 0.1]][:seeds], [[0.2, 0.5, 0.2], [0.3, 0.6, 0.3]][:seeds]]
    found = compare_candidates([scores[0][0], scores[1][0]] if seeds == 1 else scores)
    assert found is not None and found["takes"] == 3
    more = 0.05 * (seeds - 1)
    expected = {"chosen": 0.3 + more, "mean": 0.25 + more, "best_possible": 0.45 + more}
    for name, value in (expected | {"difference": 0.05, "to_best": -0.15}).items():
        assert found[name]["mean"] == pytest.approx(value) and found[name]["n"] == 2, name
    assert compare_candidates([]) is None


def test_differences_are_of_clips_that_both_have() -> None:
    rows = {"a": [{"f1": 0.5}, {}, {"f1": 0.3}], "b": [{"f1": 0.4}, {"f1": 1.0}, {"f1": 0.4}], "c": [{}, {}, {}]}
    found = paired_differences(rows, "f1")
    assert list(found) == ["a - b", "a - c", "b - c"] and found["a - c"] is found["b - c"] is None
    assert found["a - b"]["mean"] == pytest.approx(0) and found["a - b"]["n"] == 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("losses", "kept", "certain"),
    [([0.0, 0.008], True, True), ([0.0, 0.018], True, False), ([0.0, 0.03], False, False), ([0.02, 0.03], False, True)],
)
def test_a_bundle_may_lose_a_hundredth_of_lift(losses: list[float], kept: bool, certain: bool) -> None:
    rows = {name: [{"lift": 0.2 - x, "baseline_lift": 0.1} for x in lost] for name, lost in
            (("fp16", [0.0] * 20), ("int8", losses * 10))}  # fmt: skip
    (pair,) = sync.summary(rows)["pairs"].values()
    assert pair["lift"]["mean"] == pytest.approx(np.mean(losses)) and (pair["kept"], pair["certain"]) == (kept, certain)


# ---------------------------------------------------------------- commands
def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_sync_command(bundles: Bundles, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plots = tmp_path / "plots"
    (folder / "mute.mp4").write_bytes((folder / "hits.mp4").read_bytes())  # no sound to compare with
    options = ["--engines", str(bundles()), "--seeds", "2", "--steps", "2", "--plots", str(plots)]
    assert sync.main([str(folder), *options]) == 0
    result = last_line(capsys)
    (rows,) = result["clips"].values()  # type: ignore[attr-defined]
    assert result["benchmark"] == "sync" and result["skipped"] == 1 and [c["onsets"] for c in rows] == [3, 0]
    (figures,) = result["summary"]["bundles"].values()  # type: ignore[index]
    assert figures["lift"]["mean"] == pytest.approx(np.mean([row["lift"] for row in rows]))
    assert figures["candidates"] is None and result["summary"]["pairs"] == {}  # type: ignore[index]
    assert {p.name for p in plots.iterdir()} == {"hits.png", "quiet.png", "contact-sheet.png"}


def test_sync_compares_bundles_and_candidates(
    bundles: Bundles, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    a, b = bundles(), bundles("adaln_a")
    options = ["--engines", str(a), "--engines", str(b), "--candidates", "3", "--compare-candidates", "--seeds", "2"]
    plots = tmp_path / "plots"
    assert sync.main([str(folder), *options, "--steps", "2", "--plots", str(plots)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    rows = result["clips"]
    assert list(rows) == [a.name, b.name] and {p.name for p in plots.iterdir()} == {
        *(f"{video}-{name}.png" for video in ("hits", "quiet") for name in rows),
        "contact-sheet.png",
    }
    for name, own in rows.items():
        for row in own:
            assert np.shape(row["takes"]) == (2, 3) and row["lift"] == pytest.approx(np.mean(row["takes"], axis=0)[0])
        found = result["summary"]["bundles"][name]["candidates"]
        assert found["takes"] == 3 and found["to_best"]["mean"] <= 0 and found["chosen"]["n"] == 2
    (pair,) = result["summary"]["pairs"].values()
    lost = [x["lift"] - y["lift"] for x, y in zip(*rows.values(), strict=True)]
    assert pair["lift"]["mean"] == pytest.approx(np.mean(lost)) and pair["kept"] == (np.mean(lost) <= 0.01)
    assert f"paired lift, {a.name} - {b.name}: " in printed and "choice - best of 3" in printed


def test_one_bundle_in_two_precisions(two_steps: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both precisions have the same file, so there is no difference. The result names the file of each."""
    options = ["--engines", str(two_steps), "--backend", "cpu", "--precision", "fp32", "--precision", "int8"]
    names, steps = [f"{two_steps.name}-{p}" for p in ("fp32", "int8")], ["step.onnx", "step.int8.onnx"]
    for command, extra in ((sync, ["--seeds", "1"]), (scenes, [])):
        assert command.main([str(folder), *options, *extra, "--steps", "2"]) == 0
        result = last_line(capsys)
        assert result["steps_in"] == dict(zip(names, steps, strict=True))
        (pair,) = result["summary"]["pairs"].items()  # type: ignore[index]
        assert pair[0] == " - ".join(names) and (pair[1].get("lift") or pair[1])["mean"] == 0
    assert sync.main([str(folder), *options, "--precision", "int8"]) == 1
    assert "--precision has a value twice" in capsys.readouterr().err


def test_scenes_command(bundles: Bundles, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (folder / "foreign.mp4").write_bytes(b"no video")
    engines = ["--engines", str(bundles()), "--engines", str(bundles("adaln_a"))]
    choice = ["--candidates", "3", "--compare-candidates", "--steps", "2"]
    out, plots = tmp_path / "scenes.json", tmp_path / "plots"
    assert scenes.main([str(folder), *engines, *choice, "--out", str(out), "--plots", str(plots)]) == 0
    result = last_line(capsys)
    assert result == json.loads(out.read_text())
    summary = result["summary"]
    assert result["skipped"] == 1
    assert len(summary["bundles"]) == 2 and len(summary["pairs"]) == 1  # type: ignore[index]
    for values in summary["bundles"].values():  # type: ignore[index]
        assert values["silent"]["n"] == 1 and values["f1"]["n"] == 1
        assert values["candidates"]["takes"] == 3
        assert values["silent_codec"]["mean"] == 1  # the copy of silence is silent
    assert len(list(plots.iterdir())) == 5


def test_errors_are_one_line(
    bundles: Bundles, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = ["--engines", str(bundles())]
    (tmp_path / "empty").mkdir()
    both = (scenes, sync)
    for commands, arguments, words in (
        (both, [str(tmp_path / "empty"), *engines], "no videos in"),
        (both, [str(folder), *engines, "--compare-candidates"], "needs --candidates 2 or more"),
        (both, [str(folder), *engines, *engines], "the same name"),
        ((scenes,), [str(folder), *engines, "--limit", "0"], "--limit is 0"),
        (both, [str(tmp_path / "none"), *engines], "none is not a folder"),
    ):
        for command in commands:
            assert command.main(arguments) == 1
            error = capsys.readouterr().err
            assert error.startswith("error: ") and words in error and error.count("\n") == 1
    for name in ("hits", "quiet"):
        (folder / f"{name}.json").write_text("{")
    assert scenes.main([str(folder), *engines]) == 1
    skipped, other, error = capsys.readouterr().err.splitlines()
    assert skipped.startswith("skipped hits.mp4: ") and "hits.json cannot be used" in skipped and "quiet" in other
    assert error.startswith("error: none of the 2 clips")
    assert sync.main([str(folder), *engines, "--seeds", "0"]) == 1
    assert "--seeds is 0" in capsys.readouterr().err
