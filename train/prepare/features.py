"""Cuts a video into windows of frames, and encodes windows: codes and features from a system's components."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.contract import ModelConfig
from runtime.audio import resample
from runtime.video import FrameGrid, Video
from train.checkpoint import PREPARED_ARRAYS, load, read_meta

Arrays = dict[str, NDArray[Any]]
Frames = NDArray[np.uint8]
FRAME_BATCH = 16  # frames encoded at once
SHORTEST = 1.0  # seconds of sound that a video must have


def load_components(folder: Path) -> dict[str, nn.Module]:
    """Load the codec and the encoders of a system folder, in eval mode. A missing one is reported and skipped."""
    known = read_meta(folder)["components"]
    for name in PREPARED_ARRAYS:
        if name not in known:
            print(f"{folder} has no {name}; its array is left out", file=sys.stderr)
    return {name: load(folder, name) for name in PREPARED_ARRAYS if name in known}


# ---------------------------------------------------------------- reading a video
def video_windows(video: Video, config: ModelConfig, begin: float = 0.0) -> Iterator[tuple[Frames, Frames]]:
    """Yield (CLIP frames [N, ...], sync frames [Y, ...]) of every whole window.

    The first window starts `begin` seconds after the first frame. A window at the end may lack a few frames; then its
    last frame is repeated. The same holds for a video shorter than one window.
    """
    grids = (
        FrameGrid(config.clip_fps, config.clip_resize, config.clip_size),
        FrameGrid(config.sync_fps, config.sync_resize, config.sync_size),
    )
    need = (config.n_clip(config.window_tokens), config.n_sync_frames(config.window_tokens))
    advance = [config.window_seconds * grid.fps for grid in grids]
    buffers: list[list[Frames]] = [[], []]
    skip = [round(begin * grid.fps) for grid in grids]
    done = 0

    def cut() -> tuple[Frames, Frames]:
        clip, sync = (np.stack((b + b[-1:] * n)[:n]) for b, n in zip(buffers, need, strict=True))
        return clip, sync

    for grid, frame in video.sample(grids):
        if skip[grid]:
            skip[grid] -= 1
            continue
        buffers[grid].append(frame)
        if all(len(b) >= n for b, n in zip(buffers, need, strict=True)):
            yield cut()
            buffers = [b[n:] for b, n in zip(buffers, advance, strict=True)]
            done += 1
    if all(buffers) and (not done or all(len(b) >= n for b, n in zip(buffers, advance, strict=True))):
        yield cut()


def sync_frames(path: Path, grid: FrameGrid, seconds: float | None = None) -> Frames:
    """All frames uint8 [n, size, size, 3] of a video on a grid.

    With `seconds`, n is exactly that long: frames are cut, or the last one is repeated.
    """
    with Video(path) as video:
        frames = [frame for _, frame in video.sample([grid])]
    n = len(frames) if seconds is None else round(seconds * grid.fps)
    return np.stack((frames + frames[-1:] * n)[:n])


# ---------------------------------------------------------------- features
@dataclass(frozen=True)
class Window:
    """One window: frames of both grids, and its sound [L] at the codec's rate (`audio`) and the audio encoder's."""

    clip: Frames
    sync: Frames
    audio: NDArray[np.float32]
    low: NDArray[np.float32]


def encode_windows(
    components: Mapping[str, nn.Module], windows: Sequence[Window], device: torch.device | str = "cpu"
) -> list[Arrays]:
    """Encode windows as one batch; returns the arrays of each. `device` is where the components are."""
    made: Arrays = {}

    def batch(parts: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(parts)).to(device)

    def half(x: Tensor) -> NDArray[np.float16]:
        return x.float().cpu().numpy().astype(np.float16)

    with torch.inference_mode():
        if codec := components.get("codec"):
            made["codes"] = codec.encode(batch([w.audio for w in windows])).cpu().numpy().astype(np.uint16)
        if encoder := components.get("frame_encoder"):
            made["clip_features"] = np.stack(
                [
                    half(torch.cat([encoder(part) for part in batch(w.clip[None])[0].split(FRAME_BATCH)]))
                    for w in windows
                ]
            )
        if encoder := components.get("sync_encoder"):
            made["sync_features"] = half(encoder(batch([w.sync for w in windows])))
        if encoder := components.get("audio_encoder"):
            made["audio_features"] = half(encoder(batch([w.low for w in windows])))
    return [{name: array[i] for name, array in made.items()} for i in range(len(windows))]


def encode_window(
    components: Mapping[str, nn.Module], config: ModelConfig, frames: tuple[Frames, Frames], audio: NDArray[np.float32]
) -> Arrays:
    """Encode one window, given the frames of both grids and its sound [L] at the codec's rate."""
    low = resample(audio, config.sample_rate, config.audio_rate)
    return encode_windows(components, [Window(*frames, audio, low)])[0]
