"""Random numbers for sampling. They are counter-based: every number has an address.

The generator is NumPy's Philox-4x64 with key (seed, candidate) and counter (0, stream, step, window), 64 bits each.
Stream 0 gives the uniforms that sample tokens, stream 1 those for the Gumbel noise on the confidence, stream 2 those
that choose which tokens of a take vary. So a number does not depend on how many candidates, windows or steps there
are, nor on the order in which they are drawn. Philox itself uses the lowest word of the counter to count blocks.
"""

import numpy as np

# NumPy loads `random` when it is first used: in a thread, that can change the exit status of a host that quits then
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from engines.contract import FloatArray

TOKENS, CONFIDENCE, POSITIONS = 0, 1, 2
MAX_SEED = 2**64 - 1


def uniforms(seed: int, candidate: int, window: int, step: int, stream: int, shape: tuple[int, ...]) -> FloatArray:
    """Uniform float32 numbers in [0, 1) for one candidate, window and step."""
    key = np.array([seed, candidate], dtype=np.uint64)
    counter = np.array([0, stream, step, window], dtype=np.uint64)
    return Generator(Philox(key=key, counter=counter)).random(shape, dtype=np.float32)


def gumbel(uniform: NDArray[np.float32]) -> FloatArray:
    """Standard Gumbel noise -ln(-ln U). U is clamped to [1e-10, 1 - 1e-7], so that the noise stays finite."""
    clamped = np.clip(uniform, np.float32(1e-10), np.float32(1 - 1e-7))
    return -np.log(-np.log(clamped))
