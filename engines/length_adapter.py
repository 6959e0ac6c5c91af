"""The length adapter as integer gathers (paper, section 3.2.1): which feature each token frame is conditioned on."""

import numpy as np

from engines.contract import LENGTH_ADAPTERS, FloatArray, Grid, Int32Array, ModelConfig


def adapter_index(source: Grid, target: Grid, n_source: int, n_target: int, mode: str) -> Int32Array:
    """The length adapter: for each of n_target positions, the index of one of n_source features, int32 [n_target].

    Plain nearest-neighbour resizing, out[i] = in[floor(i * n_source / n_target)], goes by the two lengths. "repeat"
    goes by frame rates instead: position i gets the feature whose span contains the time at which position i begins.
    The results differ, because lengths are rounded: 80 frames do not last exactly as long as 862 tokens, so the lengths
    stretch the features a little, by another factor in windows of another length. There, 27 of 862 tokens get the
    neighbouring frame; with 32 sync features, which span 10.24 s, 310 do. With the rates, a moment gets the same
    feature in windows of any length. The last feature is repeated if the sequence ends early.

    "centre" takes the feature whose centre is nearest in time. All arithmetic is on integers, so nothing is rounded.

    Raises ValueError if `mode` is neither.
    """
    i = np.arange(n_target, dtype=np.int64)
    if mode == "repeat":
        index = i * target.stride * source.rate // (target.rate * source.stride)
    elif mode == "centre":
        # nearest j to ((offset_t + stride_t i) rate_s / rate_t - offset_s) / stride_s, halves upwards
        numerator = (target.offset + target.stride * i) * source.rate - source.offset * target.rate
        denominator = source.stride * target.rate
        index = (2 * numerator + denominator) // (2 * denominator)
    else:
        raise ValueError(f"unknown length adapter {mode!r}; choose from {', '.join(LENGTH_ADAPTERS)}")
    return np.clip(index, 0, n_source - 1).astype(np.int32)


def condition_indices(config: ModelConfig, n_tokens: int, n_clip: int, n_sync: int) -> dict[str, Int32Array]:
    """The index arrays of one window, by name. Each maps positions of one sequence to positions of another.

    frame_index [T] maps a token to its condition frame. memory_index [N] maps a clip frame to the sync feature that is
    joined to it in the encoder's input. clip_index [C] and sync_index [C] are for AdaLN-B, which joins two streams of
    different rates: its condition frames are the distinct (clip, sync) pairs. Adapting the length after the AdaLN
    projection then gives exactly the same as adapting it before.
    """
    mode = config.length_adapter
    out: dict[str, Int32Array] = {}
    if config.has_memory:
        out["memory_index"] = adapter_index(config.sync_grid, config.clip_grid, n_sync, n_clip, mode)
    if config.design == "adaln_b":
        clip = adapter_index(config.clip_grid, config.token_grid, n_clip, n_tokens, mode)
        sync = adapter_index(config.sync_grid, config.token_grid, n_sync, n_tokens, mode)
        pairs, frame = np.unique(np.stack([clip, sync]), axis=1, return_inverse=True)
        out["clip_index"], out["sync_index"] = (np.ascontiguousarray(p, dtype=np.int32) for p in pairs)
        out["frame_index"] = frame.reshape(-1).astype(np.int32)
    elif config.adaln_streams == ("clip",):
        out["frame_index"] = adapter_index(config.clip_grid, config.token_grid, n_clip, n_tokens, mode)
    elif config.adaln_streams == ("sync",):
        out["frame_index"] = adapter_index(config.sync_grid, config.token_grid, n_sync, n_tokens, mode)
    return out


def interpolation_matrix(n_out: int, n_in: int) -> FloatArray:
    """A matrix [n_out, n_in] that interpolates linearly in time (edges clamped, align_corners False)."""
    position = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    left = np.minimum(position.astype(np.int64), max(n_in - 2, 0))
    weight = position - left
    matrix = np.zeros((n_out, n_in), np.float32)
    matrix[np.arange(n_out), left] = 1 - weight
    matrix[np.arange(n_out), np.minimum(left + 1, n_in - 1)] += weight
    return matrix
