"""Reads clips window by window, and drops those that are unfit for training.

The paper (section 4) drops clips that are silent, shorter than 10 s, or below 15 fps. `Filters` holds the thresholds.
What is measured is stored with each sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from engines.contract import ModelConfig
from runtime.audio import open_media
from runtime.errors import MediaError
from runtime.video import Video, picture_stream
from train.data.video_files import BAD, events_inside, video_events, video_sound
from train.prepare.features import Frames, Window, video_windows
from train.prepare.sources import Clip

FLOOR_DB = -200.0  # dBFS of digital silence
READ_ERRORS = (*BAD, av.FFmpegError, MemoryError)
UNREADABLE = ("unreadable", "no sound", "no picture", "crashed")  # reasons that do not come from a filter


@dataclass(frozen=True)
class Filters:
    """Thresholds. Length and frame rate are the paper's, less a little for rounding in the files.

    The paper does not say what counts as silent; these levels are our choice.
    """

    silence_peak: float = -60.0  # dBFS; a window with a lower peak is silent
    silence_rms: float = -70.0  # dBFS; a window with a lower RMS level is silent too
    min_seconds: float = 9.95  # of sound and of picture in a window; the rest is padded
    min_fps: float = 14.9  # by the header, and as counted
    max_gap: float = 0.1  # seconds between the starts of sound and picture
    max_still: float = 1.0  # share of frames (at clip_fps) that equal the one before; 1 keeps still pictures
    still_difference: float = 0.5  # mean difference (of 255) below which two frames are equal


class Dropped(Exception):
    """A clip or window is left out: the reason, and what was measured."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # Pickling passes these arguments to __init__ again.
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Sample:
    """A window that passed all filters, and the record of its origin and measurements."""

    name: str
    window: Window
    events: NDArray[np.float32]
    record: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- measures
@dataclass(frozen=True)
class FileProperties:
    """What a file's packets show."""

    fps: float  # the lower of the header's value and the counted one
    gap: float  # seconds from the picture's first packet to the sound's; 0 if the sound has its own file
    sounds: int  # number of sound tracks; the first one is used


def file_properties(path: Path) -> FileProperties:
    """Read a file's packets without decoding them. Raises MediaError, or Dropped if it has no picture or no sound."""
    with open_media(path) as container:
        try:
            stream = picture_stream(container, path)
        except MediaError as error:
            raise Dropped("no picture", str(error)) from error
        sounds = [s for s in container.streams.audio if s.codec_context is not None]
        beside = any(path.with_suffix(suffix).exists() for suffix in (".flac", ".wav"))
        if not sounds and not beside:
            raise Dropped("no sound", "it has no decodable sound track")
        header = float(stream.average_rate or 0)
        times, first_sound = [], None
        try:
            for packet in container.demux([stream, *sounds[:1]]):
                if packet.size == 0 or packet.pts is None:
                    continue
                time = float(packet.pts * packet.time_base)
                if packet.stream is stream:
                    times.append(time)
                else:
                    first_sound = time if first_sound is None else min(first_sound, time)
        except av.FFmpegError:
            pass  # The packets so far count. Decoding will show whether the clip is usable.
    span = max(times) - min(times) if times else 0.0
    counted = (len(times) - 1) / span if span else header
    gap = 0.0 if beside or first_sound is None or not times else first_sound - min(times)
    return FileProperties(min(header or counted, counted), gap, len(sounds))


def decibels(value: float) -> float:
    """An amplitude in dBFS, at least FLOOR_DB."""
    return max(FLOOR_DB, 20 * float(np.log10(max(value, 1e-12))))


def still_share(frames: Frames, difference: float) -> float:
    """Share of frames [N, ...] whose mean difference to the one before is below `difference` (of 255)."""
    pairs = pairwise(frames)
    steps = [np.abs(a.astype(np.int16) - b.astype(np.int16)).mean() for a, b in pairs]
    return float(np.mean(np.array(steps) < difference)) if steps else 1.0


# ---------------------------------------------------------------- verdicts
def check_file(properties: FileProperties, filters: Filters) -> None:
    """Raises Dropped if the frame rate or the gap between sound and picture fails a filter."""
    if properties.fps < filters.min_fps:
        raise Dropped("low fps", f"{properties.fps:.2f} frames/s, below {filters.min_fps:g}")
    if abs(properties.gap) > filters.max_gap:
        raise Dropped("gap", f"sound starts {properties.gap:+.3f} s from the picture, more than {filters.max_gap:g} s")


