"""Measures clips, and combines the results per system and test set into values with bootstrap 95 % intervals.

The clips are read once, one after the other. A measure per clip leaves one value for each clip. A measure per set (a
Frechet distance) needs the sums that define its Gaussians. So the sums are kept for all clips and for each of SAMPLES
bootstrap samples. How often a sample contains a clip is a Poisson(1) number that depends on the clip's name only, so
that the true and the generated sound count equally often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from train.evaluate.bootstrap import interval
from train.metrics import Metric, Moments, Pair, Sound, frechet_distance_of
from train.metrics.registry import Better, PerClip, PerSet

SAMPLES = 200  # bootstrap samples of a Frechet distance; means use train.evaluate.bootstrap.BOOTSTRAPS
ENOUGH = 20  # samples that must give a distance; with fewer there is no interval

Row = dict[str, dict[str, Any]]  # column -> {"value", "low", "high", "clips"}


@dataclass(frozen=True)
class Loaded:
    """A measure with its weights loaded."""

    metric: Metric
    measure: PerClip | PerSet


@dataclass(frozen=True)
class Measured:
    """The results of one clip of one system: values and moments (generated, true) per column, and failures."""

    values: dict[str, float]
    moments: dict[str, tuple[Moments, Moments]]
    failures: list[str]


def columns(measures: Sequence[Loaded]) -> dict[str, Better]:
    """All columns in the order of the measures, and whether higher or lower is better."""
    return {name: better for loaded in measures for name, better in loaded.metric.columns.items()}


def measure(measures: Sequence[Loaded], pair: Pair) -> Measured:
    """Apply all measures to a pair. A failure is noted in `failures`, and the other measures still run.

    Measures that need the picture are skipped if the pair has none.
    """
    out = Measured({}, {}, [])
    for loaded in measures:
        metric = loaded.metric
        if metric.video and pair.film is None:
            continue
        try:
            if metric.per == "clip":
                out.values.update(cast(PerClip, loaded.measure)(pair))
            else:
                embed = cast(PerSet, loaded.measure)
                out.moments[next(iter(metric.columns))] = (
                    _moments(embed, pair.generated),
                    _moments(embed, pair.reference),
                )
        except (ValueError, OSError, RuntimeError) as error:
            out.failures.append(f"{metric.name} failed: {error}")
    return out


def _moments(embed: PerSet, sound: Sound) -> Moments:
    moments = Moments.of(embed(sound))
    if not np.isfinite(moments.products).all():
        raise ValueError("embeddings hold NaN or infinity")
    return moments


class BootstrapSums:
    """Sums of moments over all clips, and over each of SAMPLES bootstrap samples of them."""

    def __init__(self, size: int) -> None:
        self.all = Moments(0.0, np.zeros(size), np.zeros((size, size)))
        self.n = np.zeros(SAMPLES)
        self.total = np.zeros((SAMPLES, size))
        self.products = np.zeros((SAMPLES, size, size))

    def add(self, moments: Moments, counts: NDArray[np.int64]) -> None:
        """Add a clip's moments. `counts` [SAMPLES] says how often each sample contains the clip."""
        self.all = self.all + moments
        self.n += counts * moments.n
        self.total += counts[:, None] * moments.total
        for k in np.flatnonzero(counts):
            self.products[k] += counts[k] * moments.products

    def sample(self, k: int) -> Moments:
        """The moments of bootstrap sample k."""
        return Moments(float(self.n[k]), self.total[k], self.products[k])


@dataclass
class Tally:
    """The accumulated measurements of one system on one test set."""

    values: dict[str, list[float]] = field(default_factory=dict)
    sums: dict[str, tuple[BootstrapSums, BootstrapSums]] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)  # number of clips per column

    def add(self, clip: str, measured: Measured) -> None:
        """Add the results of one clip."""
        for name, value in measured.values.items():
            if isfinite(value):  # NaN: the measure is undefined for this clip.
                self.values.setdefault(name, []).append(value)
                self.clips[name] = self.clips.get(name, 0) + 1
        counts = np.random.default_rng(crc32(clip.encode())).poisson(1, SAMPLES)
        for name, (generated, reference) in measured.moments.items():
            if name not in self.sums:
                self.sums[name] = (BootstrapSums(len(generated.total)), BootstrapSums(len(reference.total)))
            for sums, moments in zip(self.sums[name], (generated, reference), strict=True):
                sums.add(moments, counts)
            self.clips[name] = self.clips.get(name, 0) + 1

    def row(self, names: Mapping[str, Better]) -> Row:
        """The values of all measured columns, in the order of `names`."""
        found: Row = {}
        for name in names:
            if name in self.sums:
                numbers = frechet_with_interval(*self.sums[name])
            elif name in self.values:
                numbers = (float(np.mean(self.values[name])), *interval(self.values[name]))
            else:
                continue
            found[name] = dict(zip(("value", "low", "high"), numbers, strict=True)) | {"clips": self.clips[name]}
        return found

    def undersampled(self) -> list[str]:
        """Columns whose Frechet distance is unreliable, with the numbers that show it."""
        return [
            f"{name} has {sums.all.n:.0f} vectors of {len(sums.all.total)} numbers"
            for name, (sums, _) in self.sums.items()
            if sums.all.too_few
        ]


def frechet_with_interval(
    generated: BootstrapSums, reference: BootstrapSums
) -> tuple[float, float | None, float | None]:
    """The distance and its 95 % interval (low, high).

    A bootstrap sample has fewer different clips than the set, which makes its distance larger. So the quantiles are
    shifted by the samples' mean excess. The interval is None if too few samples have enough clips for a covariance.
    """
    value = max(0.0, frechet_distance_of(generated.all, reference.all))
    drawn = []
    for k in range(SAMPLES):
        if generated.n[k] >= 2:
            drawn.append(frechet_distance_of(generated.sample(k), reference.sample(k)))
    if len(drawn) < ENOUGH:
        return value, None, None
    low, high = (float(np.quantile(drawn, q) - np.mean(drawn)) + value for q in (0.025, 0.975))
    return value, max(0.0, low), max(0.0, high)
