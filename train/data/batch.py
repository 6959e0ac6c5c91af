"""A training batch of MaskVAT, and what is hidden from the network: tokens (paper, section 3.2.2) and conditions.

Tokens are hidden at random places or in whole spans of time; see `token_mask` and `span_mask`. Frame and sync features
are replaced by [NULL] independently of each other, so that a host can guide by one of them alone (docs/CONTRACT.md).
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.contract import mask_ratio

SPANS = 3  # of one example, at most; one more if a span continues from the end at the beginning
SPAN_FRACTIONS = (0.05, 0.8)  # of the tokens' time that the spans cover together


@dataclass(frozen=True)
class Batch:
    codes: Tensor  # (B, K, T)
    frame: Tensor  # (B, N, Df)
    sync: Tensor  # (B, S, Ds)
    audio: Tensor  # (B, A, 8, D)
    mask: Tensor  # (B, K, T) bool: positions that hold [MASK]
    drop: Tensor  # (B, 2) bool: whether frame features, and sync features, are [NULL]

    @property
    def kept(self) -> Tensor:
        """(B,) bool: rows that have both conditions; only these enter the losses on the condition's encoder."""
        return ~self.drop.any(dim=1)

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True)
class Hiding:
    """Shares of the examples: conditions that are [NULL], and masks that cover spans of time."""

    both: float = 0.1  # frame and sync features
    frame: float = 0.0  # frame features alone
    sync: float = 0.0  # sync features alone
    spans: float = 0.0

    def __post_init__(self) -> None:
        if self.both + self.frame + self.sync > 1:
            raise ValueError(f"the dropouts add up to {self.both + self.frame + self.sync:g}; the most is 1")

    def drop(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Whether an example lacks its frame features, and its sync features."""
        u = rng.random()
        both, frame = u < self.both, self.both <= u < self.both + self.frame
        sync = self.both + self.frame <= u < self.both + self.frame + self.sync
        return both or frame, both or sync

    def mask(self, rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask [K, T] of one example."""
        return (span_mask if rng.random() < self.spans else token_mask)(rng, shape)


def token_mask(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask [K, T] of one example: u ~ U[0, pi/2], each position with probability cos(u), independently; never empty."""
    ratio = mask_ratio(rng.random())
    noise = rng.random(shape, dtype=np.float32)
    mask = noise < ratio
    mask.flat[noise.argmin()] = True
    return mask


def span_mask(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask [K, T] of one example for making a range again: a few spans of time; nothing else is masked.

    In half of the examples all tokens of the spans are masked, as at the beginning of a generation. In the others, only
    some of them are, as in `token_mask`. Never empty.
    """
    whole, count = rng.random() < 0.5, int(rng.integers(1, SPANS + 1))
    covered = max(1, round(rng.uniform(*SPAN_FRACTIONS) * shape[1]))
    lengths = np.diff(np.sort(rng.integers(0, covered + 1, count - 1)), prepend=0, append=covered)
    gaps = np.diff(np.sort(rng.integers(0, shape[1] - covered + 1, count - 1)), prepend=0, append=shape[1] - covered)
    runs = np.stack([lengths, gaps], axis=1).ravel()  # in turn
    inside = np.roll(
        np.repeat(np.arange(len(runs)) % 2 == 0, runs), rng.integers(shape[1])
    )  # every moment is equally likely, ends too
    mask = np.broadcast_to(inside, shape)
    if whole:
        return mask.copy()
    while not (part := mask & token_mask(rng, shape)).any():
        pass
    return part
