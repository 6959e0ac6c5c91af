"""Sound from recordings: loads a folder of them, changes their pitch and tone, and mixes them at the events' times.

`mix` makes the whole sound of a drawn clip. train.synthetic.scenes.sound builds on the same functions.
"""

import csv
from dataclasses import dataclass, field
from fractions import Fraction
from math import pi
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.synthetic.events import Event
from train.synthetic.splits import GROUPS, group_of, split_files

Floats = NDArray[np.float32]
RATE = 44100
FAST_LENGTHS = np.array(sorted(2**a * 3**b * 5**c for a in range(27) for b in range(17) for c in range(12)))


class PoolError(OSError):
    """A folder of recordings or mode tables is missing or unusable."""


def read_recording(path: Path, seconds: float) -> NDArray[np.int16]:
    """All samples of a mono 44.1 kHz file of about `seconds` s.

    Raises ValueError for another format or a shorter or silent file, av.FFmpegError for an unreadable one.
    """
    with av.open(str(path)) as media:
        stream = next(iter(media.streams.audio), None)
        if stream is None or stream.rate != RATE or stream.channels != 1:
            raise ValueError(f"it is not mono at {RATE} Hz")
        resampler = av.AudioResampler("s16", "mono", RATE)
        parts = [f.to_ndarray()[0] for frame in media.decode(stream) for f in resampler.resample(frame)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    if len(samples) < (seconds - 0.05) * RATE or not samples.any():
        raise ValueError(f"{len(samples) / RATE:.2f} s of sound, {seconds} s expected")
    return samples


def trim_to_onset(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut everything before the attack, which is the first millisecond that reaches a quarter of the peak."""
    step = RATE // 1000
    level = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(1)
    return samples[int(np.argmax(level >= level.max() / 4)) * step :]


@dataclass
class Recordings:
    """The recordings of one split: group -> label -> file -> samples."""

    groups: dict[str, dict[str, dict[str, NDArray[np.int16]]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # "file: reason"

    @classmethod
    def load(cls, folder: Path, split: str, groups: dict[str, tuple[str, ...]] = GROUPS) -> "Recordings":
        """Read a split's recordings from a folder with sounds.csv. Unreadable ones are listed in `skipped`.

        Raises PoolError if the list is missing, or if it names no usable recording of the split.
        """
        sounds, listed = cls(), folder / "sounds.csv"
        if not listed.is_file():
            raise PoolError(f"{listed} is missing; give --sounds a folder with sounds.csv and its recordings")
        with open(listed, encoding="utf-8", newline="") as table:
            reader = csv.DictReader(table)
            if not {"file", "label", "seconds"} <= set(reader.fieldnames or ()):
                raise PoolError(f"{table.name} must have the columns file, label and seconds")
            rows = [row for row in reader if group_of(row["label"], groups)]
        files = split_files(rows, split, groups)
        for row in rows:
            if row["file"] not in files:
                continue
            try:
                samples = read_recording(folder / row["file"], float(row["seconds"]))
            except (OSError, ValueError, av.FFmpegError) as error:
                sounds.skipped.append(f"{row['file']}: {error}")
                continue
            group = str(group_of(row["label"], groups))
            samples = samples if group == "ambience" else trim_to_onset(samples)
            sounds.groups.setdefault(group, {}).setdefault(row["label"], {})[row["file"]] = samples
        if not set(sounds.groups) - {"ambience"}:
            raise PoolError(f"{listed} names no usable recording of the split {split}")
        return sounds

    def pick(self, group: str, voice: int, rng: np.random.Generator) -> tuple[str, Floats]:
        """A random recording of a group: its file name and its samples [L], scaled to peak 1.

        All recordings of one object (`voice`) have the same label. If the split lacks the group, another group stands
        in for it, always the same one.
        """
        if group not in self.groups:
            group = sorted(set(self.groups) - {"ambience"})[sum(map(ord, group)) % len(set(self.groups) - {"ambience"})]
        labels = self.groups[group]
        files = labels[sorted(labels)[voice % len(labels)]]
        name = sorted(files)[rng.integers(len(files))]
        samples = files[name].astype(np.float32)
        return name, samples / np.abs(samples).max()


def fast_length(n: int) -> int:
    """The smallest length of at least n without a prime factor above 5. Its FFT is fast."""
    return int(FAST_LENGTHS[np.searchsorted(FAST_LENGTHS, n)])


def repitch(samples: Floats, pitch: float, cutoff: float) -> Floats:
    """Raise the pitch by the factor `pitch` and damp frequencies above `cutoff` Hz. The result lasts at most 4 s."""
    samples = samples[: 4 * RATE]
    size = fast_length(len(samples) + 4096)  # the padding keeps the filter's tail from wrapping into the sound
    length = max(64, fast_length(round(size / pitch)))
    bins = np.fft.rfft(samples, size)
    spectrum = np.zeros(length // 2 + 1, np.complex64)
    n = min(len(bins), len(spectrum))
    spectrum[:n] = bins[:n]
    spectrum /= 1 + (np.arange(len(spectrum), dtype=np.float32) * np.float32(RATE / length / cutoff)) ** 2
    out = np.fft.irfft(spectrum, length)[: round(len(samples) * length / size)] * (length / size)
    fade = min(len(out), 400)
    out[len(out) - fade :] *= np.linspace(1, 0, fade)
    return out.astype(np.float32)


def spectrum_of(samples: Floats) -> Floats:
    """The smooth magnitude spectrum [2049] of a recording."""
    return np.convolve(np.abs(np.fft.rfft(samples, 4096)), np.hanning(41) / 20, "same").astype(np.float32)


def convolve(audio: Floats, room: Floats) -> Floats:
    """Convolve audio [L] with room [N] -> [L + N - 1], in blocks: FFTs that fit the cache are ten times as fast."""
    size = max(1 << 16, fast_length(2 * len(room)))
    step = size - len(room) + 1
    count = -(-len(audio) // step)
    blocks = np.pad(audio, (0, count * step - len(audio))).reshape(count, step)
    wet = np.fft.irfft(np.fft.rfft(blocks, size) * np.fft.rfft(room, size), size)
    out = np.zeros((count - 1) * step + size, np.float32)
    for n, block in enumerate(wet):
        out[n * step : n * step + size] += block
    return out[: len(audio) + len(room) - 1]


def shape_noise(noise: Floats, colour: Floats) -> Floats:
    """Filter noise [L] to the magnitude spectrum [2049]; the result has peak 1."""
    half = len(colour) - 1
    kernel = np.roll(np.fft.irfft(colour), half) * np.hanning(2 * half)
    out = convolve(noise, kernel.astype(np.float32))[half : half + len(noise)]
    return (out / max(1e-9, float(np.abs(out).max(initial=0)))).astype(np.float32)


def scrape_noise(samples: Floats, length: int, rng: np.random.Generator) -> Floats:
    """Noise [length] with the spectrum of a recording, faded in and out by a half sine."""
    noise = rng.standard_normal(length, dtype=np.float32)
    return shape_noise(noise, spectrum_of(samples)) * np.sin(pi * np.arange(length) / length).astype(np.float32)


def pitch_for_size(size: float, rng: np.random.Generator) -> float:
    """Pitch factor for an object of this size: small objects sound higher, and each hit differs a little."""
    return float(np.clip((0.12 / size) ** 0.35 * np.exp(rng.normal(0, 0.02)), 0.6, 1.7))


def add_at(audio: Floats, part: Floats, time: float) -> None:
    """Add `part` to `audio` from `time` (seconds) on, in place. What would lie beyond the end is cut."""
    start = round(time * RATE)
    room = max(0, len(audio) - start)
    audio[start : start + len(part)] += part[:room]


def add_reverb(audio: Floats, rng: np.random.Generator) -> None:
    """In 35 % of calls, add the reverberation of a room in place: decaying noise of 0.1 to 0.8 s."""
    if rng.random() >= 0.35:
        return
    tail = round(rng.uniform(0.1, 0.8) * RATE)
    fade = np.exp(-6.9 * np.arange(tail) / tail) * np.minimum(np.arange(tail) / 300, 1)
    room = rng.standard_normal(tail, dtype=np.float32) * fade.astype(np.float32)
    sounding = np.flatnonzero(audio)
    if not len(sounding):
        return
    dry = audio[sounding[0] : sounding[-1] + 1]  # the rest must stay exactly 0, without rounding noise
    wet = convolve(dry, room)
    add_at(audio, (wet * rng.uniform(0.05, 0.25) / np.linalg.norm(room)).astype(np.float32), sounding[0] / RATE)


def add_background(audio: Floats, sounds: Recordings, rng: np.random.Generator) -> list[str]:
    """Add faint noise (20 % of calls) or a quiet ambience (20 %) in place; return the ambience's file names."""
    draw, peak, used = rng.random(), float(np.abs(audio).max()), []
    if draw < 0.2:
        level = np.float32(peak * 10 ** rng.uniform(-3.2, -2.5))
        audio += rng.standard_normal(len(audio), dtype=np.float32) * level
    elif draw < 0.4 and "ambience" in sounds.groups:
        name, samples = sounds.pick("ambience", int(rng.integers(1 << 30)), rng)
        used.append(name)
        audio += np.resize(samples, len(audio)) * np.float32(peak * 10 ** rng.uniform(-2.5, -1.5))
    return used


def mix(events: list[Event], sounds: Recordings, rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
    """Make a clip's sound [L] in [-1, 1]; a clip without events is digital silence.

    Also returns the file names of the recordings, in the order of the events, then the background's.
    """
    audio, used = np.zeros(round(seconds * RATE), np.float32), []
    for event in events:
        name, samples = sounds.pick(event.material, event.voice, rng)
        used.append(name)
        if event.end:
            part = scrape_noise(samples, round(event.end * RATE) - round(event.time * RATE), rng) * event.strength * 0.4
        else:
            cutoff = 2500 + 17000 * event.strength
            part = repitch(samples, pitch_for_size(event.size, rng), cutoff) * event.strength * 0.7
        add_at(audio, part, event.time)
    if not events:
        return audio, used
    add_reverb(audio, rng)
    audio *= rng.uniform(0.5, 1.0) * min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))
    used += add_background(audio, sounds, rng)
    return audio * np.float32(min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))), used


def write_flac(path: Path, audio: Floats) -> None:
    """Write mono audio [L] in [-1, 1] at 44.1 kHz as 16-bit FLAC."""
    with av.open(str(path), "w", format="flac") as media:
        stream = media.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.round(audio * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
