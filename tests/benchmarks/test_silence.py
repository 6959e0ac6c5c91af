"""benchmarks.silence: areas and thresholds of known scores, the choice, and the command on a fake bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks import silence
from benchmarks.silence import Frames, auc, choose, fit, judge, threshold_for
from runtime.audio import write_wav
from tests.conftest import Bundles, MakeVideo


def frames(name: str, n: int = 400, seed: int = 0) -> Frames:
    """Half of the frames are silent: there motion is lower, confidence higher, and the level says nothing."""
    rng = np.random.default_rng(seed)
    sounds = np.arange(n) >= n // 2
    values = [-3 - sounds + 0.3 * rng.standard_normal(n), -3 + sounds + 0.3 * rng.standard_normal(n)]
    return Frames(name, *values, rng.standard_normal(n), np.where(sounds, -20.0, -90.0))


def test_the_area_is_the_share_of_right_pairs() -> None:
    rng = np.random.default_rng(0)
    silent, sounding = rng.integers(0, 9, 50).astype(float), rng.integers(3, 12, 70).astype(float)
    pairs = np.mean([(a < b) + (a == b) / 2 for a in silent for b in sounding])
    assert auc(silent, sounding) == pytest.approx(pairs) and auc(sounding, silent) == pytest.approx(1 - pairs)


def test_the_threshold_silences_at_most_the_share() -> None:
    sounding = np.random.default_rng(0).standard_normal(999)
    limit = threshold_for(sounding, 0.05)
    assert np.mean(sounding < limit) <= 0.05 < np.mean(sounding <= limit)
    assert threshold_for(np.array([2.0, 1.0]), 0.05) == 1.0


def test_the_regression_finds_the_direction() -> None:
    x = np.random.default_rng(0).standard_normal((2000, 2)) * [1, 10]
    weights = fit(x, x @ [3, -0.1] + np.random.default_rng(1).logistic(size=2000) > 0)
    assert weights[0] / weights[1] == pytest.approx(-30, rel=0.2)


def test_both_together_are_chosen_and_judged() -> None:
    chosen = choose([frames("a")])
    assert chosen["confidence"] < 0 < chosen["motion"] and max(map(abs, list(chosen.values())[:2])) == 1
    rows = judge([frames("b", seed=1)], [frames("a")], chosen)
    assert rows["auto"]["auc"] > max(rows["motion"]["auc"], 1 - rows["confidence"]["auc"]) > 0.95
    assert rows["level"]["auc"] == pytest.approx(0.5, abs=0.1)
    assert rows["auto"]["found"] > 0.9 and rows["auto"]["false"] < 0.1


def test_the_command(
    bundles: Bundles, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = np.concatenate([np.full(22050, 0.3, np.float32), np.zeros(48510, np.float32)])
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(make_video(40).read_bytes())
        write_wav(tmp_path / f"{name}.wav", half, 44100)
    (tmp_path / "mute.mp4").write_bytes(make_video(40).read_bytes())
    options = ["--engines", str(bundles()), "--backend", "cpu", "--steps", "2", "--out", str(tmp_path / "out.json")]
    assert silence.main([str(tmp_path), *options]) == 0
    printed = capsys.readouterr()
    values = json.loads((tmp_path / "out.json").read_text())
    assert values == json.loads(printed.out.splitlines()[-1]) and "skipped mute.mp4" in printed.err
    assert set(values["gates"]) == set(silence.KINDS) and sum(values["clips"].values()) == 4
    assert f"THRESHOLD = {values['chosen']['threshold']}" in printed.out
    assert f"the default is {values['default']}" in printed.out
    (tmp_path / "one").mkdir()
    for suffix in ("mp4", "wav"):
        (tmp_path / f"a.{suffix}").rename(tmp_path / "one" / f"a.{suffix}")
    assert silence.main([str(tmp_path / "one"), *options]) == 1
    assert "half needs silent and sounding frames; give more videos" in capsys.readouterr().err
