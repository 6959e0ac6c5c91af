"""A training batch of MaskVAT, and the choice of its masked tokens (paper, section 3.2.2)."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.contract import mask_ratio


@dataclass(frozen=True)
class Batch:
    codes: Tensor  # (B, K, T)
    clip: Tensor  # (B, N, Dc)
    sync: Tensor  # (B, S, Ds)
    audio: Tensor  # (B, A, 8, D)
    mask: Tensor  # (B, K, T) bool: positions that hold [MASK]
    drop: Tensor  # (B,) bool: rows whose condition is [NULL]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


def token_mask(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask [K, T] of one example: u ~ U[0, pi/2], each position with probability cos(u), independently; never empty."""
    ratio = mask_ratio(rng.random())
    noise = rng.random(shape, dtype=np.float32)
    mask = noise < ratio
    mask.flat[noise.argmin()] = True
    return mask
