"""Frame features made from words, in place of what is seen or blended with it. Pure NumPy; see docs/CONTRACT.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol

import numpy as np

from engines.base import OptionError
from engines.contract import FloatArray, ModelConfig


class WordVectors(Protocol):
    """Knows the vectors of words: a `Vocabulary`, or one with a text encoder behind it."""

    def vector(self, word: str) -> FloatArray:
        """The vector [frame_dim] of a word. Raises OptionError if it is not known."""


@dataclass(frozen=True)
class Prompt:
    """A vector [frame_dim] for a range of time, in seconds from the beginning of the video: begin <= t < end."""

    vector: FloatArray
    weight: float = 1.0  # 1: replaces what is seen; 0: leaves it; between: a blend
    begin: float = -inf
    end: float = inf

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise OptionError(f"the weight of a prompt must lie between 0 and 1, not {self.weight}")
        if not self.begin < self.end:  # nan fails, too
            raise OptionError(f"a prompt must end after it begins; got {self.begin} s to {self.end} s")


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors [..., D] at length 1, as frame features are; zeros stay zeros."""
    out: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return out


def mixture(vocabulary: WordVectors, words: Mapping[str, float]) -> FloatArray:
    """The vector [frame_dim] of one word, or of several with weights above 0: their weighted sum at length 1.

    One word gives its own vector, whatever the weight, so [NULL] keeps its length.
    Raises OptionError for no word, an unknown word or another weight.
    """
    if not words:
        raise OptionError("a prompt needs one word or more")
    wrong = [f"{word}: {weight}" for word, weight in words.items() if not (isfinite(weight) and weight > 0)]
    if wrong:
        raise OptionError(f"weights of words must be above 0; got {', '.join(wrong)}")
    vectors = [vocabulary.vector(word) for word in words]
    if len(vectors) == 1:
        return vectors[0]
    weights = np.array(list(words.values()), np.float32)
    return unit((weights / weights.sum()) @ np.stack(vectors))


def prompt_features(config: ModelConfig, seen: FloatArray, prompts: Iterable[Prompt], start: float = 0.0) -> FloatArray:
    """Change frame features [1, N, frame_dim] by prompts, one after the other.

    `start` is the time in seconds at which these features begin, for a window that is not the first. Feature k lies at
    start + (k + 1/2) / frame_fps. A blend is (1 - weight) * seen + weight * vector, at length 1. Features outside of
    all prompts stay the same to the bit, as do all at weight 0.
    """
    out = seen.copy()
    times = start + (np.arange(seen.shape[1]) + 0.5) / config.frame_fps
    for prompt in prompts:
        if prompt.vector.shape != seen.shape[2:]:
            wanted, got = list(seen.shape[2:]), list(prompt.vector.shape)
            raise OptionError(f"the vector of a prompt must have the shape {wanted}, not {got}")
        inside = (times >= prompt.begin) & (times < prompt.end)
        if prompt.weight == 1:
            out[:, inside] = prompt.vector
        elif prompt.weight > 0:
            weight = np.float32(prompt.weight)
            out[:, inside] = unit((1 - weight) * out[:, inside] + weight * prompt.vector)
    return out
