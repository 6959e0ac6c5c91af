"""What the host gives to graphs: where `step` draws, the conditions of a group, and how much the codec gets at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.contract import Int32Array

CODEC_CHUNK = 256  # token frames decoded at once: exact with context, and a third of the memory of a whole window


def positions(masked: NDArray[np.bool_]) -> Int32Array:
    """Where `step` draws: index [B, K, P] of masked [B, K, T], each codebook's masked token frames first.

    P is the most that a codebook has; what is not masked is drawn in vain.
    """
    n = max(1, int(masked.sum(axis=-1).max()))
    return np.argsort(~masked, axis=-1, kind="stable")[..., :n].astype(np.int32)


def all_positions(shape: tuple[int, ...]) -> Int32Array:
    """The index [B, K, T] that draws everywhere: of one shape in every step, as cards that replay it need it."""
    return np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape).copy()


def add_null_row(frame_index: Int32Array, rows: int) -> Int32Array:
    """frame_index [2, T] of `step` by that of a window [T]: the clip's frames, and [NULL]'s, the last of `rows`."""
    return np.stack([frame_index, np.full_like(frame_index, rows - 1)])


def conditional_only(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Feeds of `step` without the group of [NULL], for guidance 0: nothing is computed for it then."""
    return {name: value[:1] if name in ("frame_index", "keys", "values") else value for name, value in feeds.items()}
