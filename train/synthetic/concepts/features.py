"""Made-up frame features: what the frame encoder would give for a video that shows a concept, without such a video.

A made-up sequence starts from features of simulated videos (the background), is moved towards the rows of the
encoder's classifier that belong to the concepts it shows, and drifts from frame to frame. The classifier then confuses
classes as it does on real video, because similar classes have similar rows. `Settings` holds the distributions; they
were matched to the features of real videos; what these videos show was not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OptionError
from train.synthetic.concepts.table import CLASSES, Concept, membership

Floats = NDArray[np.float32]
TRIES = 16  # distances that are tried when a feature is moved, from 0 to FARTHEST, closer together at first
BALANCE = 4  # attempts to divide the probability among concepts
FEW = 4  # classes of a concept that are shown at most: one dog is of few breeds, and many rows cancel each other
UNKNOWN_MOVE = 0.3  # of FARTHEST: how far at most features without a concept are moved
FARTHEST = 90.0  # distance that a feature is moved at most, against NORM
NORM = 28.0  # of pooled features before the classifier: of real frames most have 18 to 29, which says more of contrast


@dataclass(frozen=True)
class ClassifierHead:
    """The classifier on top of the frame encoder: probabilities = softmax(pooled @ weight.T + bias), pooled at NORM."""

    weight: Floats  # [1000, D]
    bias: Floats  # [1000]

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or len(self.weight) != CLASSES or self.bias.shape != (CLASSES,):
            shapes = f"{list(self.weight.shape)} and {list(self.bias.shape)}"
            raise OptionError(f"a classifier needs weights [{CLASSES}, D] and biases [{CLASSES}]; got {shapes}")

    def probabilities(self, pooled: Floats) -> Floats:
        """Pooled features [..., D] -> class probabilities [..., 1000]."""
        logits = unit_features(pooled) @ (NORM * self.weight.T) + self.bias
        logits -= logits.max(-1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(-1, keepdims=True)

    def directions(self) -> Floats:
        """[1000, D]: for each class, the unit vector that raises its logit most against the mean of all."""
        rows = self.weight - self.weight.mean(0)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass(frozen=True)
class Span:
    """Frames [begin, end) of a sequence, and the concepts that they show: index in the table -> weight."""

    begin: int
    end: int
    shown: dict[int, float] = field(default_factory=dict)  # empty: nothing that is known

    def __post_init__(self) -> None:
        if self.end <= self.begin or not all(weight > 0 for weight in self.shown.values()):
            raise OptionError(f"a span needs one or more frames, and weights above 0; got {self}")


@dataclass(frozen=True)
class Settings:
    """Distributions of made-up features."""

    certainty: tuple[float, float] = (0.9, 0.6)  # Beta: total probability of the shown classes
    classes: float = 0.4  # Dirichlet: below 1, one class of a concept outweighs its others
    distractors: float = 3.0  # mean number of other classes that resemble what is seen
    distraction: float = 0.8  # their weight at most; those of the shown classes sum to 1
    clip_noise: float = 0.6  # standard deviation of a log-normal factor per feature, the same for all frames of a span
    frame_noise: float = 0.35  # the same, from frame to frame
    drift: float = 0.35  # standard deviation of the log of how far a frame is moved
    persistence: float = 0.75  # correlation of frame noise and drift with the next frame's, at 8 frames/s
    unlisted: float = 0.7  # share of spans without a concept that show classes outside of the table


def walk(frames: int, width: int, persistence: float, rng: np.random.Generator) -> Floats:
    """[frames, width] of unit variance, each row correlated with the next by `persistence`."""
    steps = rng.standard_normal((frames, width), dtype=np.float32)
    keep, new = np.float32(persistence), np.float32(np.sqrt(1 - persistence**2))
    for t in range(1, frames):
        steps[t] = keep * steps[t - 1] + new * steps[t]
    return steps


class FeatureMaker:
    """Makes pooled features for spans of concepts. `backgrounds`: pooled features [N, D] of simulated videos."""

    def __init__(
        self,
        table: Sequence[Concept],
        head: ClassifierHead,
        backgrounds: Sequence[Floats],
        settings: Settings | None = None,
    ) -> None:
        if not backgrounds or any(len(b) == 0 or b.shape[1:] != head.weight.shape[1:] for b in backgrounds):
            raise OptionError(f"backgrounds must be features [N, {head.weight.shape[1]}] of one or more videos")
        self.table, self.head, self.backgrounds = list(table), head, [NORM * unit_features(b) for b in backgrounds]
        self.settings = settings or Settings()
        self._directions = head.directions()
        self._gain = float(np.linalg.norm(head.weight - head.weight.mean(0), axis=1).mean())  # of a logit, per distance
        listed = {index for concept in table for index in concept.classes}
        self._unlisted = np.array([index for index in range(CLASSES) if index not in listed])

    def pooled(self, spans: Sequence[Span], rng: np.random.Generator) -> Floats:
        """[T, D] for consecutive spans that begin at 0 and end at T; each is a shot with a background of its own."""
        if not spans or spans[0].begin or any(a.end != b.begin for a, b in pairwise(spans)):
            raise OptionError("spans must follow each other without a gap, and the first must begin at 0")
        return np.concatenate([self._shot(span, rng) for span in spans])

    def _background(self, frames: int, rng: np.random.Generator) -> Floats:
        """[frames, D] of a simulated video from a random time on, forwards and backwards if it is too short."""
        video = self.backgrounds[rng.integers(len(self.backgrounds))]
        there_and_back = np.concatenate([video, video[::-1]])
        start = rng.integers(len(there_and_back))
        return there_and_back[(start + np.arange(frames)) % len(there_and_back)]

    def _classes(self, span: Span, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """(weights, shares): per concept shown, the weights [K, 1000] of some of its classes, and its share [K]."""
        shown = {self.table[index].classes: weight for index, weight in span.shown.items()}
        if not shown and len(self._unlisted) and rng.random() < self.settings.unlisted:
            shown = {(int(rng.choice(self._unlisted)),): 1.0}
        weights = np.zeros((len(shown), CLASSES), np.float32)
        for row, classes in zip(weights, shown, strict=True):
            if len(classes) > FEW:
                classes = tuple(rng.choice(classes, 1 + rng.binomial(FEW - 1, 0.4), replace=False).tolist())
            parts = rng.gamma(self.settings.classes, size=len(classes)) + 1e-6
            row[list(classes)] = parts / parts.sum()
        shares = np.array(list(shown.values()), np.float32)
        return weights, shares / shares.sum() if len(shares) else shares

    def _shot(self, span: Span, rng: np.random.Generator) -> Floats:
        """[frames, D] of one span."""
        settings, frames, width = self.settings, span.end - span.begin, self.head.weight.shape[1]
        base = self._background(frames, rng)
        base = base * np.exp(settings.clip_noise * rng.standard_normal(width, dtype=np.float32))
        base = base * np.exp(settings.frame_noise * walk(frames, width, settings.persistence, rng))
        weights, shares = self._classes(span, rng)
        distraction = np.zeros(CLASSES, np.float32)
        others = rng.integers(CLASSES, size=rng.poisson(settings.distractors))
        distraction[others] = rng.uniform(0, settings.distraction, len(others))
        if len(shares):
            push, length = self._move(base.mean(0), weights, shares, distraction, rng.beta(*settings.certainty))
        else:
            push, length = distraction @ self._directions, rng.uniform(0, UNKNOWN_MOVE) * FARTHEST
        moved = np.exp(settings.drift * walk(frames, 1, settings.persistence, rng)) * np.float32(length)
        return np.maximum(base + moved * push, 0)

    def _move(
        self, base: Floats, weights: Floats, shares: Floats, distraction: Floats, goal: float
    ) -> tuple[Floats, float]:
        """Direction and distance that give the shown classes the probability `goal`, divided among the concepts.

        A classifier prefers one of two concepts strongly over small differences, so their weights are balanced.
        """
        amounts, shown = shares.copy(), weights.max(0) > 0
        for attempt in range(BALANCE if len(shares) > 1 else 1):
            push = (amounts @ weights + distraction) @ self._directions
            length = self._distance(base, push, shown, goal)
            if len(shares) > 1 and length > 0 and attempt < BALANCE - 1:
                reached = self.head.probabilities(np.maximum(base + np.float32(length) * push, 0))
                found = (weights > 0) @ reached + 1e-9
                amounts = amounts + np.log(shares * found.sum() / found) / np.float32(self._gain * length)
                amounts = np.maximum(amounts, 0)
        return push, length

    def _distance(self, base: Floats, push: Floats, shown: NDArray[np.bool_], goal: float) -> float:
        """How far to move `base` along `push` until the shown classes have the probability `goal`.

        If they cannot reach it, because distractors are stronger, as far as brings them nearest to it.
        """
        tried = FARTHEST * np.linspace(0, 1, TRIES, dtype=np.float32) ** 2
        reached = self.head.probabilities(np.maximum(base + tried[:, None] * push, 0))[:, shown].sum(1)
        k = int(np.argmax(reached >= goal)) if (reached >= goal).any() else int(np.argmax(reached))
        if k == 0 or reached[k] < goal:
            return float(tried[k])
        return float(np.interp(goal, reached[k - 1 : k + 1], tried[k - 1 : k + 1]))


def class_roots(probabilities: Floats, temperature: float = 1.0) -> Floats:
    """Route (a): the square root of class probabilities, so that every frame has norm 1."""
    warmed = probabilities ** np.float32(0.5 / temperature)
    return warmed / np.linalg.norm(warmed, axis=-1, keepdims=True)


def concept_roots(probabilities: Floats, matrix: Floats) -> Floats:
    """Route (b): the square root of the probabilities of the concepts (matrix: `membership`), and of the rest last."""
    shares = probabilities @ matrix.T
    rest = np.maximum(1 - shares.sum(-1, keepdims=True), 0)
    return np.sqrt(np.concatenate([shares, rest], -1))


def unit_features(pooled: Floats) -> Floats:
    """Route (c): the pooled features at norm 1, as bundles of contract 2 have them."""
    return pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)


def concept_vectors(table: Sequence[Concept]) -> Floats:
    """[concepts, 1000]: the root of a probability that is spread evenly over the concept's classes, so of length 1.

    A bundle's vocabulary has these vectors (docs/CONTRACT.md).
    """
    return unit_features(np.sqrt(membership(list(table))))
