"""What is heard in a made-up clip: a folder of recordings, how they are split, and how they are placed at contacts."""

import csv
import hashlib
from dataclasses import dataclass, field
from fractions import Fraction
from math import pi
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.events import Event

Floats = NDArray[np.float32]
RATE = 44100
VAL_SHARE = 0.15
SPEECH = ("speech", "hurt", "zombie", "monster", "scream", "crowd", "radio", "news", "roar", "fatigue", "humming")
# Group: parts of labels. A label belongs to the first group that names a part of it; other labels are not used.
GROUPS = {
    "clap": ("handclap", "fingerclap"),
    "kick": ("kdrum",),
    "hihat": ("hihat",),
    "tom": ("tom1", "tom2", "tom3", "tom4"),
    "snare": ("snare",),
    "cymbal": ("crashl", "crashr", "china", "ride"),
    "cajon": ("cajon",),
    "boards": ("footstep_wood", "body_heel"),
    "floor": ("footstep_concrete", "walk_t_floor", "body_stomp"),
    "grass": ("footstep_grass", "walk_grass", "walk_t_grass"),
    "snow": ("footstep_snow",),
    "grating": ("walk_metal",),
    "carpet": ("footstep_carpet", "walk_t_carpet"),
    "chop": ("chop", "knife_slice", "small_cutting"),
    "card": ("card_place", "card_shove", "card_slide", "book_"),
    "chip": ("chip_lay", "chips_stack", "chips_collide"),
    "bell": ("impact_bell",),
    "glass": ("impact_glass", "fail_glass"),
    "ceramic": ("ceramic", "impact_plate"),
    "wood": ("impact_wood", "impact_plank", "fail_door_wood", "fail_wood"),
    "stone": ("mining", "brick", "fail_concrete"),
    "metal": ("impact_metal", "impact_tin", "fail_metal", "metal_pot", "gun_safe"),
    "plastic": ("plastic", "impact_generic"),
    "soft": ("impact_soft", "impact_punch", "body_belly", "chestthump", "drop_leather", "flesh_default"),
    "ambience": ("environment", "rain"),
}


class PoolError(Exception):
    """A folder of sounds cannot be used."""


def group_of(label: str) -> str | None:
    if any(part in label for part in SPEECH):
        return None
    return next((group for group, parts in GROUPS.items() if any(part in label for part in parts)), None)


def split_files(rows: list[dict[str, str]], split: str) -> set[str]:
    """The recordings of a split. By the hash of the file name, the lowest VAL_SHARE of each group are val's, and one
    at least, so that every group of two or more is heard in both."""
    files: dict[str | None, list[str]] = {}
    for row in rows:
        files.setdefault(group_of(row["label"]), []).append(row["file"])
    val: set[str] = set()
    for names in files.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        val.update(names[: max(1, round(VAL_SHARE * len(names))) if len(names) > 1 else 0])
    return val if split == "val" else {row["file"] for row in rows} - val


