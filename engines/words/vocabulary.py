"""The vocabulary of a bundle: named vectors in the space of `frame_features` (docs/CONTRACT.md).

The file holds `words`, text [W], and `vectors`, float16 or float32 [W, frame_dim]. The word `[NULL]` is always there:
its vector means "nothing is known of what is seen".
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engines.advice import own_command
from engines.base import Array, OptionError
from engines.contract import FloatArray, ModelConfig
from engines.manifest import ManifestError, repair_hint

FILE = "vocabulary.npz"  # its usual name; the manifest has the real one
NULL_WORD = "[NULL]"
LARGEST = 100_000  # words
SUGGESTIONS = 5  # close matches in an error
UNIT_LENGTH = 0.01  # difference from length 1 that a word's vector may have


def folded(word: str) -> str:
    """The form of a word that lookups compare: case, underscores and repeated spaces make no difference."""
    return " ".join(word.replace("_", " ").casefold().split())


class Vocabulary:
    """Words and their vectors: `vocabulary.vector("dog")`."""

    def __init__(self, words: tuple[str, ...], vectors: FloatArray, null: FloatArray) -> None:
        """`words` without [NULL], `vectors` [W, frame_dim], `null` [frame_dim]. `load` checks a file."""
        self.words = words  # in the file's order
        self._vectors: dict[str, FloatArray] = {
            folded(word): vector for word, vector in zip(words, vectors, strict=True)
        }
        self._vectors[folded(NULL_WORD)] = null

    @classmethod
    def load(cls, path: Path, config: ModelConfig) -> Self:
        """Read and check a bundle's vocabulary. Raises ManifestError, which names the file and how to repair it."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ("words", "vectors")}
            problem = _problem(found["words"], found["vectors"], config.frame_dim)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, MemoryError) as error:
            problem = f"it cannot be read ({error})"
        if problem:
            raise ManifestError(f"{path} is not a vocabulary: {problem}; {repair_hint(path.parent)}")
        words, vectors = [str(word) for word in found["words"]], found["vectors"].astype(np.float32)
        null = words.index(NULL_WORD)
        return cls(tuple(words[:null] + words[null + 1 :]), np.delete(vectors, null, axis=0), vectors[null])

    def __contains__(self, word: str) -> bool:
        return folded(word) in self._vectors

    def vector(self, word: str) -> FloatArray:
        """The vector [frame_dim] of a word. Do not change it.

        Raises OptionError that names similar words and says how to list all of them.
        """
        if word not in self:
            raise OptionError(self._unknown(word))
        return self._vectors[folded(word)]

    def similar(self, word: str) -> list[str]:
        """Words that are spelled like this one, the nearest first."""
        return get_close_matches(folded(word), [folded(w) for w in self.words], SUGGESTIONS)

    def _unknown(self, word: str) -> str:
        close = self.similar(word)
        if not self.words:
            return (
                f"the bundle does not know the word {word!r}: its vocabulary has no words; give a bundle that has some "
                "with --engines, or leave the words out"
            )
        matches = f"similar words: {', '.join(close)}; " if close else ""
        return (
            f"the bundle does not know the word {word!r}; {matches}"
            f"{own_command('info --words')} lists its {len(self.words)} words"
        )


def write_vocabulary(path: Path, vectors: Mapping[str, FloatArray], precision: str = "fp32") -> None:
    """Write a vocabulary file. `vectors` must have [NULL]; `precision` is "fp16" or "fp32".

    Raises ManifestError if `Vocabulary.load` would refuse it.
    """
    words = np.array(list(vectors), dtype=np.str_)
    rows = np.stack(list(vectors.values())).astype(np.float16 if precision == "fp16" else np.float32)
    problem = _problem(words, rows, rows.shape[-1])
    if problem:
        raise ManifestError(f"{path.name} cannot be written: {problem}")
    np.savez_compressed(path, words=words, vectors=rows)


def _problem(words: Array, vectors: Array, frame_dim: int) -> str | None:
    """What is wrong with the arrays of a vocabulary file; None if nothing is."""
    if words.ndim != 1 or words.dtype.kind != "U" or not 1 <= len(words) <= LARGEST:
        return f"`words` is {words.dtype} {list(words.shape)}, not text [W] with 1 to {LARGEST} words"
    if vectors.dtype not in (np.float16, np.float32) or vectors.shape != (len(words), frame_dim):
        return f"`vectors` is {vectors.dtype} {list(vectors.shape)}, not float16 or float32 {[len(words), frame_dim]}"
    counts = Counter(folded(str(word)) for word in words)
    twice = [word for word, count in counts.items() if count > 1]
    if twice or "" in counts:
        return f"it lists {', '.join(map(repr, twice[:SUGGESTIONS]))} twice" if twice else "it has a word without text"
    if NULL_WORD not in words:
        return f"it lacks the word {NULL_WORD}"
    return _vector_problem(words, vectors.astype(np.float32))


def _vector_problem(words: NDArray[np.str_], vectors: FloatArray) -> str | None:
    infinite = words[~np.isfinite(vectors).all(axis=1)]
    if len(infinite):
        return f"the vector of {str(infinite[0])!r} has numbers that are not finite"
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = (np.abs(lengths - 1) > UNIT_LENGTH) & (words != NULL_WORD)
    if wrong.any():
        return f"the vector of {str(words[wrong][0])!r} has length {lengths[wrong][0]:.3g}, not 1"
    return None
