"""Inputs that the host makes for the graphs: positions and conditions for `step`, chunks for the codec."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.base import Feeds
from engines.contract import Int32Array, ModelConfig
from engines.length_adapter import condition_indices

CODEC_CHUNK = 256  # token frames decoded at once: exact with context, and a third of the memory of a whole window
# chunks begin at multiples of this many token frames: the phases of the small codec's tones repeat after so many
# (train.models.codec.PERIOD). Other codecs do not care.
CODEC_PERIOD = 4
TEXT_TOKENS = 256  # example texts have ids below this: single bytes in every tokeniser


def positions(masked: NDArray[np.bool_]) -> Int32Array:
    """Where `step` draws: index [B, K, P] for masked [B, K, T], the masked token frames of each codebook first.

    P is the largest number of masked frames in a codebook. What is drawn at other frames is not used.
    """
    n = max(1, int(masked.sum(axis=-1).max()))
    return np.argsort(~masked, axis=-1, kind="stable")[..., :n].astype(np.int32)


def all_positions(shape: tuple[int, ...]) -> Int32Array:
    """The index [B, K, T] that draws everywhere. It has one shape in every step, as recorded GPU runs need."""
    return np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape).copy()


def window_indices(config: ModelConfig, n_tokens: int, n_frames: int, n_sync: int) -> Feeds:
    """The integer inputs of `condition` and `step` for one window, by name.

    As `condition_indices`, but `frame_index` is [2, T], as `step` takes it: the frames of the video, then those of
    [NULL], which are all the last row of `modulation`.
    """
    indices: Feeds = dict(condition_indices(config, n_tokens, n_frames, n_sync))
    if "frame_index" in indices:
        null = condition_frames(config, indices, n_frames, n_sync)
        indices["frame_index"] = np.stack([indices["frame_index"], np.full(n_tokens, null, np.int32)])
    return indices


def condition_frames(config: ModelConfig, indices: Feeds, n_frames: int, n_sync: int) -> int:
    """Condition frames of a window: the rows of `modulation` without that of [NULL]."""
    pairs = len(indices.get("frame_features_index", ()))
    return {"adaln_a": n_frames, "adaln_b": pairs}.get(config.design, n_sync)


def step_conditions(
    config: ModelConfig, n_tokens: int, features: Feeds, run_condition: Callable[[Feeds], Feeds]
) -> Feeds:
    """Everything that `step` needs besides codes, index, u and guidance. It is the same for every candidate and step.

    `features` are frame_features [1, N, Df] and, if the design uses them, sync_features [1, S, Ds].
    `run_condition` runs the `condition` graph.
    """
    n_frames = features["frame_features"].shape[1]
    n_sync = features["sync_features"].shape[1] if "sync_features" in features else 0
    indices = window_indices(config, n_tokens, n_frames, n_sync)
    frame_index = indices.pop("frame_index", None)  # the only one that goes to `step`
    feeds = run_condition(features | indices)
    return feeds if frame_index is None else feeds | {"frame_index": frame_index}


def conditional_only(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The inputs of `step` without the group of [NULL], for guidance 0. Nothing is computed for it then."""
    return {name: value[:1] if name in ("frame_index", "keys", "values") else value for name, value in feeds.items()}


def replace_null(feeds: Feeds, other: Feeds) -> Feeds:
    """The inputs of `step` that guide away from another condition instead of [NULL] ("not this").

    Both are results of `step_conditions` for one window: `other` from other frame features and the same sync features.
    Group 0 stays the video; group 1 becomes the video of `other`, whose rows of `modulation` follow the first's.
    """
    out = dict(feeds)
    for name in ("keys", "values"):
        if name in feeds:
            out[name] = np.concatenate([feeds[name][:1], other[name][:1]])
    if "modulation" in feeds:
        rows = [x["modulation"][:, :-1] for x in (feeds, other)]  # without [NULL]
        out["modulation"] = np.concatenate(rows, axis=1)
        out["frame_index"] = np.stack([feeds["frame_index"][0], rows[0].shape[1] + other["frame_index"][0]])
    return out
