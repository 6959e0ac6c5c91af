"""Clips -> the arrays that MaskVAT and SCAV are trained on.

    python -m train.prepare CLIPS SYSTEM OUT            codes and features of every clip, with SYSTEM's components
    python -m train.prepare CLIPS SYSTEM OUT --frames   only the frames that the sync encoder is trained on

A clip is a video with ID.flac or ID.wav beside it (else its own sound) and perhaps ID.json with its events. Every whole
window of 10 s becomes OUT/ID.npz, then OUT/ID-w1.npz and so on; a rest is left out, and a clip shorter than a window is
filled with its last frame and silence. No pixels are kept. An array whose component SYSTEM lacks is absent:

    codes uint16 [9, T], clip_features float16 [N, Dc], sync_features float16 [S, Ds], audio_features float16 [A, 8, D],
    events float32 [E, 3] (time in the window, end or 0 for a contact, strength), made_by (JSON: which weights)

The same command goes on where it stopped, and makes again only the arrays whose component is new or another one.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engines.contract import ModelConfig
from runtime.audio import OptionError, open_media, read_audio, replacing, resample
from runtime.video import FrameGrid, MediaError, Video
from train.extras import extra

with extra("train", __name__):
    import torch
    from torch import Tensor, nn

    from train.checkpoint import CheckpointError, load, read_meta
    from train.s3d import BUNDLED

Arrays = dict[str, NDArray[Any]]
Frames = NDArray[np.uint8]
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
BESIDE = (".flac", ".wav", ".json")  # what may lie beside a video of the same name
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
def video_windows(video: Video, config: ModelConfig) -> Iterator[tuple[Frames, Frames]]:
    """(clip frames [N, ...], sync frames [Y, ...]) of every whole window, the last frame repeated where frames end."""
    grids = (
        FrameGrid(config.clip_fps, config.clip_resize, config.clip_size),
        FrameGrid(config.sync_fps, config.sync_resize, config.sync_size),
    )
    need = (config.n_clip(config.window_tokens), config.n_sync_frames(config.window_tokens))
    advance = [config.window_seconds * grid.fps for grid in grids]
    buffers: list[list[Frames]] = [[], []]
    done = 0

    def cut() -> tuple[Frames, Frames]:
        clip, sync = (np.stack((b + b[-1:] * n)[:n]) for b, n in zip(buffers, need, strict=True))
        return clip, sync

    for grid, frame in video.sample(grids):
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


def sync_frames(clip: Path, grid: FrameGrid, seconds: float | None = None) -> Frames:
    """Frames uint8 [n, size, size, 3] of a clip; with `seconds` exactly that many, the last one repeated."""
    with Video(clip) as video:
        frames = [frame for _, frame in video.sample([grid])]
    n = len(frames) if seconds is None else round(seconds * grid.fps)
    return np.stack((frames + frames[-1:] * n)[:n])


# ---------------------------------------------------------------- features
def encode_window(
    components: Mapping[str, nn.Module], config: ModelConfig, frames: tuple[Frames, Frames], audio: NDArray[np.float32]
) -> Arrays:
    """The arrays of one window: frames of the two grids, and its sound [L] at the codec's rate."""

    def half(x: Tensor) -> NDArray[np.float16]:
        return x.float().numpy().astype(np.float16)

    out: Arrays = {}
    clip, sync = (torch.from_numpy(f) for f in frames)
    with torch.inference_mode():
        if codec := components.get("codec"):
            out["codes"] = codec.encode(torch.from_numpy(audio)[None])[0].numpy().astype(np.uint16)
        if encoder := components.get("frame_encoder"):
            out["clip_features"] = half(torch.cat([encoder(batch) for batch in clip.split(FRAME_BATCH)]))
        if encoder := components.get("sync_encoder"):
            out["sync_features"] = half(encoder(sync[None])[0])
        if encoder := components.get("audio_encoder"):
            low = resample(audio, config.sample_rate, config.audio_rate)
            out["audio_features"] = half(encoder(torch.from_numpy(low)[None])[0])
    return out


def prepare_clip(path: Path, components: Mapping[str, nn.Module], config: ModelConfig) -> Iterator[Arrays]:
    """The arrays of each window of a clip. Raises MediaError, or ValueError for a clip that is too short."""
    length = config.window_seconds * config.sample_rate
    events = clip_events(path)
    with Video(path) as video:
        audio = clip_sound(path, float(video.start), config.sample_rate)
        if len(audio) < SHORTEST * config.sample_rate:
            raise ValueError(f"{len(audio) / config.sample_rate:.2f} s of sound; at least {SHORTEST} s are needed")
        for index, frames in enumerate(video_windows(video, config)):
            part = audio[index * length : (index + 1) * length]
            arrays = encode_window(components, config, frames, np.pad(part, (0, length - len(part))))
            begin = index * config.window_seconds
            inside = (events[:, 0] >= begin) & (events[:, 0] < begin + config.window_seconds)
            local = events[inside]
            local[:, :2] -= np.where(local[:, :2] > 0, begin, 0)  # an end of 0 stays
            arrays["events"] = local
            yield arrays


