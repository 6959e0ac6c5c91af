"""Reading a clip's windows, and the features of its frames and sound."""

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
from train.checkpoint import USED, load, read_meta

Arrays = dict[str, NDArray[Any]]
Frames = NDArray[np.uint8]
FRAME_BATCH = 16  # frames encoded at once
SHORTEST = 1.0  # seconds


def load_components(folder: Path) -> dict[str, nn.Module]:
    """The codec and the encoders of a system folder, in eval mode; one that is absent is told and left out."""
    known = read_meta(folder)["components"]
    for name in USED:
        if name not in known:
            print(f"{folder} has no {name}: its array will be absent", file=sys.stderr)
    return {name: load(folder, name) for name in USED if name in known}


# ---------------------------------------------------------------- reading a clip
def video_windows(video: Video, config: ModelConfig, begin: float = 0.0) -> Iterator[tuple[Frames, Frames]]:
    """(clip frames [N, ...], sync frames [Y, ...]) of every whole window, the last frame repeated where frames end.

    The first window lies `begin` seconds after the first frame.
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


def sync_frames(clip: Path, grid: FrameGrid, seconds: float | None = None) -> Frames:
    """Frames uint8 [n, size, size, 3] of a clip; with `seconds` exactly that many, the last one repeated."""
    with Video(clip) as video:
        frames = [frame for _, frame in video.sample([grid])]
    n = len(frames) if seconds is None else round(seconds * grid.fps)
    return np.stack((frames + frames[-1:] * n)[:n])


# ---------------------------------------------------------------- features
@dataclass(frozen=True)
class Window:
    """What is encoded: frames of the two grids, and the sound [L] at the codec's and at the audio encoder's rate."""

    clip: Frames
    sync: Frames
    audio: NDArray[np.float32]
    low: NDArray[np.float32]


def encode_windows(
    components: Mapping[str, nn.Module], windows: Sequence[Window], device: torch.device | str = "cpu"
) -> list[Arrays]:
    """The arrays of each window, encoded as one batch on the device that the components are on."""
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
    """The arrays of one window: frames of the two grids, and its sound [L] at the codec's rate."""
    low = resample(audio, config.sample_rate, config.audio_rate)
    return encode_windows(components, [Window(*frames, audio, low)])[0]