def check_window(window: Window, sound_seconds: float, picture_seconds: float, filters: Filters) -> dict[str, float]:
    """Measure a window's levels and its share of still frames. Raises Dropped if a filter rejects it.

    `sound_seconds` and `picture_seconds` are the seconds of sound and picture before padding.
    """
    if not np.isfinite(window.audio).all():
        raise Dropped("unreadable", "its sound contains NaN or infinity")
    if min(sound_seconds, picture_seconds) < filters.min_seconds:
        detail = f"{sound_seconds:.2f} s of sound and {picture_seconds:.2f} s of picture, below {filters.min_seconds:g}"
        raise Dropped("short", detail)
    peak = decibels(float(np.abs(window.audio).max(initial=0)))
    rms = decibels(float(np.sqrt(np.mean(np.square(window.audio, dtype=np.float64)))))
    if peak < filters.silence_peak or rms < filters.silence_rms or np.ptp(window.audio) == 0:
        raise Dropped("silent", f"peak {peak:.1f} dBFS, RMS {rms:.1f} dBFS")
    still = still_share(window.clip, filters.still_difference)
    if still > filters.max_still:
        raise Dropped("still", f"{still:.0%} of the frames equal the one before, more than {filters.max_still:.0%}")
    return {"peak_dbfs": round(peak, 2), "rms_dbfs": round(rms, 2), "still": round(still, 4)}


# ---------------------------------------------------------------- reading
def read_clip(clip: Clip, config: ModelConfig, filters: Filters) -> Iterator[Sample | tuple[str, Dropped]]:
    """Yield the windows of a clip in order. A window that is left out, or an unreadable clip, gives (name, reason)."""
    try:
        found = False
        for item in _windows(clip, config, filters):
            found = True
            yield item
        if not found:
            raise Dropped("short", f"the file ends before the clip starts, at {clip.begin:g} s")
    except Dropped as dropped:
        yield clip.id, dropped
    except READ_ERRORS as error:
        yield clip.id, Dropped("unreadable", str(error) or type(error).__name__)


def _windows(clip: Clip, config: ModelConfig, filters: Filters) -> Iterator[Sample | tuple[str, Dropped]]:
    if clip.path is None:
        raise Dropped("missing", "no file")
    properties = file_properties(clip.path)
    check_file(properties, filters)
    events = video_events(clip.path)
    size, rate = config.window_seconds, config.sample_rate
    with Video(clip.path) as video:
        sounds = {r: video_sound(clip.path, float(video.start), r) for r in (rate, config.audio_rate)}
        length = len(sounds[rate]) / rate
        end = length if clip.seconds is None else clip.begin + clip.seconds
        for number, frames in enumerate(video_windows(video, config, clip.begin)):
            begin = clip.begin + number * size
            ends = (length, _end(video, begin, size))
            sound_seconds, picture_seconds = (max(0.0, min(size, end - begin, there - begin)) for there in ends)
            if number and sound_seconds < min(filters.min_seconds, size):
                return  # The rest of a long clip is too short for a window.
            window = Window(*frames, *(_cut(sounds[r], round(begin * r), size * r) for r in sounds))
            name = f"{clip.id}-w{number}" if number else clip.id
            try:
                measured = check_window(window, sound_seconds, picture_seconds, filters)
            except Dropped as dropped:
                yield name, dropped
            else:
                record = _record(clip, properties, number, measured)
                yield Sample(name, window, events_inside(events, begin, size), record)
            if clip.seconds is not None and end - begin - size < filters.min_seconds:
                return


def _cut(sound: NDArray[np.float32], first: int, length: int) -> NDArray[np.float32]:
    part = sound[first : first + length]
    return np.pad(part, (0, length - len(part)))


def _end(video: Video, begin: float, size: int) -> float:
    """Time at which the picture ends; the window's end if the file does not say it."""
    try:
        return float(video.duration)
    except ValueError:
        return begin + size


def _record(clip: Clip, properties: FileProperties, number: int, measured: dict[str, float]) -> dict[str, Any]:
    """The JSON that is stored with a sample."""
    record = {"clip": clip.id, "file": clip.file, "video": clip.video, "label": clip.label, "split": clip.split}
    start = (clip.start or 0.0) if clip.start is not None else clip.begin
    record |= {"window": number, "start": start + number * ModelConfig.window_seconds}
    record |= {"fps": round(properties.fps, 3), "gap": round(properties.gap, 4), "sounds": properties.sounds}
    return record | measured
