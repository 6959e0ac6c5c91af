"""Bootstrap intervals: over clips, and over listeners and samples together."""

import numpy as np
import pytest
from numpy.typing import NDArray

from train.evaluate import bootstrap
from train.evaluate.bootstrap import crossed_interval, interval

LISTENERS, SAMPLES = 8, 12
WHO, WHAT = (a.ravel() for a in np.indices((LISTENERS, SAMPLES)))


def panel(rng: np.random.Generator) -> NDArray[np.float64]:
    """Ratings around 0 that depend on the listener, the sample, and chance."""
    return rng.normal(0, 1, LISTENERS)[WHO] + rng.normal(0, 0.7, SAMPLES)[WHAT] + rng.normal(0, 0.5, len(WHO))


def test_crossed_intervals_hold_the_truth_and_those_over_ratings_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BOOTSTRAPS", 500)
    rng, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(150):
        values = panel(rng)
        for k, (low, high) in enumerate((crossed_interval(values, WHO, WHAT), interval(values))):
            held[k] += low <= 0 <= high
    assert held[0] / 150 > 0.88  # 95 % are wanted; eight listeners are few
    assert held[1] / 150 < 0.6


def test_one_listener_varies_over_samples_only() -> None:
    values = np.random.default_rng(0).normal(3, 1, 40)
    alone = crossed_interval(values, ["ann"] * 40, range(40))
    assert alone == pytest.approx(interval(values), abs=0.03)
    assert crossed_interval(values, range(40), ["x"] * 40) == pytest.approx(alone, abs=0.03)


def test_equal_ratings_and_holes() -> None:
    """Half of the table is missing. Bootstrap samples without any value are left out; nothing else changes."""
    assert crossed_interval([4.0, 4.0], ["ann", "bob"], ["x", "y"]) == [4.0, 4.0]
    low, high = crossed_interval([1.0, 5.0, 3.0], ["ann", "bob", "cem"], ["x", "y", "x"])
    assert 1.0 <= low < 3.0 < high <= 5.0


def test_names_may_be_texts_in_any_order() -> None:
    values, names = [1.0, 2.0, 3.0, 5.0], ["b", "a", "b", "a"]
    numbers = crossed_interval(values, [1, 0, 1, 0], [0, 0, 1, 1])
    assert crossed_interval(values, names, ["x", "x", "y", "y"]) == numbers
