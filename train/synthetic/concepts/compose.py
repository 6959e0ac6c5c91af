"""Which concepts a made-up sequence shows, and how far its frame features look like real ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.synthetic.concepts.features import Floats, Span

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
UNKNOWN, MIXED, CUT, CHANGE = 0.2, 0.25, 0.4, 0.5  # chances: nothing known, a second concept, a cut, that it changes it


def draw_shown(concepts: int, rng: np.random.Generator) -> dict[int, float]:
    """Nothing known, one concept, or two of the `concepts` of a table with weights that sum to 1."""
    if rng.random() < UNKNOWN:
        return {}
    first = int(rng.integers(concepts))
    if rng.random() >= MIXED or concepts == 1:
        return {first: 1.0}
    second = (first + int(rng.integers(1, concepts))) % concepts
    weight = rng.uniform(0.3, 0.7)
    return {first: weight, second: 1 - weight}


def draw_spans(concepts: int, frames: int, rng: np.random.Generator) -> list[Span]:
    """One shot, or two with a cut between them at which the concepts may change."""
    shown = draw_shown(concepts, rng)
    if frames < 2 or rng.random() >= CUT:
        return [Span(0, frames, shown)]
    cut = int(rng.integers(1, frames))
    return [Span(0, cut, shown), Span(cut, frames, draw_shown(concepts, rng) if rng.random() < CHANGE else shown)]


def answer(span: Span, concepts: int) -> Floats:
    """[concepts + 1]: how much each concept is shown, and last 1 if it is nothing known."""
    shares = np.zeros(concepts + 1, np.float32)
    for index, weight in span.shown.items():
        shares[index] = weight
    shares[-1] = not span.shown
    return shares / shares.sum()


def looks(probabilities: Sequence[Floats], listed: NDArray[np.bool_]) -> dict[str, list[float]]:
    """QUANTILES of what sequences of class probabilities [T, 1000] look like. `listed`: classes of the table.

    Entropy (nats), the highest probability, and the five highest together, over frames; the cosine of the square roots
    of a frame to the next one's and to its sequence's mean, over frames; between means of sequences, over pairs; and
    the probability of the listed classes, over sequences.
    """
    frames = np.concatenate(probabilities)
    highest = np.sort(frames, axis=1)[:, ::-1]
    roots = [np.sqrt(p) for p in probabilities]
    means = np.stack([r.mean(0) / np.linalg.norm(r.mean(0)) for r in roots])
    found = {
        "entropy": -(frames * np.log(frames + 1e-12)).sum(1),
        "highest": highest[:, 0],
        "five_highest": highest[:, :5].sum(1),
        "cosine_next": np.concatenate([(r[1:] * r[:-1]).sum(1) for r in roots]),
        "cosine_mean": np.concatenate([r @ mean for r, mean in zip(roots, means, strict=True)]),
        "cosine_between": (means @ means.T)[np.triu_indices(len(means), 1)],
        "in_table": np.array([p.mean(0)[listed].sum() for p in probabilities]),
    }
    return {name: [round(float(q), 3) for q in np.quantile(values, QUANTILES)] for name, values in found.items()}
