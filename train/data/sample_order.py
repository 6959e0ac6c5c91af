"""Which samples a step trains on, and what is drawn for each: pure functions of the seed and of where a run stands.

Nothing depends on how many processes share a batch, on how it is split, or on where a run was interrupted.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PERMUTATION, DRAWS = 1, 2  # streams of random numbers: the first entry of a generator's key


@dataclass(frozen=True)
class Row:
    """One example of a batch."""

    step: int
    epoch: int  # a sample that comes twice in a step (fewer samples than the batch has rows) is of two epochs
    sample: int

    def rng(self, seed: int) -> np.random.Generator:
        """What is drawn for this example: a function of (seed, sample, step)."""
        return np.random.default_rng([DRAWS, seed, self.step, self.epoch, self.sample])


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch."""
    return np.random.default_rng([PERMUTATION, seed, epoch]).permutation(n)


def rows(seed: int, step: int, batch: int, n: int, part: slice = slice(None)) -> list[Row]:
    """The batch of a step, or a part of it: epochs follow each other without a gap, each a permutation of n samples."""
    out = []
    for position in range(step * batch, (step + 1) * batch)[part]:
        epoch, place = divmod(position, n)
        out.append(Row(step, epoch, int(permutation(seed, epoch, n)[place])))
    return out
