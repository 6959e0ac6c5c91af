"""What benchmarks.sync takes off and reports apart: the lift of wrong pairings, and videos of impacts."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks import sync
from benchmarks.common.impacts import is_impact, sharp_share
from benchmarks.common.wrong_pairings import lift_of_strengths, wrong_lifts
from runtime.audio import write_wav
from tests.conftest import Bundles, MakeVideo
from train.metrics.onsets import RATE, onset_scores, onset_strength, pick_onsets

TIMES = (0.4, 1.0, 1.7, 2.9)


def bursts(times: tuple[float, ...], rate: int = RATE, decay: float = 0.02, attack: float = 0.0) -> np.ndarray:
    """4 s with noise bursts over a quiet background; they rise within `attack` s and fall with `decay`."""
    noise = np.random.default_rng(0).standard_normal(4 * rate)
    t = np.arange(4 * rate) / rate
    level = np.full(4 * rate, 1e-3)
    for time in times:
        since = np.clip(t - time, 0, None)
        rise = np.minimum(since / attack, 1) if attack else t >= time
        level += 0.2 * rise * np.exp(-np.maximum(since - attack, 0) / decay)
    return (level * noise).astype(np.float32)


# ---------------------------------------------------------------- wrong pairings
def test_a_pair_scores_as_everywhere_else() -> None:
    true, made = bursts(TIMES), bursts(tuple(t + 0.05 for t in TIMES))[: 3 * RATE]
    assert lift_of_strengths(onset_strength(true), onset_strength(made)) == onset_scores(true, made)["lift"] > 0.3


def test_wrong_lifts_are_means_over_the_other_videos_and_all_sounds() -> None:
    true = [onset_strength(bursts(times)) for times in (TIMES, (0.7, 2.2), (1.3, 3.3))]
    made = [[true[0]], [true[0], true[2]], [true[1]]]
    found = wrong_lifts(true, made)
    assert found[0] == pytest.approx(np.mean([lift_of_strengths(true[j], true[0]) for j in (1, 2)]))
    pairs = [(0, 0), (0, 2), (2, 0), (2, 2)]  # true sounds of the other videos, and this video's two sounds
    assert found[1] == pytest.approx(np.mean([lift_of_strengths(true[j], true[k]) for j, k in pairs]))


# ---------------------------------------------------------------- impacts
@pytest.mark.parametrize(
    ("sound", "impact"),
    [
        (bursts(TIMES), True),
        (bursts(TIMES, decay=0.5), False),  # rings on: less than 12 dB within 200 ms
        (bursts(TIMES, attack=0.15), False),  # rises slowly
        (bursts(TIMES) + 0.1 * bursts((), decay=1) / 1e-3, False),  # hardly above the background
        (bursts(TIMES[:1]), False),  # one onset is not enough
        (np.zeros(RATE, np.float32), False),
    ],
)
def test_impacts_rise_fast_and_fall_soon(sound: np.ndarray, impact: bool) -> None:
    onsets = pick_onsets(onset_strength(sound))
    assert is_impact(sound, onsets) == impact
    assert is_impact(0.01 * sound, onsets) == impact  # the level does not matter


def test_the_share_counts_every_onset() -> None:
    sound = bursts(TIMES)
    assert sharp_share(sound, np.array([*TIMES, 2.3, 2.5])) == pytest.approx(4 / 6)
    assert sharp_share(sound, np.array([9.0, 9.5])) == 0  # behind the end


# ---------------------------------------------------------------- the command
def test_sync_reports_wrong_pairings_and_impacts_of_two_folders(
    bundles: Bundles, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = {"a/hits": bursts(TIMES, 44100), "a/slow": bursts(TIMES, 44100, attack=0.15), "b/quiet": np.zeros(99999)}
    for name, sound in sounds.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.mp4").write_bytes(make_video().read_bytes())
        write_wav(tmp_path / f"{name}.wav", sound.astype(np.float32), 44100)
    options = ["--engines", str(bundles()), "--engines", str(bundles("adaln_a")), "--seeds", "1", "--steps", "2"]
    assert sync.main([str(tmp_path / "a"), str(tmp_path / "b"), *options]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    for name, rows in result["clips"].items():
        assert [row["impact"] for row in rows] == [True, False, False] and result["half"] == "all"
        figures = result["summary"]["bundles"][name]
        differences = [row["lift"] - row["wrong_lift"] for row in rows]
        assert figures["above_wrong"]["mean"] == pytest.approx(np.mean(differences))
        assert figures["impacts"]["above_wrong"]["mean"] == pytest.approx(differences[0])
        assert (figures["impacts"]["lift"]["n"], figures["others"]["lift"]["n"]) == (1, 2)
    (pair,) = result["summary"]["pairs"].values()
    assert pair["impacts"]["n"] == 1 and pair["lift"]["n"] == 3
    assert "above_wrong impacts" in printed
