"""Comparisons of embeddings, and of sequences of them (paper, section 4.2: WaveCLIP, CycleCLIP, Novelty Score)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF = 4  # of the checkerboard kernel, in steps of the sequence: 0.64 s of BEATs on each side
TAPER = 0.5  # of the kernel's half, where its Gaussian falls to exp(-1/2)


def unit(x: NDArray[np.floating]) -> Floats:
    """Rows [..., d] of length 1; a row of zeros becomes NaN, for it has no direction."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, np.nan)


def cosine_alignment(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Cosine [n] of each row of a [n, d] with the same row of b [n, d]; NaN where one of them is zero."""
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"embeddings must both be [n, d]; got {list(a.shape)} and {list(b.shape)}")
    return (unit(a) * unit(b)).sum(axis=1)


def checkerboard(half: int = HALF) -> Floats:
    """Foote's kernel [2 half + 1, 2 half + 1]: quadrants of + and -, a Gaussian taper, absolute values summing to 1."""
    axis = np.arange(-half, half + 1)
    taper = np.exp(-0.5 * (axis / (half * TAPER)) ** 2)
    kernel = np.outer(np.sign(axis) * taper, np.sign(axis) * taper)
    return kernel / np.abs(kernel).sum()


def novelty_curve(features: NDArray[np.floating], half: int = HALF) -> Floats:
    """features [n, d] -> novelty [n - 2 half]: the kernel slid along the diagonal of the self-similarity matrix.

    The kernel always lies wholly inside. Padding with zeros would lift the ends of every curve alike, and that alone
    makes unrelated sounds correlate by as much as the paper's best Novelty Score.
    """
    rows = unit(features)
    similarity = rows @ rows.T
    kernel, size = checkerboard(half), 2 * half + 1
    starts = range(len(rows) - size + 1)
    return np.array([(similarity[i : i + size, i : i + size] * kernel).sum() for i in starts], np.float64)


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two curves [n]; NaN where one does not vary or has fewer than 2 values."""
    if len(a) < 2:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 1e-12 else float("nan")


def novelty_score(generated: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Correlation of the novelty curves of features [n, d] and [m, d]; the longer sequence is cut at its end.

    NaN where there are fewer than 2 HALF + 2 steps, or a curve does not vary: leave that clip out, and count it.
    """
    n = min(len(generated), len(reference))
    return pearson(novelty_curve(generated[:n]), novelty_curve(reference[:n]))
