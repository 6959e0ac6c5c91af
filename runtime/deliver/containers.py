"""The kinds of file that a copy can be, and how each carries the sound."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

FALLBACK_RATE = 48000  # Hz
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
MOV_FAMILY = ("mp4", "mov")

Existing = Literal["replace", "keep"]


@dataclass(frozen=True)
class Container:
    """How a kind of file carries the sound."""

    format: str  # libav's name of the muxer
    codec: str
    bit_rate: int | None  # bits per second; None: lossless
    rates: tuple[int, ...] | None  # sample rates that the codec takes; another is resampled to FALLBACK_RATE
    timed: bool = True  # whether a track can start later than the file


MP4 = Container("mp4", "aac", 160_000, AAC_RATES)
CONTAINERS = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": Container("mov", "aac", 160_000, AAC_RATES),
    ".mkv": Container("matroska", "flac", None, None),
    ".webm": Container("webm", "libopus", 128_000, (FALLBACK_RATE,)),
    ".avi": Container("avi", "pcm_s16le", None, None, timed=False),
}


def join_or(names: Iterable[str]) -> str:
    """ "a, b or c"."""
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last
