"""Measures of generated sound: the paper's seven (section 4), and onset measures that need no weights.

    measure = METRICS["FAD"].load(Path("weights"))      raises MissingWeights if a file is absent

A measure per clip is called as `measure(pair)` and returns {column: value}. NaN means that the measure is undefined for
this clip; leave the clip out and count it.

A measure per set is called as `measure(sound)` and returns the embeddings [n, d] of one clip. Its value is the Frechet
distance between the embeddings of all generated and all true sounds. Keep the `Moments` of each clip: they add up to
those of a set or of a bootstrap sample.

registry    lists the measures and their weights; networks loads those that need a network
onsets, sequences, mfcc, frechet    the computations; vggish, wav2clip, sparsesync, resnet    the networks
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
