"""The length adapter as integer gathers (paper, section 3.2.1): which feature each token frame is conditioned on."""

import numpy as np

from engines.contract import LENGTH_ADAPTERS, FloatArray, Grid, Int32Array, ModelConfig


def adapter_index(source: Grid, target: Grid, n_source: int, n_target: int, mode: str) -> Int32Array:
    """The length adapter: for each of n_target positions, the index of one of n_source features, int32 [n_target].

    "repeat" goes by frame rates: position i gets the feature whose span contains the time at which i begins; the last
    feature is repeated if the sequence ends early. Plain nearest index, in[floor(i * n_source / n_target)], goes by the
    two lengths instead. Lengths are rounded, so it stretches the features, by another factor in windows of another
    length: 27 of 862 tokens get a neighbour of the right frame out of 80, and 310 one of the right sync feature out of
    32, which span 10.24 s. By rates, a moment gets the same feature in windows of any length. "centre" takes the one
    whose centre is nearest in time. Raises ValueError if `mode` is neither.
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


def condition_indices(config: ModelConfig, n_tokens: int, n_frames: int, n_sync: int) -> dict[str, Int32Array]:
    """The index arrays of one window, by name. Each maps positions of one sequence to positions of another.

    frame_index [T] maps a token to its condition frame. memory_index [N] maps a frame feature to the sync feature that
    is joined to it in the encoder's input. frame_features_index [C] and sync_features_index [C] are the distinct pairs
    of features that are AdaLN-B's condition frames: so adapting the length after the AdaLN projection is exactly
    adapting it before.
    """
    mode = config.length_adapter
    out: dict[str, Int32Array] = {}
    if config.has_memory:
        out["memory_index"] = adapter_index(config.sync_grid, config.frame_grid, n_sync, n_frames, mode)
    if config.design == "adaln_b":
        frame = adapter_index(config.frame_grid, config.token_grid, n_frames, n_tokens, mode)
        sync = adapter_index(config.sync_grid, config.token_grid, n_sync, n_tokens, mode)
        pairs, pair = np.unique(np.stack([frame, sync]), axis=1, return_inverse=True)
        out["frame_features_index"], out["sync_features_index"] = (
            np.ascontiguousarray(p, dtype=np.int32) for p in pairs
        )
        out["frame_index"] = pair.reshape(-1).astype(np.int32)
    elif config.adaln_streams == ("frame",):
        out["frame_index"] = adapter_index(config.frame_grid, config.token_grid, n_frames, n_tokens, mode)
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
