"""Bootstrap 95 % confidence intervals of means and medians, and their form in tables."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BOOTSTRAPS = 10_000
BATCH = 500  # bootstrap samples drawn at once


def interval(values: ArrayLike, median: bool = False) -> list[float]:
    """Bootstrap 95 % interval [low, high] of the mean (or the median) of values [n]."""
    data, rng = np.asarray(values, np.float64), np.random.default_rng(0)
    statistic = np.median if median else np.mean
    draws = [data[rng.integers(0, len(data), (BATCH, len(data)))] for _ in range(BOOTSTRAPS // BATCH)]
    results = np.concatenate([statistic(draw, axis=1) for draw in draws])
    return [float(np.quantile(results, q)) for q in (0.025, 0.975)]


def crossed_interval(values: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> list[float]:
    """Bootstrap 95 % interval of the mean of values [n] that depend on two factors, such as listener and sample.

    `rows` and `columns` [n] name each value's listener and sample. Both are resampled independently. A value is
    weighted by the product of the two counts (Owen 2007, "The pigeonhole bootstrap"; the interval tends to be too wide
    rather than too narrow). A factor with only one name does not vary.
    """
    data, rng = np.asarray(values, np.float64), np.random.default_rng(0)
    sides = [np.unique(np.asarray(side), return_inverse=True)[1] for side in (rows, columns)]
    means = []
    for _ in range(BOOTSTRAPS // BATCH):
        weights = np.ones((BATCH, len(data)))
        for side in sides:
            count = side.max() + 1
            weights *= rng.multinomial(count, np.full(count, 1 / count), BATCH)[:, side]
        total = weights.sum(axis=1)
        known = total > 0  # A sample can miss all values if the table is incomplete.
        means.append((weights @ data)[known] / total[known])
    return [float(np.quantile(np.concatenate(means), q)) for q in (0.025, 0.975)]


def summarise(values: ArrayLike, median: bool = False) -> dict[str, Any] | None:
    """{"mean" or "median", "interval", "n"} of finite numbers; None if there are none."""
    data = np.asarray(values, np.float64)
    if not len(data):
        return None
    name, value = ("median", np.median(data)) if median else ("mean", np.mean(data))
    return {name: float(value), "interval": interval(data, median), "n": len(data)}


def format_summary(summary: dict[str, Any] | None, form: str = "+.3f") -> str:
    """`value [low, high]` for a table."""
    if summary is None:
        return "-"
    low, high = summary["interval"]
    return f"{summary.get('mean', summary.get('median')):{form}} [{low:{form}}, {high:{form}}]"
