"""Levels of a delivered sound: mix with the video's own sound, fades, gain, and gain to a target loudness."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np

from runtime.audio import FloatArray, PathLike, open_media, read_audio
from runtime.deliver.loudness import Loudness
from runtime.errors import MediaError, OptionError

EPSILON = 0.005  # dB: a gain below this is none


def decibels(value: float) -> np.float32:
    """dB -> factor."""
    return np.float32(10 ** (value / 20))


def fade_ends(audio: FloatArray, samples: int) -> FloatArray:
    """Fade audio [L] in and out over so many samples, half of the sound at most, along a raised cosine."""
    n = min(samples, len(audio) // 2)
    if n < 1:
        return audio
    ramp, result = _ramp(n), audio.copy()
    result[:n] *= ramp
    result[-n:] *= ramp[::-1]
    return result


def fade_pieces(pieces: Iterable[FloatArray], samples: int) -> Iterator[FloatArray]:
    """`fade_ends` for a sound that comes in pieces [n], and whose length is not known yet. What may be its end is held
    back: `samples`, or twice as many at the beginning.
    """
    if not samples:
        yield from pieces
        return
    held, begun = np.zeros(0, np.float32), False
    for piece in pieces:
        held = np.concatenate([held, piece])
        if len(held) < 2 * samples:
            continue
        if not begun:
            held[:samples] *= _ramp(samples)
            begun = True
        yield held[:-samples]
        held = held[-samples:]
    if begun:
        held[-samples:] *= _ramp(samples)[::-1]
    yield held if begun else fade_ends(held, samples)


def _ramp(n: int) -> FloatArray:
    """Gains [n] that rise from 0 to 1."""
    at = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / n
    return np.asarray(np.float32(0.5) - np.float32(0.5) * np.cos(np.pi * at), np.float32)


def own_sound(path: PathLike, rate: int, first: Fraction, samples: int, max_duration: float) -> FloatArray:
    """The sound that a video has itself: [samples] at `rate` Hz, channels averaged, from the time stamp `first` on.

    What lies outside of its track is silence. Raises MediaError if the video has no sound, or none can be decoded.
    """
    lead = round((first - _sound_start(path)) * rate)
    audio = read_audio(path, rate, max_duration)
    audio = audio[lead:] if lead > 0 else np.pad(audio, (-lead, 0))
    return np.pad(audio, (0, max(0, samples - len(audio))))[:samples]


def check_own_sound(path: PathLike) -> None:
    """Raise OptionError if a video has no sound to mix with."""
    with open_media(path) as container:
        if all(s.codec_context is None for s in container.streams.audio):
            raise OptionError(f"{path} has no sound to mix with; leave out --mix")


def _sound_start(path: PathLike) -> Fraction:
    """Time stamp of the first sample that `read_audio` gives."""
    with open_media(path) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            raise MediaError(f"{path} has no sound to mix with; leave out --mix")
        try:
            frame = next(container.decode(stream), None)
        except (ValueError, av.FFmpegError):
            frame = None
        if frame is None or frame.pts is None or stream.time_base is None:
            return Fraction(0)
        return frame.pts * stream.time_base


@dataclass(frozen=True)
class Gain:
    """The gain of a delivered sound, and what set it: "gain" and "lufs" are what the caller gave, "peak" the
    limit on the true peak, which wins over both.
    """

    decibels: float
    set_by: Literal["gain", "lufs", "peak"]


def choose_gain(loudness: Loudness, gain: float, lufs: float | None, peak: float | None) -> Gain:
    """The gain that brings a sound to `lufs`, or a fixed `gain`; lower if its true peak would rise above `peak` dBTP.

    Raises OptionError if `lufs` is given and the sound has no loudness.
    """
    chosen = Gain(gain, "gain")
    if lufs is not None:
        if loudness.integrated is None:
            raise OptionError(
                f"the sound cannot be brought to {lufs:g} LUFS: it is silent, or shorter than 0.4 s, and has no "
                "loudness; leave out --lufs"
            )
        chosen = Gain(lufs - loudness.integrated, "lufs")
    if peak is not None and loudness.true_peak is not None and loudness.true_peak + chosen.decibels > peak + EPSILON:
        chosen = Gain(peak - loudness.true_peak, "peak")
    return chosen
