"""Training data of the codec: augmented crops from pools of recordings.

A pool is a folder with sounds.csv (columns file, label, licence, ...). Every batch is a pure function of (seed, step).
"""

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio import read_audio
from runtime.errors import MediaError
from train.synthetic.recordings import PoolError
from train.synthetic.scenes.sound import SCENE_GROUPS
from train.synthetic.splits import split_files, split_sessions

FloatArray = NDArray[np.float32]

# weights trained on recordings under these licences may be distributed, with credits
LICENCES = ("CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "MIT", "PD")
COLUMNS = ("file", "label", "licence")
EDGE = 64  # samples over which a cut sound is faded


@dataclass(frozen=True)
class Pool:
    """Recordings (mono float32 at one rate) by file name."""

    names: tuple[str, ...]
    sounds: tuple[FloatArray, ...]
    licences: tuple[str, ...]


def held_out(rows: list[dict[str, str]]) -> set[str]:
    """Files of a pool that are held out for validation: the test split of the synthetic clips and scenes."""
    return split_files(rows, "test", SCENE_GROUPS)


def held_out_sessions(rows: list[dict[str, str]]) -> set[str]:
    """Files of a pool of sound classes that are held out: its test and validation splits, which keep sessions whole."""
    return split_sessions(rows, "test") | split_sessions(rows, "val")


def read_pools(folder: Path, classes: Path | None, rate: int) -> tuple[Pool, Pool]:
    """Read a pool of materials and, optionally, one of sound classes; return joined (training, validation) pools."""
    pools = [read_pool(folder, rate)]
    if classes:
        pools.append(read_pool(classes, rate, held_out_sessions))
    training, validation = (
        Pool(
            *(tuple(item for pool in part for item in getattr(pool, name)) for name in ("names", "sounds", "licences"))
        )
        for part in zip(*pools, strict=True)
    )
    return training, validation


def read_pool(
    folder: Path, rate: int, held_out: Callable[[list[dict[str, str]]], set[str]] = held_out
) -> tuple[Pool, Pool]:
    """Read (training, validation) recordings of a folder; unusable files are reported on stderr and skipped.

    Raises PoolError for a missing list, a licence that is not allowed, or no usable recordings.
    """
    table = folder / "sounds.csv"
    if not table.exists():
        raise PoolError(f"{table} is missing; give a folder of recordings that has this list: --set task.sounds=DIR")
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing:
        raise PoolError(f"{table} lacks the columns {', '.join(missing)}")
    refused = sorted({row["licence"] for row in rows} - set(LICENCES))
    if refused:
        raise PoolError(f"{table} lists licences {', '.join(refused)}; allowed are {', '.join(LICENCES)}")
    read = {row["file"]: sound for row in rows if (sound := _read(folder / row["file"], rate)) is not None}
    if len(read) < len(rows):
        print(f"{len(rows) - len(read)} of {len(rows)} recordings of {folder} skipped", file=sys.stderr)
    kept_back = held_out(rows)
    training, validation = (
        Pool(
            tuple(row["file"] for row in part),
            tuple(read[row["file"]] for row in part),
            tuple(row["licence"] for row in part),
        )
        for kept in (False, True)
        for part in [[row for row in rows if row["file"] in read and (row["file"] in kept_back) == kept]]
    )
    if not training.names:
        raise PoolError(f"{table} lists no readable recordings to train on")
    return training, validation


def _read(path: Path, rate: int) -> FloatArray | None:
    try:
        sound = np.asarray(read_audio(path, rate), np.float32)
        if len(sound) and np.isfinite(sound).all():
            return sound
        reason = "contains no sound"
    except (MediaError, OSError, ValueError) as error:
        reason = str(error)
    print(f"skipped {path.name}: {reason}", file=sys.stderr)
    return None


# ---------------------------------------------------------------- augmentation
def stretch(sound: FloatArray, factor: float) -> FloatArray:
    """Play at `factor` times the speed, which changes pitch and length, with Catmull-Rom interpolation."""
    position = np.arange(0, len(sound) - 1, factor)
    i = position.astype(np.int64)
    t = (position - i).astype(np.float32)
    padded = np.pad(sound, (1, 2))
    a, b, c, d = (padded[i + k] for k in range(4))
    out = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(out, np.float32)


def place(sound: FloatArray, length: int, rng: np.random.Generator) -> FloatArray:
    """A crop [length]: any part of a long sound, or a short sound that starts anywhere, sometimes before the crop."""
    low, high = -max(0, len(sound) - 2048), max(1, length - 2048)
    if len(sound) < length and rng.random() < 0.85:
        low, high = 0, length - len(sound) + 1
    start = int(rng.integers(low, high))
    out = np.zeros(length, np.float32)
    part = sound[max(0, -start) : length - start].copy()
    if start < 0:
        part[:EDGE] *= np.linspace(0, 1, EDGE, dtype=np.float32)[: len(part)]
    out[max(0, start) : max(0, start) + len(part)] = part
    return out


def tilt(sound: FloatArray, slope: float, rate: int) -> FloatArray:
    """Filter by (f / 1 kHz) ** slope, held between 100 Hz and 10 kHz."""
    frequency = np.fft.rfftfreq(len(sound), 1 / rate)
    gain = (np.clip(frequency, 100, 10_000) / 1000) ** slope
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound)).astype(np.float32)


