"""How many bytes the results of a job may have: known before the work, so that accepted jobs cannot fill the disk."""

from typing import Any

from runtime.commands.stdio.requests import args_of
from runtime.edit.timecode import TimeRange
from runtime.media.wav import BYTES
from runtime.serve.config import Limits
from runtime.serve.work.job_request import JobSpec

TAKE = 4 * 48000 + 8192  # bytes of a second of a kept take: its samples as float32, its tokens, its activity
TRACK = 2 * 2 * 48000  # bytes of a second of the sound in a video: 16 bit, two channels, not compressed
COPY = 1.02  # a copy of a video has the same packets, and another container around them
FILE = 1 << 16  # bytes of what a file has besides: headers, facts, broadcast chunks
TEXTS = 1 << 20  # bytes of report, timeline and a video's headers


def result_bytes(spec: JobSpec, video_bytes: int, take_seconds: float | None, limits: Limits) -> int:
    """The most bytes that the results of a job may have.

    `take_seconds` is the length of the take that it begins with. The length of a video is not known before it is
    decoded, so without a range in seconds it counts as the longest one that the server takes.
    """
    flags = {name: value for name, value in spec.options.items() if name in ("takes", "rate", "bits", "channels")}
    args = args_of({"video": "video", "options": flags})
    seconds = _sound_seconds(spec.options, take_seconds, limits.video_seconds)
    one: float = seconds * (args.rate * BYTES[args.bits] * args.channels + TAKE) + 2 * FILE
    video = video_bytes * COPY + limits.video_seconds * TRACK if spec.deliver["video"] else 0
    return int(args.takes * one + video + TEXTS)


def _sound_seconds(options: dict[str, Any], take_seconds: float | None, longest: float) -> float:
    """How long a sound may be."""
    if take_seconds is not None and not options.get("extend"):
        return take_seconds
    if "range" in options:
        part = TimeRange.parse(str(options["range"]))
        if part.unit == "seconds":  # one second more: it begins and ends with a frame
            begin = 0.0 if take_seconds is not None else float(part.begin)
            return min(longest, float(part.end) - begin + 1)
    return longest