# ---------------------------------------------------------------- folders
def find_clips(folder: Path) -> tuple[list[Path], list[Path]]:
    """(videos, files that belong to none of them). Raises MediaError where there is no video."""
    files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    clips = [p for p in files if p.suffix.lower() in VIDEOS]
    if not clips:
        raise MediaError(f"{folder} holds no videos ({', '.join(VIDEOS)}), only {len(files)} other files")
    stems = {p.stem for p in clips}
    used = {p for p in files if p.suffix.lower() in VIDEOS or (p.suffix in BESIDE and p.stem in stems)}
    return clips, [p for p in files if p not in used]


def skip(clip: Path, reason: Exception | str) -> str:
    """Tell at once, for hours may follow, that a file is left out; returns its name and the reason."""
    line = f"{clip.name}: {reason}"
    print(f"skipped {line}", file=sys.stderr, flush=True)
    return line


def window_path(out: Path, clip: Path, index: int) -> Path:
    return out / (f"{clip.stem}-w{index}.npz" if index else f"{clip.stem}.npz")


def kept_arrays(path: Path, made_by: Mapping[str, str]) -> Arrays:
    """The arrays of a file that these weights have made; none where there is no readable file."""
    try:
        with np.load(path) as arrays:
            before = json.loads(str(arrays["made_by"]))
            return {USED[n]: arrays[USED[n]] for n, sha256 in made_by.items() if before.get(n) == sha256}
    except (*BAD, BadZipFile, EOFError):
        return {}


def prepare_features(clips: list[Path], system: Path, out: Path) -> list[str]:
    """Write the arrays of all clips; returns "clip: reason" of those that could not be used."""
    components = load_components(system)
    if not components:
        raise CheckpointError(f"{system} has none of {', '.join(USED)}; train or import them first")
    config, known = system_config(components), read_meta(system)["components"]
    made_by = {name: known[name]["sha256"] for name in components}
    bad = []
    for clip in clips:
        kept = kept_arrays(window_path(out, clip, 0), made_by)
        wanted = {name: module for name, module in components.items() if USED[name] not in kept}
        if not wanted:
            continue
        try:
            windows = list(prepare_clip(clip, wanted, config))
            if not windows:
                raise ValueError("it has no picture")
        except BAD as error:
            bad.append(skip(clip, error))
            continue
        for index in reversed(range(len(windows))):  # the first window last: it says that the clip is complete
            path = window_path(out, clip, index)
            arrays = kept_arrays(path, {n: made_by[n] for n in components if n not in wanted}) | windows[index]
            with replacing(path) as part, open(part, "wb") as file:
                np.savez(file, **arrays, made_by=np.array(json.dumps(made_by)))
        print(clip.stem, flush=True)
    return bad


def prepare_frames(clips: list[Path], system: Path, out: Path) -> list[str]:
    """Write ID.frames.npy of all clips, at the sync encoder's size; returns the bad ones."""
    entry = read_meta(system)["components"].get("sync_encoder", {}).get("config", {})
    grid = FrameGrid(25, entry.get("resize", BUNDLED.resize), entry.get("size", BUNDLED.size))
    bad = []
    for clip in clips:
        path = out / f"{clip.stem}.frames.npy"
        if path.exists():
            continue
        try:
            clip_events(clip)  # no use without its labels
            frames = sync_frames(clip, grid)
        except BAD as error:
            bad.append(skip(clip, error))
            continue
        with replacing(path) as part, open(part, "wb") as file:
            np.save(file, frames)
        print(clip.stem, flush=True)
    return bad


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("system", type=Path, help="folder of trained or imported components")
    parser.add_argument("out", type=Path, help="folder for the arrays")
    parser.add_argument("--frames", action="store_true", help="write the sync encoder's training frames instead")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: as many as there are cores)")
    args = parser.parse_args(arguments)
    try:
        if args.threads is not None:
            if args.threads < 1:
                raise OptionError(f"--threads is {args.threads}; it must be 1 or more")
            torch.set_num_threads(args.threads)
        clips, others = find_clips(args.clips)
        for path in others:
            skip(path, "no video, and nothing of a video here")
        args.out.mkdir(parents=True, exist_ok=True)
        bad = (prepare_frames if args.frames else prepare_features)(clips, args.system, args.out)
    except (MediaError, OptionError, OSError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if len(bad) == len(clips):
        print(f"error: none of the {len(clips)} clips in {args.clips} can be used; first {bad[0]}", file=sys.stderr)
        return 1
    print(f"{len(clips) - len(bad)} of {len(clips)} clips ready in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
