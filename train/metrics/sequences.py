"""Compares embeddings and sequences of embeddings (paper, section 4: WaveCLIP, CycleCLIP, Novelty Score)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF = 4  # half width of the checkerboard kernel, in steps of the sequence: 0.64 s of BEATs features
TAPER = 0.5  # standard deviation of the kernel's Gaussian, as a share of HALF


def unit(x: NDArray[np.floating]) -> Floats:
    """Normalise rows [..., d] to length 1. A row of zeros has no direction and becomes NaN."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, np.nan)


def cosine_alignment(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Cosine similarity [n] of the rows of a [n, d] and b [n, d]; NaN if a row is zero. Raises ValueError."""
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"embeddings must both be [n, d]; got {list(a.shape)} and {list(b.shape)}")
    return (unit(a) * unit(b)).sum(axis=1)


def checkerboard(half: int = HALF) -> Floats:
    """Foote's checkerboard kernel [2 half + 1, 2 half + 1], with a Gaussian taper. Its absolute values sum to 1."""
    axis = np.arange(-half, half + 1)
    taper = np.exp(-0.5 * (axis / (half * TAPER)) ** 2)
    kernel = np.outer(np.sign(axis) * taper, np.sign(axis) * taper)
    return kernel / np.abs(kernel).sum()


def novelty_curve(features: NDArray[np.floating], half: int = HALF) -> Floats:
    """Novelty curve [n - 2 half] of features [n, d]: the kernel moves along the diagonal of the self-similarity matrix.

    The kernel always lies inside the matrix. With zero padding, both ends of every curve would rise; that alone would
    make unrelated sounds correlate as much as the paper's best Novelty Score.
    """
    rows = unit(features)
    similarity = rows @ rows.T
    kernel, size = checkerboard(half), 2 * half + 1
    starts = range(len(rows) - size + 1)
    return np.array([(similarity[i : i + size, i : i + size] * kernel).sum() for i in starts], np.float64)


def pearson(a: Floats, b: Floats) -> float:
    """Pearson correlation of two curves [n]; NaN if one is constant or has fewer than 2 values."""
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 1e-12 else float("nan")


def novelty_score(generated: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Correlation of the novelty curves of features [n, d] and [m, d]. The longer sequence is cut at its end.

    It is NaN for fewer than 2 HALF + 2 steps, or if a curve is constant.
    """
    n = min(len(generated), len(reference))
    return pearson(novelty_curve(generated[:n]), novelty_curve(reference[:n]))
