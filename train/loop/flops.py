"""The cost of a training step and the speed of the device, for tokens per second and MFU.

MFU (model FLOPs utilisation) divides the operations of the matrix products that a step needs, forward and backward, by
the operations that the device could do in the same time. The speed of the device is that of its fastest matrix product,
measured here and not taken from a data sheet.
"""

import time
from dataclasses import dataclass

import torch

SIZES = {"cuda": (2048, 4096, 8192), "cpu": (512, 1024)}  # rows of square matrices
REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """The cost of one step, over all processes."""

    tokens: int  # counted over all codebooks
    flops: float  # additions and multiplications
    device: torch.device  # the device of this process
    dtype: torch.dtype  # data type of matrix products


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure operations per second of the fastest square matrix product; takes well under a second."""
    best = 0.0
    for n in SIZES[device.type]:
        a, b = (torch.ones(n, n, device=device, dtype=dtype) for _ in range(2))
        for _ in range(REPEATS):
            _synchronise(device)
            begin = time.perf_counter()
            a @ b
            _synchronise(device)
            best = max(best, 2 * n**3 / (time.perf_counter() - begin))
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
