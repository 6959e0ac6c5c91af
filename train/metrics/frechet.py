"""The Frechet distance between two sets of embeddings, modelled as Gaussians (paper, section 4: FDD, FDM, FAD)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Count, sum [d] and sum of outer products [d, d] of embeddings. They define a Gaussian, and they can be added.

    Keep one per clip: `moments * count` and `+` then give the moments of a bootstrap sample without the embeddings.
    """

    n: float
    total: Floats
    products: Floats

    @classmethod
    def of(cls, embeddings: NDArray[np.floating]) -> "Moments":
        """The moments of embeddings [n, d]. Raises ValueError for another shape."""
        x = np.asarray(embeddings, np.float64)
        if x.ndim != 2:
            raise ValueError(f"embeddings must be [n, d]; got {list(x.shape)}")
        return cls(len(x), x.sum(axis=0), x.T @ x)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.products + other.products)

    def __mul__(self, count: float) -> "Moments":
        return Moments(self.n * count, self.total * count, self.products * count)

    @property
    def too_few(self) -> bool:
        """Whether there are fewer than 2 d vectors: the covariance, and so the distance, is then unreliable."""
        return self.n < 2 * len(self.total)

    def gaussian(self) -> tuple[Floats, Floats]:
        """Mean [d] and unbiased covariance [d, d]. Raises ValueError for fewer than two vectors, and for NaN."""
        if self.n < 2:
            raise ValueError(f"{self.n:g} embeddings; a covariance needs at least 2, so give longer or more clips")
        if not np.isfinite(self.products).all():
            raise ValueError("embeddings contain NaN or infinity; check the sounds and the weights")
        mean = self.total / self.n
        return mean, (self.products - self.n * np.outer(mean, mean)) / (self.n - 1)


def frechet_distance_of(a: Moments, b: Moments) -> float:
    """The Frechet distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    For equal sets, rounding can make it slightly negative. The last trace is computed as the sum of the square roots of
    the eigenvalues of S C2 S, with S = C1^(1/2). That matrix is symmetric, so no complex numbers appear. Raises
    ValueError if the embeddings differ in size, or as `Moments.gaussian` does.
    """
    (mean_a, cov_a), (mean_b, cov_b) = a.gaussian(), b.gaussian()
    if mean_a.shape != mean_b.shape:
        raise ValueError(f"embeddings of {len(mean_a)} and of {len(mean_b)} numbers cannot be compared")
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The Frechet distance between embeddings [n, d] and [m, d]."""
    return frechet_distance_of(Moments.of(a), Moments.of(b))
