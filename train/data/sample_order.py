"""The order of training samples and the random numbers of each: pure functions of seed and step.

They do not depend on the number of processes, on how a batch is split, or on where a run was interrupted.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PERMUTATION, DRAWS, FEATURES = 1, 2, 3  # streams of random numbers: the first entry of a generator's key


@dataclass(frozen=True)
class Row:
    """One example of a batch."""

    step: int
    epoch: int  # tells repeats of a sample apart if the batch has more rows than there are samples
    sample: int

    def rng(self, seed: int, stream: int = DRAWS) -> np.random.Generator:
        """A random generator of this example: a function of (stream, seed, step, epoch, sample)."""
        return np.random.default_rng([stream, seed, self.step, self.epoch, self.sample])


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch."""
    return np.random.default_rng([PERMUTATION, seed, epoch]).permutation(n)


def rows(seed: int, step: int, batch: int, n: int, part: slice = slice(None)) -> list[Row]:
    """The rows of a step's batch, or a part of them. Epochs follow each other; each is a permutation of n samples."""
    out = []
    for position in range(step * batch, (step + 1) * batch)[part]:
        epoch, place = divmod(position, n)
        out.append(Row(step, epoch, int(permutation(seed, epoch, n)[place])))
    return out
