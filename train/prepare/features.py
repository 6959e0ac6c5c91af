"""Reading a clip's windows, and the features of its frames and sound."""

import json
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
from runtime.audio import open_media, read_audio, resample
from runtime.video import FrameGrid, MediaError, Video
from train.checkpoint import load, read_meta

Arrays = dict[str, NDArray[Any]]
Frames = NDArray[np.uint8]
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
BAD = (MediaError, ValueError, KeyError, OSError)  # what a file that cannot be used raises
USED = {  # component -> the array that it makes
    "codec": "codes",
    "frame_encoder": "clip_features",
    "sync_encoder": "sync_features",
    "audio_encoder": "audio_features",
}
FRAME_BATCH = 16  # frames encoded at once
SHORTEST = 1.0  # seconds


def system_config(components: Mapping[str, nn.Module], **options: Any) -> ModelConfig:
    """The contract's sizes for these components. What they are overrides `options` (design, transformer sizes, ...)."""
    facts: dict[str, Any] = {}
    if codec := components.get("codec"):
        books, size, latent = codec.embedding_table().shape
        facts |= {"n_codebooks": books, "codebook_size": size, "codec_latent": latent, "codec_context": codec.context}
        facts |= {"sample_rate": codec.config.sample_rate, "hop_length": codec.config.hop_length}
    for name, role, fields in (
        ("clip", "frame_encoder", ("resize", "size", "dim")),
        ("sync", "sync_encoder", ("fps", "resize", "size", "dim", "stride", "offset")),
        ("audio", "audio_encoder", ("dim",)),
        ("scav", "scav", ("dim",)),
    ):
        if module := components.get(role):
            facts |= {f"{name}_{field}": getattr(module, field) for field in fields}
    return ModelConfig(**(options | facts))


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


def clip_sound(path: Path, video_start: float, rate: int) -> NDArray[np.float32]:
    """Sound [L] from the picture's start on: that of ID.flac or ID.wav, else the video's own."""
    for suffix in (".flac", ".wav"):
        if (beside := path.with_suffix(suffix)).exists():
            return read_audio(beside, rate)
    audio = read_audio(path, rate)
    with open_media(path) as container:
        stream = container.streams.audio[0]
        late = float((stream.start_time or 0) * (stream.time_base or 0)) - video_start
    shift = round(late * rate)
    return np.pad(audio, (shift, 0)) if shift >= 0 else audio[-shift:]


def clip_events(path: Path) -> NDArray[np.float32]:
    """[E, 3]: time, end (0 for a contact), strength; none without ID.json. Raises ValueError for a bad one."""
    label = path.with_suffix(".json")
    if not label.exists():
        return np.zeros((0, 3), np.float32)
    try:
        events = json.loads(label.read_text(encoding="utf-8"))["events"]
        rows = [(e["time"], e.get("end", 0.0), e.get("strength", 1.0)) for e in events]
        table = np.array(rows, np.float32).reshape(-1, 3)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{label.name} is no table of events ({error!r}); make it again") from error
    if not np.isfinite(table).all():
        raise ValueError(f"{label.name} has times or strengths that are not numbers; make it again")
    return table


def events_inside(events: NDArray[np.float32], begin: float, size: float) -> NDArray[np.float32]:
    """The events of a window of `size` seconds, in its own time; an end of 0 stays."""
    local = events[(events[:, 0] >= begin) & (events[:, 0] < begin + size)]
    local[:, :2] -= np.where(local[:, :2] > 0, np.float32(begin), 0)
    return local


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
