"""A copy of a video with the generated sound: the picture's packets are copied as they are, only sound is encoded.

What the copy could not keep is found by reading it again and comparing it with its source, stream by stream.
"""

import io
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from runtime.audio import MAX_DURATION, PathLike, Sound, check_sound, open_media, replacing, resample
from runtime.deliver.containers import CONTAINERS, FALLBACK_RATE, MOV_FAMILY, Container, Existing, join_or
from runtime.deliver.copied_streams import CopyPlan, Refused, matroska_fields, plan_streams
from runtime.deliver.describe import FileFacts, describe, losses
from runtime.deliver.matroska import set_track_fields
from runtime.deliver.packet_copy import PacketCopy, check_times
from runtime.errors import MediaError, OptionError
from runtime.media.packets import read_packets
from runtime.video import Video, picture_stream

__all__ = ["CONTAINERS", "Container", "Existing", "check_container", "mux"]

TRIAL_PACKETS = 48  # packets of the source that a trial copies, to see whether the kind of file takes them
SPHERICAL = "Spherical Mapping"  # libav's name of the side data
TRIAL_WIDTH = 320  # pixels at most, at which the first frames of source and trial are compared


def check_container(path: PathLike, video_path: PathLike | None = None, existing: Existing = "replace") -> Container:
    """The kind of file that a name asks for, by its suffix.

    Given the video to copy, also try whether this kind can hold it: its beginning is copied in memory and must decode
    to the same picture. Raises MediaError that names the kinds which would work.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        given = f"{suffix} files" if suffix else "a name without a suffix"
        raise MediaError(f"cannot write {path}: {given} cannot be made; give a name that ends in {join_or(CONTAINERS)}")
    if video_path is not None:
        _checked_plan(Path(video_path), Path(path), existing)
        with _refusals(Path(video_path), Path(path), existing):
            check_times(Path(video_path), CONTAINERS[suffix])
    return CONTAINERS[suffix]


def mux(
    video_path: PathLike,
    audio: Sound,
    rate: int,
    out_path: PathLike,
    existing: Existing = "replace",
    start: Fraction | None = None,
    max_duration: float = MAX_DURATION,
    check_cancelled: Callable[[], None] = lambda: None,
) -> list[str]:
    """Write a copy of a video with `audio`, mono [L] in [-1, 1] at `rate` Hz, as its sound; returns warnings.

    The sound starts with the first picture frame and is cut, or filled with silence, to the picture's length. Sound
    that the video has is left out, or with existing="keep" copied into tracks after the generated one. The kind of
    file follows from out_path's suffix: CONTAINERS. `start` is the first frame's time stamp (Take.start); without it,
    the video is opened once more to find it. `max_duration` bounds the video's length in seconds. `check_cancelled` is
    called for every packet and may raise.
    The warnings say what the copy lost. The file appears whole or not at all; MediaError says why not.
    """
    kind, audio = check_container(out_path), check_sound(audio, rate)
    if existing not in get_args(Existing):
        raise OptionError(f"existing is {existing!r}; choose from {', '.join(get_args(Existing))}")
    path, target = Path(video_path), Path(out_path)
    if start is None:
        with Video(path, max_duration) as video:
            start = video.start
    plan = _checked_plan(path, target, existing)
    if kind.rates is not None and rate not in kind.rates:
        audio, rate = resample(audio, rate, FALLBACK_RATE), FALLBACK_RATE
    with open_media(path) as source, replacing(target) as part, _refusals(path, target, existing):
        with av.open(os.path.abspath(part), "w", format=kind.format, container_options=plan.options) as out:
            job = PacketCopy(source, out, path, plan)
            job.lay_out(audio, rate, start)
            job.copy(max_duration=max_duration, check_cancelled=check_cancelled)
        if kind.format in ("matroska", "webm") and (fields := matroska_fields(source, plan, job.delays)):
            with open(part, "r+b") as file:
                set_track_fields(file, fields)
        notes = [*_losses(source, path, part, kind, existing), *job.notes]
    broken = [f"{path}: the file breaks off; what could be read was copied"] if job.broken_off else []
    return [f"{target}: {note}" for note in notes] + broken


def _losses(source: InputContainer, path: Path, part: Path, kind: Container, existing: Existing) -> list[str]:
    """What the copy lost, by comparison with the source."""
    facts = describe(source)
    return [*losses(facts, _facts(part), existing == "keep"), *_other_form(path, facts, part, kind)]


def _check_target(out_path: PathLike, video_path: PathLike) -> None:
    """Refuse to write over the video itself, under whatever name, or over what is not a regular file."""
    if not os.path.exists(out_path):
        return
    if os.path.exists(video_path) and os.path.samefile(video_path, out_path):
        raise MediaError(f"cannot write {out_path}: it is the video itself; give another name")
    if not os.path.isfile(out_path):
        kind = "a folder" if os.path.isdir(out_path) else "not a regular file"
        raise MediaError(f"cannot write {out_path}: it is {kind}; give another name")


def _checked_plan(path: Path, target: Path, existing: Existing) -> CopyPlan:
    """A plan whose trial went well. Raises MediaError with kinds of file that would work."""
    _check_target(target, path)
    kind = CONTAINERS[target.suffix.lower()]
    with _refusals(path, target, existing):
        plan = _try_kind(path, kind, existing)
    if kind.format in MOV_FAMILY:
        flags = [flag for flag in (plan.options.get("movflags"), "faststart") if flag]
        plan.options["movflags"] = "+".join(flags)
    return plan


@contextmanager
def _refusals(path: Path, target: Path, existing: Existing) -> Iterator[None]:
    """A refusal becomes a MediaError with advice; a full disk and its like stay an OSError."""
    try:
        yield
    except Refused as error:
        raise MediaError(f"{target} {error}; {_advice(path, target, existing)}") from error
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        reason = f"cannot hold this video ({error.strerror or error})"
        raise MediaError(f"{target} {reason}; {_advice(path, target, existing)}") from error


def _advice(path: Path, target: Path, existing: Existing) -> str:
    """Kinds of file that hold a video, found by trial."""
    holders: list[str] = []
    for suffix, kind in CONTAINERS.items():
        try:
            if kind != CONTAINERS[target.suffix.lower()]:
                _try_kind(path, kind, existing)
                check_times(path, kind)
                holders.append(suffix)
        except (MediaError, av.FFmpegError):
            continue
    if holders:
        return f"give a name in {join_or(holders)}"
    return "no kind of file that can be written holds it; convert the video first, for example to H.264, with ffmpeg"


def _try_kind(path: Path, kind: Container, existing: Existing) -> CopyPlan:
    """Copy a video's beginning in memory. Raises Refused if the picture is not the same."""
    with open_media(path) as source:
        plan, facts = plan_streams(source, path, kind, existing), describe(source)
    written = _trial(path, plan)
    with open_media(path) as source, av.open(written, "r") as copy:
        before, after = _first_frame(source, path), _first_frame(copy, path)
        lost = _lost_tags(facts, describe(copy))
    if before is not None and (after is None or before.shape != after.shape or (before != after).any()):
        raise Refused("would not show the same picture")
    if lost and kind.format in MOV_FAMILY:  # tags beyond the usual ones need another form, which fewer players read
        extended = replace(plan, options={**plan.options, "movflags": "use_metadata_tags"})
        with av.open(_trial(path, extended), "r") as copy:
            plan = extended if len(_lost_tags(facts, describe(copy))) < len(lost) else plan
    return plan


