"""Ratios of sums over videos, with bootstrap intervals."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

BOOTSTRAPS = 2000


def ratio_of_sums(pairs: ArrayLike) -> dict[str, Any] | None:
    """Sum of the first numbers of pairs [clips, 2] over the sum of the second, with a bootstrap 95 % interval.

    Both numbers of a clip are resampled together. Returns None if there are no clips or the second sum is 0.
    """
    data = np.asarray(pairs, np.float64).reshape(-1, 2)
    if not data[:, 1].any():
        return None
    draws = data[np.random.default_rng(0).integers(0, len(data), (BOOTSTRAPS, len(data)))].sum(axis=1)
    ratios = draws[:, 0] / np.maximum(draws[:, 1], 1e-9)
    low, high = (float(np.quantile(ratios, q)) for q in (0.025, 0.975))
    return {"mean": float(data[:, 0].sum() / data[:, 1].sum()), "interval": [low, high], "n": len(data)}
