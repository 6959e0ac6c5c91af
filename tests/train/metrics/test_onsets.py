"""The onset measures: they equal the numbers of the reference tool that defines them, and they pass sanity checks."""

import numpy as np
import pytest

from train.metrics.onsets import (
    RATE,
    average_precision,
    chance_f1,
    lift_of_onsets,
    onset_f1,
    onset_scores,
    onset_strength,
    pick_onsets,
)


def bursts(times: list[float], seed: int, seconds: float = 8.0) -> np.ndarray:
    """Decaying noise bursts over a quiet floor."""
    rng = np.random.Generator(np.random.Philox(seed))
    audio = 1e-4 * rng.standard_normal(int(seconds * RATE))
    for n, time in enumerate(times):
        begin = int(time * RATE)
        decay = np.exp(-np.arange(2400) / 400)
        audio[begin : begin + 2400] += (0.2 + 0.1 * (n % 4)) * decay * rng.standard_normal(2400)
    return audio.astype(np.float32)


TRUE = [0.5, 1.1, 1.9, 2.6, 3.7, 4.4, 5.2, 6.8]
MADE = [0.52, 1.3, 1.85, 2.75, 3.66, 5.28, 6.1, 7.2]
REFERENCE = [0.5, 0.2135416667, 8]  # F1, chance, onsets found in MADE
REFERENCE_R = [0.0133363160, -0.05]  # correlation of onset strengths at lag 0, and the best lag (s)


def test_agrees_with_the_reference() -> None:
    """f1, chance and the number of onsets equal those of the tool that scored other systems."""
    got = onset_scores(bursts(TRUE, 1), bursts(MADE, 2))
    assert [got["f1"], got["chance"], got["n"]] == pytest.approx(REFERENCE, abs=1e-6)
    assert got["lift"] == pytest.approx(got["f1"] - got["chance"])
    assert [got["onset_r"], got["lag"]] == pytest.approx(REFERENCE_R, abs=1e-6)


def test_finds_the_bursts() -> None:
    assert pick_onsets(onset_strength(bursts(TRUE, 1))) == pytest.approx(TRUE, abs=0.03)


def test_silence_has_no_onsets() -> None:
    assert len(pick_onsets(onset_strength(np.zeros(RATE, np.float32)))) == 0
    assert onset_scores(bursts(TRUE, 1), np.zeros(8 * RATE, np.float32))["f1"] == 0


def test_matching_is_one_to_one() -> None:
    reference = np.array([1.0, 1.05])
    assert onset_f1(reference, np.array([1.02])).recall == 0.5
    assert onset_f1(reference, reference).f1 == pytest.approx(1)
    assert onset_f1(reference, np.zeros(0)).f1 == 0
    assert onset_f1(np.array([1.0]), np.array([1.11])).f1 == 0


def test_perfect_timing_is_far_above_chance_and_random_timing_is_not() -> None:
    truth = np.array(TRUE)
    assert lift_of_onsets(truth, truth, 8.0)["lift"] > 0.6
    rng = np.random.default_rng(0)
    random = [lift_of_onsets(truth, np.sort(rng.uniform(0, 8, 8)), 8.0)["lift"] for _ in range(60)]
    assert np.mean(random) == pytest.approx(0, abs=0.05)
    assert 0 < chance_f1(truth, truth, 8.0) < 0.4


def test_average_precision_ranks_by_strength_and_counts_what_was_missed() -> None:
    reference, detected = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.02, 2.5, 3.05])
    assert average_precision(reference, detected, np.array([3.0, 1.0, 2.0])) == pytest.approx((1 + 1) / 4)
    assert average_precision(reference, detected, np.array([2.0, 3.0, 1.0])) == pytest.approx((1 / 2 + 2 / 3) / 4)
    assert average_precision(reference, reference, np.ones(4)) == 1
    assert average_precision(reference, np.zeros(0), np.zeros(0)) == 0


def test_a_shift_of_0_2_s_is_seen() -> None:
    truth = bursts(TRUE, 1)
    same, late = onset_scores(truth, truth), onset_scores(truth, np.roll(truth, RATE // 5))
    assert (same["f1"], same["ap"], same["lag"]) == (pytest.approx(1), 1, 0)
    assert same["onset_r"] == pytest.approx(1) and same["energy_r"] == pytest.approx(1)
    assert late["lag"] == pytest.approx(0.2)
    assert late["lift"] < 0.1 and late["ap"] < 0.3 and late["onset_r"] < 0.2 and late["energy_r"] < 0.5


def test_independent_sounds_score_about_nothing() -> None:
    rng = np.random.default_rng(3)
    pairs = [[bursts(sorted(rng.uniform(0.1, 7.7, 8)), 2 * k + side) for side in (0, 1)] for k in range(12)]
    scores = [onset_scores(*pair) for pair in pairs]
    for key in ("lift", "onset_r", "energy_r"):
        assert np.mean([s[key] for s in scores]) == pytest.approx(0, abs=0.12)
    assert np.mean([s["ap"] for s in scores]) < 0.35
