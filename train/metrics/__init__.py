"""Measures of generated sound: the paper's seven (section 4.2), and onset measures that need no weights.

    measure = METRICS["FAD"].load(Path("weights"))      raises MissingWeights, in one line, where a file is absent

Per clip, `measure(pair)` gives {column: value}; NaN means that this clip says nothing (leave it out, and count it). Per
set, `measure(sound)` gives the embeddings [n, d] of one clip; the value is the Frechet distance between all generated
and all true embeddings, best taken through `Moments`, one per clip, which a bootstrap over clips can add up again.
"""

from train.metrics.frechet import Moments, frechet_distance, frechet_distance_of
from train.metrics.inputs import Film, Pair, Sound
from train.metrics.registry import METRICS, Metric, MissingWeights, Weights
from train.metrics.sequences import cosine_alignment, novelty_score

__all__ = [
    "METRICS",
    "Film",
    "Metric",
    "MissingWeights",
    "Moments",
    "Pair",
    "Sound",
    "Weights",
    "cosine_alignment",
    "frechet_distance",
    "frechet_distance_of",
    "novelty_score",
]