def _trial(path: Path, plan: CopyPlan) -> io.BytesIO:
    """A copy of a video's first packets."""
    written = io.BytesIO()
    with open_media(path) as source:
        with av.open(written, "w", format=plan.kind.format, container_options=plan.options) as out:
            job = PacketCopy(source, out, path, plan)
            job.lay_out(np.zeros(1, np.float32), FALLBACK_RATE, job.shift)
            job.copy(TRIAL_PACKETS)
    written.seek(0)
    return written


def _lost_tags(source: FileFacts, copy: FileFacts) -> list[str]:
    return [key for key, value in source.tags.items() if copy.tags.get(key) != value]


def _first_frame(container: InputContainer, path: Path) -> NDArray[Any] | None:
    """The picture's first frame, small, with its alpha; None when the first packets give none."""
    try:
        stream = picture_stream(container, path)
        stream.thread_type = "SLICE"
        for number, packet in enumerate(read_packets(container, stream)):
            for frame in stream.decode(packet if packet.size else None):
                width, height = (min(n, TRIAL_WIDTH) for n in (frame.width, frame.height))
                return frame.reformat(width, height, "rgba", threads=1).to_ndarray()
            if number == TRIAL_PACKETS:
                break
    except (MediaError, av.FFmpegError, ValueError):
        pass
    return None


def _other_form(path: Path, facts: FileFacts, copy: Path, kind: Container) -> list[str]:
    """A note when a copy describes a 360-degree picture in another form than its source."""
    if kind.format != "mov" or not any(SPHERICAL in stream.side_data for stream in facts.streams):
        return []
    usual = not facts.format.startswith("mov") or _contains(path, b"sv3d")
    apple = usual and not _contains(copy, b"sv3d")
    return ["says in Apple's form alone (vexu) that the picture is spherical; use .mp4 or .mkv for VR players"] * apple


def _contains(path: Path, word: bytes) -> bool:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(word) >= 0


def _facts(path: Path) -> FileFacts:
    with open_media(path) as container:
        return describe(container)
