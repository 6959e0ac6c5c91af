"""Files of a training video: the video and, optionally, its sound (ID.flac, ID.wav) and its events (ID.json)."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.audio import open_media, read_audio
from runtime.errors import MediaError

VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
BAD = (MediaError, ValueError, KeyError, OSError)  # errors of a file that cannot be used


def video_sound(path: Path, video_start: float, rate: int) -> NDArray[np.float32]:
    """Sound [L] from the start of the picture: ID.flac or ID.wav if present, otherwise the video's own."""
    for suffix in (".flac", ".wav"):
        if (beside := path.with_suffix(suffix)).exists():
            return read_audio(beside, rate)
    audio = read_audio(path, rate)
    with open_media(path) as container:
        stream = container.streams.audio[0]
        late = float((stream.start_time or 0) * (stream.time_base or 0)) - video_start
    shift = round(late * rate)
    return np.pad(audio, (shift, 0)) if shift >= 0 else audio[-shift:]


def video_events(path: Path) -> NDArray[np.float32]:
    """Events [E, 3]: time, end (0 for a contact), strength; empty without ID.json.

    Raises ValueError if ID.json is damaged.
    """
    label = path.with_suffix(".json")
    if not label.exists():
        return np.zeros((0, 3), np.float32)
    try:
        events = json.loads(label.read_text(encoding="utf-8"))["events"]
        rows = [(e["time"], e.get("end", 0.0), e.get("strength", 1.0)) for e in events]
        table = np.array(rows, np.float32).reshape(-1, 3)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{label.name} is not a table of events ({error!r}); make it again") from error
    if not np.isfinite(table).all():
        raise ValueError(f"{label.name} has times or strengths that are not numbers; make it again")
    return table


def events_inside(events: NDArray[np.float32], begin: float, size: float) -> NDArray[np.float32]:
    """Events of a window of `size` seconds, with times relative to its start; an end of 0 stays 0."""
    local = events[(events[:, 0] >= begin) & (events[:, 0] < begin + size)]
    local[:, :2] -= np.where(local[:, :2] > 0, np.float32(begin), 0)
    return local