def read_recording(path: Path, seconds: float) -> NDArray[np.int16]:
    """All samples of a mono 44.1 kHz file; ValueError or av.FFmpegError if it is anything else or too short."""
    with av.open(str(path)) as media:
        stream = next(iter(media.streams.audio), None)
        if stream is None or stream.rate != RATE or stream.channels != 1:
            raise ValueError(f"not mono {RATE} Hz")
        resampler = av.AudioResampler("s16", "mono", RATE)
        parts = [f.to_ndarray()[0] for frame in media.decode(stream) for f in resampler.resample(frame)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    if len(samples) < (seconds - 0.05) * RATE or not samples.any():
        raise ValueError(f"{len(samples) / RATE:.2f} s of sound, {seconds} s expected")
    return samples


def from_onset(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut what comes before the attack: 1 ms before the first millisecond with a quarter of the peak."""
    step = RATE // 1000
    level = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(1)
    return samples[max(0, int(np.argmax(level >= level.max() / 4)) - 1) * step :]


@dataclass
class Sounds:
    """The recordings of one split: group -> label -> file -> samples."""

    groups: dict[str, dict[str, dict[str, NDArray[np.int16]]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # file: why

    @classmethod
    def load(cls, folder: Path, split: str) -> "Sounds":
        sounds = cls()
        with open(folder / "sounds.csv", encoding="utf-8", newline="") as table:
            reader = csv.DictReader(table)
            if not {"file", "label", "seconds"} <= set(reader.fieldnames or ()):
                raise PoolError(f"{table.name} must have the columns file, label and seconds")
            rows = [row for row in reader if group_of(row["label"])]
        files = split_files(rows, split)
        for row in rows:
            if row["file"] not in files:
                continue
            try:
                samples = read_recording(folder / row["file"], float(row["seconds"]))
            except (OSError, ValueError, av.FFmpegError) as error:
                sounds.skipped.append(f"{row['file']}: {error}")
                continue
            group = str(group_of(row["label"]))
            samples = samples if group == "ambience" else from_onset(samples)
            sounds.groups.setdefault(group, {}).setdefault(row["label"], {})[row["file"]] = samples
        if not set(sounds.groups) - {"ambience"}:
            raise PoolError(f"{folder / 'sounds.csv'} names no usable recording of the split {split}")
        return sounds

    def pick(self, group: str, voice: int, rng: np.random.Generator) -> tuple[str, Floats]:
        """One recording; an object (voice) keeps to one label. A group that the split lacks is stood in for."""
        if group not in self.groups:
            group = sorted(set(self.groups) - {"ambience"})[sum(map(ord, group)) % len(set(self.groups) - {"ambience"})]
        labels = self.groups[group]
        files = labels[sorted(labels)[voice % len(labels)]]
        name = sorted(files)[rng.integers(len(files))]
        samples = files[name].astype(np.float32)
        return name, samples / np.abs(samples).max()


def reshape(samples: Floats, pitch: float, cutoff: float) -> Floats:
    """Play faster by `pitch` and soften above `cutoff` Hz, both in the spectrum; at most 4 s."""
    samples = samples[: 4 * RATE]
    padded = np.pad(samples, (0, 4096))  # so that filter tails wrap into silence
    length = max(64, round(len(padded) / pitch))
    bins = np.fft.rfft(padded)
    spectrum = np.zeros(length // 2 + 1, complex)
    n = min(len(bins), len(spectrum))
    spectrum[:n] = bins[:n]
    spectrum /= 1 + (np.arange(len(spectrum)) * RATE / length / cutoff) ** 2
    out = np.fft.irfft(spectrum, length)[: round(len(samples) / pitch)] * (length / len(padded))
    fade = min(len(out), 400)
    out[len(out) - fade :] *= np.linspace(1, 0, fade)
    return out.astype(np.float32)


def scrape(samples: Floats, length: int, rng: np.random.Generator) -> Floats:
    """Noise with the colour of a recording, under half a sine."""
    bins = np.abs(np.fft.rfft(samples, 4096))
    smooth = np.convolve(bins, np.hanning(41) / 20, "same")
    noise = np.fft.rfft(rng.normal(size=length))
    out = np.fft.irfft(noise * np.interp(np.linspace(0, 1, len(noise)), np.linspace(0, 1, len(smooth)), smooth), length)
    return (out / np.abs(out).max() * np.sin(pi * np.arange(length) / length)).astype(np.float32)


def mix(events: list[Event], sounds: Sounds, rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
    """The clip's sound [L] in [-1, 1], and the recordings in the order of the events (then the background's)."""
    audio, used = np.zeros(round(seconds * RATE), np.float32), []
    for event in events:
        name, samples = sounds.pick(event.material, event.voice, rng)
        used.append(name)
        start = round(event.time * RATE)
        if event.end:
            part = scrape(samples, round(event.end * RATE) - start, rng) * event.strength * 0.4
        else:
            pitch = float(np.clip((0.12 / event.size) ** 0.35 * np.exp(rng.normal(0, 0.02)), 0.6, 1.7))
            part = reshape(samples, pitch, 2500 + 17000 * event.strength) * event.strength * 0.7
        end = min(len(audio), start + len(part))
        audio[start:end] += part[: end - start]
    if not events:
        return audio, used  # silent clips are digital silence
    if rng.random() < 0.35:
        tail = round(rng.uniform(0.1, 0.6) * RATE)
        room = rng.normal(size=tail) * np.exp(-6.9 * np.arange(tail) / tail) * np.minimum(np.arange(tail) / 300, 1)
        size = 1 << (len(audio) + tail - 1).bit_length()
        wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[: len(audio)]
        audio += (wet * rng.uniform(0.05, 0.25) / np.linalg.norm(room)).astype(np.float32)
    audio *= rng.uniform(0.5, 1.0) * min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))
    draw = rng.random()
    if draw < 0.2:
        audio += rng.normal(0, 10 ** rng.uniform(-3.2, -2.5), len(audio)).astype(np.float32)
    elif draw < 0.4 and "ambience" in sounds.groups:
        name, samples = sounds.pick("ambience", int(rng.integers(1 << 30)), rng)
        used.append(name)
        audio += np.resize(samples, len(audio)) * np.float32(10 ** rng.uniform(-2.5, -1.5))
    return audio * np.float32(min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))), used


def write_flac(path: Path, audio: Floats) -> None:
    with av.open(str(path), "w", format="flac") as media:
        stream = media.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.round(audio * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
