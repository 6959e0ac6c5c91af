"""A baseline that needs no generator: random recordings of the concept that the frame encoder sees most, untimed."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.bundle_codec import BundleCodec
from benchmarks.common.real_videos import pooled_features
from benchmarks.meaning.systems import System, Track
from runtime.audio import read_audio
from train.metrics.inputs import Sound
from train.metrics.semantic import RATE
from train.models.mobilenet import MobileNetV2
from train.synthetic.concepts.features import ClassifierHead
from train.synthetic.concepts.table import Concept, membership, pool_labels, read_table
from train.synthetic.recordings import PoolError

DRAWS = 4  # sounds per video
HEADROOM = np.float32(0.5)  # for the codec; the score does not depend on level


def files_by_label(folders: list[Path]) -> dict[str, list[Path]]:
    """The recordings of several folders with sounds.csv. Raises PoolError if a list is missing."""
    pool_labels(folders)  # raises PoolError for a missing or empty list
    found: dict[str, list[Path]] = {}
    for folder in folders:
        with open(folder / "sounds.csv", encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                found.setdefault(row["label"], []).append(folder / row["file"])
    return found


class RandomRecordings:
    """A system (see benchmarks.meaning.systems): recordings of one concept, one after another, as long as the video.

    The concept is the one with the highest probability, summed over its classes and averaged over the frames, among
    those that have recordings. Every recording is scaled to peak 1.
    """

    def __init__(self, folders: list[Path], encoder: MobileNetV2, head: ClassifierHead) -> None:
        labelled = files_by_label(folders)
        self.files: dict[Concept, list[Path]] = {}
        for concept in read_table():
            if files := sorted(file for label in concept.labels for file in labelled.get(label, [])):
                self.files[concept] = files
        if not self.files:
            where = ", ".join(map(str, folders))
            raise PoolError(f"no recordings of any concept in {where}; give folders with labels of the concept table")
        self.encoder, self.head = encoder, head
        self.rng = np.random.default_rng(0)
        self.last: tuple[Path, list[list[Sound]]] | None = None
        self._read = cache(self._scaled)

    def concept(self, path: Path) -> tuple[Concept, float]:
        """The concept of a video, and its probability."""
        concepts = list(self.files)
        shares = self.head.probabilities(pooled_features(path, self.encoder)).mean(0) @ membership(concepts).T
        return concepts[int(shares.argmax())], float(shares.max())

    def _scaled(self, path: Path) -> NDArray[np.float32]:
        samples = read_audio(path, RATE)
        return np.asarray(samples / max(float(np.abs(samples).max(initial=0)), 1e-6), np.float32)

    def __call__(self, track: Track) -> list[list[Sound]]:
        """The sounds of a track. Asked again for the same track, they are the same."""
        if self.last is None or self.last[0] != track.path:
            files, length = self.files[self.concept(track.path)[0]], len(track.sound.samples)
            sounds = [[Sound(self._sequence(files, length), RATE)] for _ in range(DRAWS)]
            self.last = (track.path, sounds)
        return self.last[1]

    def through(self, codec: BundleCodec) -> System:
        """The same sounds, encoded and decoded: what a generator could reach that knew all of their codes."""

        def coded(sound: Sound) -> Sound:
            return Sound(codec.decode(codec.encode(HEADROOM * sound.samples))[: len(sound.samples)], RATE)

        return lambda track: [[coded(take) for take in takes] for takes in self(track)]

    def _sequence(self, files: list[Path], length: int) -> NDArray[np.float32]:
        parts = [np.zeros(0, np.float32)]
        while sum(map(len, parts)) < length:
            parts.append(self._read(files[self.rng.integers(len(files))]))
        return np.concatenate(parts)[:length]
