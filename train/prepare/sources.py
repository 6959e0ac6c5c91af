"""Lists the clips of known data sets (VGGSound, AudioSet, MUSIC21) and of folders, and draws test and validation clips.

Only local files are read; nothing is downloaded. A YouTube id has 11 characters, which may be `-` or `_`. So names are
cut by length, never split at `_`.
"""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import MediaError
from train.data.video_files import VIDEOS

CUT = 10  # seconds of a VGGSound clip


class SourceError(MediaError):
    """A table, list or folder is unusable."""


@dataclass(frozen=True)
class Clip:
    """One clip of a table, or one file of a folder."""

    id: str  # unique; becomes the sample's name
    path: Path | None  # None if no file was found
    file: str = ""  # the path, relative to the folder of clips
    begin: float = 0.0  # where the clip starts in the file, in seconds
    seconds: float | None = None  # length; None: every whole window until the end
    video: str = ""  # id of the video that the clip was cut from
    start: float | None = None  # where the clip starts in that video, in seconds
    label: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Excluded:
    """A clip that is left out before it is read."""

    clip: str
    reason: str
    detail: str


Found = tuple[list[Clip], list[Excluded]]


class Files:
    """The videos below a folder, by name without suffix. If names are equal, the first path is used."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder; give the folder of the videos")
        self.folder = folder
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS and not p.name.startswith("."))
        if not paths:
            raise SourceError(f"{folder} holds no videos ({', '.join(VIDEOS)}); give the folder of the videos")
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            self.by_stem[path.stem].append(path)
        self.paths = paths

    def relative(self, path: Path) -> str:
        """A path relative to the folder."""
        return path.relative_to(self.folder).as_posix()

    def first(self, stems: Sequence[str]) -> tuple[Path, int] | None:
        """(path, index of the name) for the first of the names that has a file; None if none has."""
        return next(((self.by_stem[s][0], n) for n, s in enumerate(stems) if s in self.by_stem), None)

    def duplicates(self, stems: Sequence[str]) -> list[Path]:
        """The other files of a clip; only its first one is used."""
        paths = [p for s in stems for p in self.by_stem.get(s, [])]
        return paths[1:]


def rows(table: Path, columns: int, **format: object) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of a table, without empty lines and comments. Raises SourceError.

    `columns` is the least number of cells that a row must have; `format` goes to csv.reader.
    """
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, **format)  # type: ignore[call-overload]
            for cells in reader:
                if not cells or cells[0].startswith("#"):
                    continue
                if len(cells) < columns:
                    raise SourceError(f"{table}, line {reader.line_num}: {len(cells)} columns; {columns} are needed")
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read ({error}); give the table as it was published") from error


def number(text: str, table: Path, line: int) -> float:
    """A cell as seconds. Raises SourceError that names the line."""
    try:
        return float(text)
    except ValueError as error:
        raise SourceError(f"{table}, line {line}: {text!r} is not a number of seconds") from error


def table_clips(files: Files, entries: Iterator[tuple[Clip, list[str]]]) -> Found:
    """Find the files of a table's entries.

    Each entry comes with the names that its file may have: first those of the cut clip, last that of the whole video.
    """
    clips, excluded, seen = [], [], set()
    for entry, stems in entries:
        if entry.id in seen:
            excluded.append(Excluded(entry.id, "duplicate", "the table lists it twice"))
            continue
        seen.add(entry.id)
        found = files.first(stems)
        if found is None:
            excluded.append(Excluded(entry.id, "missing", f"no file named {' or '.join(stems)}"))
            continue
        path, which = found
        whole = which == len(stems) - 1
        begin = entry.start or 0.0 if whole else 0.0
        fields = {"path": path, "file": files.relative(path), "begin": begin}
        clips.append(Clip(**{**entry.__dict__, **fields}))
        others = ", ".join(files.relative(p) for p in files.duplicates(stems))
        if others:
            excluded.append(Excluded(entry.id, "duplicate", f"{files.relative(path)} is used, not {others}"))
    return clips, excluded


