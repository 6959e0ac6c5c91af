"""The recordings of one split by label, from pools of both kinds: of materials, and of sound classes."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.synthetic.concepts.table import Concept
from train.synthetic.credits import COLUMNS, LICENCES
from train.synthetic.recordings import RATE, Floats, PoolError, read_recording
from train.synthetic.scenes.sound import SCENE_GROUPS
from train.synthetic.sounding.cuts import Cut, calls_in, hits_in, pitch_of, running_part
from train.synthetic.splits import split_files, split_sessions

Rows = list[dict[str, str]]


@dataclass
class Recording:
    """One recording, and what it holds. Cuts are found when they are first needed."""

    name: str
    label: str
    samples: NDArray[np.int16]

    @cached_property
    def peak(self) -> int:
        return max(1, int(np.abs(self.samples.astype(np.int32)).max(initial=1)))

    @cached_property
    def hits(self) -> list[Cut]:
        return hits_in(self.samples)

    @cached_property
    def calls(self) -> list[Cut]:
        return calls_in(self.samples)

    @cached_property
    def running(self) -> Cut:
        return running_part(self.samples)

    @cached_property
    def decays(self) -> bool:
        """Whether it has lost 9 dB after 0.8 s, as plucked and struck notes have and blown and bowed ones have not."""
        attack = self.hits[0][0]
        early, late = (self.cut((attack + a * RATE // 10, attack + b * RATE // 10)) for a, b in ((0, 3), (7, 9)))
        return not len(late) or float(np.square(late).mean()) < 0.125 * float(np.square(early).mean())

    @cached_property
    def pitch(self) -> float | None:
        return pitch_of(self.samples)

    def cut(self, part: Cut) -> Floats:
        """The samples of a part [L], scaled so that the recording has peak 1."""
        return self.samples[part[0] : part[1]].astype(np.float32) / np.float32(self.peak)


def read_rows(folder: Path) -> Rows:
    """The rows of a pool's sounds.csv. Raises PoolError if the list is missing, or has other columns or licences."""
    listed = folder / "sounds.csv"
    if not listed.is_file():
        raise PoolError(f"{listed} is missing; give a folder with sounds.csv and its recordings")
    with open(listed, encoding="utf-8", newline="") as table:
        reader = csv.DictReader(table)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise PoolError(f"{listed} lacks the columns {', '.join(missing)}")
        rows = list(reader)
    refused = sorted({str(row["licence"]) for row in rows} - set(LICENCES))
    if refused:
        raise PoolError(f"{listed} lists licences {', '.join(refused)}; allowed are {', '.join(LICENCES)}")
    return rows


@dataclass
class ClassRecordings:
    """The recordings of a split by label, with the licence, author and source of each."""

    labels: dict[str, list[Recording]] = field(default_factory=dict)
    credits: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # of all files, whatever their split
    skipped: list[str] = field(default_factory=list)  # "file: reason"

    @classmethod
    def load(
        cls, materials: Sequence[Path], classes: Sequence[Path], split: str, labels: Iterable[str]
    ) -> "ClassRecordings":
        """Read a split's recordings of some labels.

        Files of `materials` are divided by group (split_files), those of `classes` by session (split_sessions). Files
        that cannot be used are listed in `skipped`. Raises PoolError if a list is unusable or if a file is in two.
        """
        pool, wanted = cls(), set(labels)
        for folder in (*materials, *classes):
            rows = read_rows(folder)
            names = split_files(rows, split, SCENE_GROUPS) if folder in materials else split_sessions(rows, split)
            double = [row["file"] for row in rows if row["file"] in pool.credits]
            if double:
                raise PoolError(f"{folder} lists {len(double)} files of another pool, first {double[0]}; rename them")
            pool.credits |= {row["file"]: (row["licence"], row["author"], row["source"]) for row in rows}
            for row in rows:
                if row["file"] in names and row["label"] in wanted:
                    pool._read(folder, row)
        if not pool.labels:
            folders = ", ".join(map(str, (*materials, *classes)))
            raise PoolError(f"{folders} have no usable recording of the split {split} for any concept")
        for recordings in pool.labels.values():
            recordings.sort(key=lambda recording: recording.name)
        return pool

    def _read(self, folder: Path, row: dict[str, str]) -> None:
        try:
            samples = read_recording(folder / row["file"], float(row["seconds"]))
        except (OSError, ValueError, av.FFmpegError) as error:
            self.skipped.append(f"{row['file']}: {error}")
            return
        self.labels.setdefault(row["label"], []).append(Recording(row["file"], row["label"], samples))

    def of(self, concept: Concept) -> dict[str, list[Recording]]:
        """The recordings of a concept by label; labels without one in this split are left out."""
        return {label: self.labels[label] for label in concept.labels if label in self.labels}

    def credit(self, names: Iterable[str]) -> list[list[str]]:
        """[licence, author, source] of recordings, each once, in order."""
        return [list(entry) for entry in sorted({self.credits[name] for name in names if name in self.credits})]


def seconds_of(recordings: Iterable[Recording]) -> float:
    return sum(len(recording.samples) for recording in recordings) / RATE
