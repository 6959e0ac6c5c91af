"""Prepares a folder of videos: writes arrays that train MaskVAT and SCAV, or frames that train the sync encoder.

A video's sound is ID.flac or ID.wav beside it, or else the video's own; ID.json may list its events. Each
whole window of 10 s becomes one file: OUT/ID.npz, OUT/ID-w1.npz and so on. The rest of a video is left out. A video
shorter than one window is padded with its last frame and silence. The files hold no pixels, but these arrays:

    codes           uint16 [9, T]
    frame_features  float16 [N, Df]
    sync_features   float16 [S, Ds]
    audio_features  float16 [A, 8, D]
    events          float32 [E, 3]: time in the window, end (0 for a contact), strength
    concepts        JSON: [begin, end, {concept: weight}] of what the window shows; only if ID.json lists concepts. Such
                    a window has no frame_features, because training makes them up
    made_by         JSON: a digest of the weights of each component that encode (train.checkpoint.encoding_sha256)

An array is absent if the system has no component for it. Clips that are hard links to one video share its features: a
picture is encoded once. A second run continues after an interruption. It makes only
the arrays whose component is new or has other weights. A codec's decoder does not count: it does not change the codes.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from engines.contract import ModelConfig
from runtime.audio import replacing
from runtime.errors import MediaError
from runtime.video import FrameGrid, Video
from train.extras import requires_extra

with requires_extra("train", __name__):
    from torch import nn

    from train.checkpoint import PREPARED_ARRAYS, encoding_sha256, read_meta, system_config
    from train.data.video_files import (
        BAD,
        VIDEOS,
        concepts_inside,
        events_inside,
        video_concepts,
        video_events,
        video_sound,
    )
    from train.errors import CheckpointError
    from train.models.s3d import BUNDLED
    from train.prepare.features import SHORTEST, Arrays, encode_window, load_components, sync_frames, video_windows

PICTURE = ("frame_encoder", "sync_encoder")  # components that encode the picture
NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)
BESIDE = (".flac", ".wav", ".json")  # files that may accompany a video of the same name


# ---------------------------------------------------------------- a video
def prepare_video(
    path: Path, components: Mapping[str, nn.Module], config: ModelConfig, pictures: Sequence[Arrays] = ()
) -> Iterator[Arrays]:
    """Yield the arrays of each window of a video. Raises MediaError, or ValueError if it is too short.

    `pictures`: arrays of each window's picture that are known already. If no others are needed, no picture is decoded.
    """
    length = config.window_seconds * config.sample_rate
    events, concepts = video_events(path), video_concepts(path)
    known = pictures[0] if pictures else {}
    components = {name: module for name, module in components.items() if PREPARED_ARRAYS[name] not in known}
    with Video(path) as video:
        audio = video_sound(path, float(video.start), config.sample_rate)
        if len(audio) < SHORTEST * config.sample_rate:
            raise ValueError(f"{len(audio) / config.sample_rate:.2f} s of sound; at least {SHORTEST} s are needed")
        decoded = not pictures or any(name in PICTURE for name in components)
        windows = video_windows(video, config) if decoded else repeat((NO_FRAMES, NO_FRAMES), len(pictures))
        for index, frames in enumerate(windows):
            part = audio[index * length : (index + 1) * length]
            arrays = encode_window(components, config, frames, np.pad(part, (0, length - len(part))))
            arrays |= pictures[index] if pictures else {}
            begin, size = index * config.window_seconds, config.window_seconds
            arrays["events"] = events_inside(events, begin, size)
            if concepts:
                arrays["concepts"] = np.array(json.dumps(concepts_inside(concepts, begin, size)))
            yield arrays


# ---------------------------------------------------------------- folders
def find_videos(folder: Path) -> tuple[list[Path], list[Path]]:
    """The videos of a folder, and the files that belong to none of them. Raises MediaError if there is no video."""
    files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    videos = [p for p in files if p.suffix.lower() in VIDEOS]
    if not videos:
        raise MediaError(f"{folder} holds no videos ({', '.join(VIDEOS)}), only {len(files)} other files")
    stems = {p.stem for p in videos}
    used = {p for p in files if p.suffix.lower() in VIDEOS or (p.suffix in BESIDE and p.stem in stems)}
    return videos, [p for p in files if p not in used]


def report_skipped(video: Path, reason: Exception | str) -> str:
    """Print at once that a file is skipped, since the run may last hours; returns "name: reason"."""
    line = f"{video.name}: {reason}"
    print(f"skipped {line}", file=sys.stderr, flush=True)
    return line


def window_path(out: Path, video: Path, index: int) -> Path:
    """The file of one window of a video."""
    return out / (f"{video.stem}-w{index}.npz" if index else f"{video.stem}.npz")


def kept_arrays(path: Path, made_by: Mapping[str, str]) -> Arrays:
    """The arrays of an earlier run that these weights made; none if the file is absent or unreadable."""
    try:
        with np.load(path) as arrays:
            before = json.loads(str(arrays["made_by"]))
            return {
                PREPARED_ARRAYS[n]: arrays[PREPARED_ARRAYS[n]]
                for n, sha256 in made_by.items()
                if before.get(n) == sha256
            }
    except (*BAD, BadZipFile, EOFError):
        return {}


def known_pictures(out: Path, twins: Sequence[Path], made_by: Mapping[str, str]) -> list[Arrays]:
    """Arrays of each window's picture that prepared videos with the same picture (`twins`) have, or none.

    `made_by`: the wanted components of the picture, and the sha256 of their weights.
    """
    windows: list[Arrays] = []
    for component in made_by.items():
        for video in twins:
            found: list[Arrays] = []
            while kept := kept_arrays(window_path(out, video, len(found)), dict([component])):
                found.append(kept)
            if found and len(found) == len(windows or found):
                windows = [a | b for a, b in zip(windows or [{}] * len(found), found, strict=True)]
                break
    return windows


def videos_of_pictures(videos: Sequence[Path]) -> dict[tuple[int, int], list[Path]]:
    """File on the disk -> the videos that are names of it."""
    found: dict[tuple[int, int], list[Path]] = {}
    for video in videos:
        found.setdefault(file_key(video), []).append(video)
    return found


def file_key(path: Path) -> tuple[int, int]:
    """What hard links to one file have in common."""
    found = path.stat()
    return found.st_dev, found.st_ino


def prepare_features(videos: list[Path], system: Path, out: Path) -> list[str]:
    """Write the arrays of all videos; returns "video: reason" for each unusable one. Raises CheckpointError."""
    components = load_components(system)
    if not components:
        raise CheckpointError(f"{system} has none of {', '.join(PREPARED_ARRAYS)}; train or import them first")
    config = system_config(components)
    made_by = {name: encoding_sha256(system, name) for name in components}
    twins, bad = videos_of_pictures(videos), []
    for video in videos:
        try:
            made_up = ("frame_encoder",) if video_concepts(video) else ()
            needed = {name: sha256 for name, sha256 in made_by.items() if name not in made_up}
            kept = kept_arrays(window_path(out, video, 0), needed)
            wanted = {name: components[name] for name in needed if PREPARED_ARRAYS[name] not in kept}
            if not wanted:
                continue
            pictures = known_pictures(out, twins[file_key(video)], {n: needed[n] for n in wanted if n in PICTURE})
            windows = list(prepare_video(video, wanted, config, pictures))
            if not windows:
                raise ValueError("it has no picture")
        except BAD as error:
            bad.append(report_skipped(video, error))
            continue
        for index in reversed(range(len(windows))):  # The first window is written last: it marks the video complete.
            path = window_path(out, video, index)
            arrays = kept_arrays(path, {n: needed[n] for n in needed if n not in wanted}) | windows[index]
            with replacing(path) as part, open(part, "wb") as file:
                np.savez(file, **arrays, made_by=np.array(json.dumps(needed)))
        print(video.stem, flush=True)
    return bad


def prepare_frames(videos: list[Path], system: Path, out: Path) -> list[str]:
    """Write ID.frames.npy of all videos, at the sync encoder's size; returns "video: reason" for each unusable one."""
    entry = read_meta(system)["components"].get("sync_encoder", {}).get("config", {})
    grid = FrameGrid(25, entry.get("resize", BUNDLED.resize), entry.get("size", BUNDLED.size))
    bad = []
    for video in videos:
        path = out / f"{video.stem}.frames.npy"
        if path.exists():
            continue
        try:
            video_events(video)  # Without readable labels, the frames are useless.
            frames = sync_frames(video, grid)
        except BAD as error:
            bad.append(report_skipped(video, error))
            continue
        with replacing(path) as part, open(part, "wb") as file:
            np.save(file, frames)
        print(video.stem, flush=True)
    return bad