def reverberate(sound: FloatArray, seconds: float, wet: float, rate: int, rng: np.random.Generator) -> FloatArray:
    """Add a tail of exponentially decaying noise: -60 dB after `seconds`, energy `wet` relative to the dry sound."""
    n = min(len(sound), int(seconds * rate))
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / (seconds * rate))
    tail *= wet / np.sqrt(np.square(tail).sum())
    size = 1 << (len(sound) + n - 1).bit_length()
    wet_sound = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return (sound + wet_sound).astype(np.float32)


def level(sound: FloatArray, peak_db: float) -> FloatArray:
    """Scale to a peak in dBFS; silence is not changed."""
    peak = float(np.abs(sound).max())
    return sound * np.float32(10 ** (peak_db / 20) / peak) if peak > 1e-6 else sound


class Crops:
    """Batches of augmented crops. The probability of a recording grows with the square root of its length."""

    def __init__(self, pool: Pool, rate: int, length: int, seed: int) -> None:
        self.pool, self.rate, self.length, self.seed = pool, rate, length, seed
        weights = np.sqrt([len(sound) for sound in pool.sounds])
        self.weights = weights / weights.sum()

    def batch(self, step: int, size: int) -> FloatArray:
        """Crops [size, length] of this step."""
        rng = np.random.default_rng([self.seed, step])
        return np.stack([self._crop(rng) for _ in range(size)])

    def _pick(self, rng: np.random.Generator) -> FloatArray:
        return self.pool.sounds[int(rng.choice(len(self.weights), p=self.weights))]

    def _one(self, rng: np.random.Generator) -> FloatArray:
        sound = self._pick(rng)
        if rng.random() < 0.5:
            sound = stretch(sound, 2 ** rng.uniform(-0.8, 0.8))
        return level(place(sound, self.length, rng), 0.0)

    def _crop(self, rng: np.random.Generator) -> FloatArray:
        kind = rng.random()
        if kind < 0.02:
            return np.zeros(self.length, np.float32)  # true silence must stay silent
        if kind < 0.3:  # not augmented: recordings decay into the noise of 16 bits
            return np.clip(place(self._pick(rng) * np.float32(10 ** rng.uniform(-0.6, 0)), self.length, rng), -1, 1)
        x = self._one(rng)
        while rng.random() < 0.35:
            x = x + self._one(rng) * np.float32(10 ** rng.uniform(-1.2, 0))
        if rng.random() < 0.3:
            x = tilt(x, rng.uniform(-0.5, 0.4), self.rate)
        if rng.random() < 0.2:
            x = reverberate(x, rng.uniform(0.1, 1.5), rng.uniform(0.05, 0.7), self.rate, rng)
        quiet = kind < 0.38
        x = level(x, rng.uniform(-65, -35) if quiet else rng.uniform(-30, -0.3))
        if rng.random() < 0.15:
            noise = rng.standard_normal(self.length).astype(np.float32)
            x = x + tilt(noise, rng.uniform(-1, 0), self.rate) * np.float32(10 ** rng.uniform(-4.5, -2.3))
        return np.clip(x, -1, 1)


def describe(pool: Pool) -> dict[str, Any]:
    """Numbers for the provenance: the count of recordings, and their licences."""
    return {"recordings": len(pool.names), "licences": sorted(set(pool.licences))}
