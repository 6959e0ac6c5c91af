"""Measures of clips, taken together per system and test set: values with bootstrap 95 % intervals over clips.

Clips pass once, one after the other. Of a measure per clip its value is kept. Of a measure per set, a Frechet distance,
the sums are kept that its Gaussians need: those of the clips, and those of each bootstrap sample, in which a clip
counts as often as a Poisson(1) number says that depends on the clip's name alone. Both sounds of a clip count alike.
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

SAMPLES = 200  # of the bootstrap of a Frechet distance; means take train.evaluate.bootstrap.BOOTSTRAPS
ENOUGH = 20  # samples that must give a distance, for an interval

Row = dict[str, dict[str, Any]]  # column -> {"value", "low", "high", "clips"}


@dataclass(frozen=True)
class Loaded:
    """A measure, ready to measure."""

    metric: Metric
    measure: PerClip | PerSet


@dataclass(frozen=True)
class Measured:
    """What the measures say of one clip of one system: values per column, moments (generated, true) per column."""

    values: dict[str, float]
    moments: dict[str, tuple[Moments, Moments]]
    failures: list[str]


def columns(measures: Sequence[Loaded]) -> dict[str, Better]:
    """All columns in the measures' order."""
    return {name: better for loaded in measures for name, better in loaded.metric.columns.items()}


def measure(measures: Sequence[Loaded], pair: Pair) -> Measured:
    """A measure that fails is told, and does not stop the others. One that needs the picture is left out without it."""
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


class Sums:
    """Sums of moments: of all clips, and of SAMPLES bootstrap samples of them."""

    def __init__(self, size: int) -> None:
        self.all = Moments(0.0, np.zeros(size), np.zeros((size, size)))
        self.n = np.zeros(SAMPLES)
        self.total = np.zeros((SAMPLES, size))
        self.products = np.zeros((SAMPLES, size, size))

    def add(self, moments: Moments, counts: NDArray[np.int64]) -> None:
        """`counts` [SAMPLES]: how often each sample holds the clip."""
        self.all = self.all + moments
        self.n += counts * moments.n
        self.total += counts[:, None] * moments.total
        for k in np.flatnonzero(counts):
            self.products[k] += counts[k] * moments.products

    def sample(self, k: int) -> Moments:
        return Moments(float(self.n[k]), self.total[k], self.products[k])


@dataclass
class Tally:
    """One system's measurements on one test set."""

    values: dict[str, list[float]] = field(default_factory=dict)
    sums: dict[str, tuple[Sums, Sums]] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)  # per column: how many it is made of

    def add(self, clip: str, measured: Measured) -> None:
        for name, value in measured.values.items():
            if isfinite(value):  # NaN: the clip says nothing here
                self.values.setdefault(name, []).append(value)
                self.clips[name] = self.clips.get(name, 0) + 1
        counts = np.random.default_rng(crc32(clip.encode())).poisson(1, SAMPLES)
        for name, (generated, reference) in measured.moments.items():
            if name not in self.sums:
                self.sums[name] = (Sums(len(generated.total)), Sums(len(reference.total)))
            for sums, moments in zip(self.sums[name], (generated, reference), strict=True):
                sums.add(moments, counts)
            self.clips[name] = self.clips.get(name, 0) + 1

    def row(self, names: Mapping[str, Better]) -> Row:
        """The columns that could be measured, in the order of `names`."""
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

    def too_few(self) -> list[str]:
        """Columns whose distance means little, with the numbers why."""
        return [
            f"{name} of {sums.all.n:.0f} vectors of {len(sums.all.total)} numbers"
            for name, (sums, _) in self.sums.items()
            if sums.all.too_few
        ]


def frechet_with_interval(generated: Sums, reference: Sums) -> tuple[float, float | None, float | None]:
    """The distance, and quantiles of it over the samples, moved by what samples are too large by on the average.

    A sample holds fewer different clips than the set, which alone makes its distance larger. No interval where hardly
    any sample has enough clips for a covariance.
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
