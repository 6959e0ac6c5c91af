"""What a step of training costs, and what the device could do: for tokens per second and MFU.

MFU (model FLOPs utilisation): the matrix products that the mathematics of a step needs, forward and backward, as share
of what the device computes in the same time in its fastest matrix product, measured here, not taken from a data sheet.
"""

import time
from dataclasses import dataclass

import torch

SIZES = {"cuda": (2048, 4096, 8192), "cpu": (512, 1024)}  # of square matrices
REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """Of one step, over all processes."""

    tokens: int  # of all codebooks
    flops: float  # additions and multiplications
    device: torch.device  # of this process
    dtype: torch.dtype  # of matrix products


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the fastest square matrix product found, in well under a second."""
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