# ---------------------------------------------------------------- the data sets
def cut_names(video: str, start: float, end: float) -> list[str]:
    """The names that people give a cut clip; the last one is that of the whole video."""
    names = [f"{video}_{round(start * 1000)}_{round(end * 1000)}", f"{video}_{start:.3f}_{end:.3f}", video]
    return [f"{video}_{round(start):06d}", *names] if start == round(start) else names


def vggsound(files: Files, table: Path) -> Found:
    """The clips of vggsound.csv: id, start second, label, split."""

    def entries() -> Iterator[tuple[Clip, list[str]]]:
        for line, (video, second, label, split, *_) in rows(table, 4):
            start = number(second, table, line)
            if split not in ("train", "test"):
                raise SourceError(f"{table}, line {line}: split {split!r} is neither train nor test")
            clip = Clip(f"{video}_{round(start):06d}", None, "", 0.0, CUT, video, start, label, split)
            yield clip, cut_names(video, start, start + CUT)

    return table_clips(files, entries())


def audioset(files: Files, table: Path) -> Found:
    """The clips of AudioSet's segment tables: id, start, end, "labels" (comma-separated). Lines with # are comments."""

    def entries() -> Iterator[tuple[Clip, list[str]]]:
        for line, (video, first, last, label, *_) in rows(table, 4, skipinitialspace=True):
            start, end = number(first, table, line), number(last, table, line)
            if end <= start:
                raise SourceError(f"{table}, line {line}: the clip ends at {end} s, before it starts")
            name = f"{video}_{round(start * 1000)}_{round(end * 1000)}"
            yield Clip(name, None, "", 0.0, end - start, video, start, label), cut_names(video, start, end)

    return table_clips(files, entries())


def music21(files: Files, table: Path) -> Found:
    """The videos of MUSIC's JSON: {"videos": {instrument: [ids]}}. Each whole window of 10 s becomes a sample."""
    try:
        videos = json.loads(table.read_text(encoding="utf-8"))["videos"]
        pairs = [(str(video), str(label)) for label, ids in videos.items() for video in ids]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f'{table} is not {{"videos": {{instrument: [ids]}}}} ({error!r})') from error
    return table_clips(files, ((Clip(v, None, video=v, label=label), [v]) for v, label in pairs))


def folder(files: Files, table: Path | None = None) -> Found:
    """Every video below a folder; its path without suffix is its name."""
    clips, excluded, seen = [], [], {}
    for path in files.paths:
        name = files.relative(path).removesuffix(path.suffix)
        if name in seen:
            excluded.append(Excluded(files.relative(path), "duplicate", f"{seen[name]} has the same name"))
        else:
            seen[name] = files.relative(path)
            clips.append(Clip(name, path, files.relative(path), video=name))
    return clips, excluded


SOURCES: dict[str, Callable[..., Found]] = {
    "folder": folder, "vggsound": vggsound, "audioset": audioset, "music21": music21
}  # fmt: skip


# ---------------------------------------------------------------- splits
def rank(seed: int, name: str) -> str:
    """A sort key that orders names randomly by seed. A name's key does not depend on the other names."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def stratified(names: dict[str, Sequence[str]], count: int, seed: int) -> set[str]:
    """Draw `count` names so that each label has its share (largest remainders); in a label, the first ones by rank.

    Raises SourceError if there are fewer names.
    """
    total = sum(map(len, names.values()))
    if not 0 <= count <= total:
        raise SourceError(f"{count} of {total} clips cannot be chosen")
    exact = {label: count * len(ids) / max(total, 1) for label, ids in names.items()}
    shares = {label: int(share) for label, share in exact.items()}
    by_rest = sorted(exact, key=lambda label: (shares[label] - exact[label], label))
    for label in by_rest[: count - sum(shares.values())]:
        shares[label] += 1
    return {n for label, ids in names.items() for n in sorted(ids, key=lambda n: rank(seed, n))[: shares[label]]}
