"""The probe: a small classifier of concepts, trained on made-up frames only and scored on real videos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.concepts.features import (
    ClassifierHead,
    FeatureMaker,
    Floats,
    Span,
    class_roots,
    concept_roots,
    unit_features,
)

FLOOR = 1e-4  # of a probability whose logarithm is taken
# name -> (pooled features, class probabilities, membership) -> what the model would be given
ROUTES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "a": lambda pooled, probabilities, matrix: class_roots(probabilities),
    "a_warm": lambda pooled, probabilities, matrix: class_roots(probabilities, 2),
    "b": lambda pooled, probabilities, matrix: concept_roots(probabilities, matrix),
    "c": lambda pooled, probabilities, matrix: unit_features(pooled),
}


@dataclass(frozen=True)
class Examples:
    """Made-up frames: pooled features [N, D] and what they show [N, concepts + 1]."""

    pooled: Floats
    answers: Floats


def make_examples(
    maker: FeatureMaker, draw: Callable[[np.random.Generator], tuple[Span, Floats]], count: int, seed: int
) -> Examples:
    """`count` frames of spans one frame long; `draw(rng)` gives a span and its answer."""
    rng = np.random.default_rng(seed)
    pooled, answers = [], []
    for _ in range(count):
        span, answer = draw(rng)
        pooled.append(maker.pooled([span], rng)[0])
        answers.append(answer)
    return Examples(np.stack(pooled).astype(np.float32), np.stack(answers))


@dataclass(frozen=True)
class RealVideo:
    """A real video's frames and the concepts (any of them) that are right."""

    name: str
    pooled: Floats  # [N, D]
    right: list[int]


def plain_rule(head: ClassifierHead, matrix: Floats) -> Callable[[Floats], Floats]:
    """No training: each concept has the summed probability of its classes; the rest is "nothing known"."""

    def classify(pooled: Floats) -> Floats:
        shares = head.probabilities(pooled) @ matrix.T
        return np.concatenate([shares, np.maximum(1 - shares.sum(1, keepdims=True), 0)], 1)

    return classify


def score(classify: Callable[[Floats], Floats], videos: Sequence[RealVideo]) -> dict[str, NDArray[np.float64]]:
    """Per video, from the mean over its frames of the probabilities.

    first, five: is a right concept the most probable one, or among the five; log: logarithm of the right concepts'
    probability (all for videos with a right concept); nothing, nothing_unknown: the probability of "nothing known" for
    videos with and without a right concept.
    """
    found: dict[str, list[float]] = {key: [] for key in ("first", "five", "log", "nothing", "nothing_unknown")}
    for video in videos:
        mean = classify(video.pooled).mean(0)
        if not video.right:
            found["nothing_unknown"].append(float(mean[-1]))
            continue
        order = np.argsort(-mean[:-1])
        found["first"].append(float(order[0] in video.right))
        found["five"].append(float(any(index in video.right for index in order[:5])))
        found["log"].append(float(np.log(mean[video.right].sum() + FLOOR)))
        found["nothing"].append(float(mean[-1]))
    return {key: np.array(values) for key, values in found.items()}
