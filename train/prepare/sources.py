"""Where clips come from: tables of known data sets, and folders of videos; and which of them are held out.

Only local files are read; nothing is downloaded. A YouTube id has 11 characters and may hold `-` and `_`, so names are
cut by length and never split at `_`.
"""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import MediaError
from train.data.clip_files import VIDEOS

CUT = 10  # seconds of a VGGSound clip


class SourceError(MediaError):
    """A table, list or folder that cannot be used."""


@dataclass(frozen=True)
class Clip:
    """One clip of a table, or one file of a folder."""

    id: str  # unique; the sample's name
    path: Path | None  # None where no file was found
    file: str = ""  # the path below the folder of clips
    begin: float = 0.0  # seconds of the file before the clip
    seconds: float | None = None  # length; None: every whole window to the end
    video: str = ""  # id of the video that it was cut from
    start: float | None = None  # seconds, in that video
    label: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Left:
    """A clip that is left out before it is read."""

    clip: str
    reason: str
    detail: str


Found = tuple[list[Clip], list[Left]]


class Files:
    """The videos below a folder, by name without suffix; of equal names the first path counts."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is no folder; give the one that holds the videos")
        self.folder = folder
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS and not p.name.startswith("."))
        if not paths:
            raise SourceError(f"{folder} holds no videos ({', '.join(VIDEOS)})")
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            self.by_stem[path.stem].append(path)
        self.paths = paths

    def relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def first(self, stems: Sequence[str]) -> tuple[Path, int] | None:
        """(path, number of the name) of the first name that there is a file of."""
        return next(((self.by_stem[s][0], n) for n, s in enumerate(stems) if s in self.by_stem), None)

    def duplicates(self, stems: Sequence[str]) -> list[Path]:
        """Further files of a clip: it is taken once."""
        paths = [p for s in stems for p in self.by_stem.get(s, [])]
        return paths[1:]


def rows(table: Path, columns: int, **format: object) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of a table without a header; empty lines and comments are skipped. Raises SourceError."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, **format)  # type: ignore[call-overload]
            for cells in reader:
                if not cells or cells[0].startswith("#"):
                    continue
                if len(cells) < columns:
                    raise SourceError(f"{table}, line {reader.line_num}: {len(cells)} columns, {columns} are needed")
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read ({error}); give the table as it was published") from error


def number(text: str, table: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SourceError(f"{table}, line {line}: {text!r} is no number of seconds") from error


def table_clips(files: Files, entries: Iterator[tuple[Clip, list[str]]]) -> Found:
    """Entries with the names that their file may have: cut clips, and last the whole video."""
    clips, left, seen = [], [], set()
    for entry, stems in entries:
        if entry.id in seen:
            left.append(Left(entry.id, "duplicate", "the table has it twice"))
            continue
        seen.add(entry.id)
        found = files.first(stems)
        if found is None:
            left.append(Left(entry.id, "missing", f"no file named {' or '.join(stems)}"))
            continue
        path, which = found
        whole = which == len(stems) - 1
        begin = entry.start or 0.0 if whole else 0.0
        fields = {"path": path, "file": files.relative(path), "begin": begin}
        clips.append(Clip(**{**entry.__dict__, **fields}))
        others = ", ".join(files.relative(p) for p in files.duplicates(stems))
        if others:
            left.append(Left(entry.id, "duplicate", f"{files.relative(path)} is used, not {others}"))
    return clips, left


# ---------------------------------------------------------------- the data sets
def cut_names(video: str, start: float, end: float) -> list[str]:
    """Names in use for a cut clip; the last is the whole video."""
    names = [f"{video}_{round(start * 1000)}_{round(end * 1000)}", f"{video}_{start:.3f}_{end:.3f}", video]
    return [f"{video}_{round(start):06d}", *names] if start == round(start) else names


def vggsound(files: Files, table: Path) -> Found:
    """vggsound.csv: id, start second, label, split."""

    def entries() -> Iterator[tuple[Clip, list[str]]]:
        for line, (video, second, label, split, *_) in rows(table, 4):
            start = number(second, table, line)
            if split not in ("train", "test"):
                raise SourceError(f"{table}, line {line}: split {split!r} is neither train nor test")
            clip = Clip(f"{video}_{round(start):06d}", None, "", 0.0, CUT, video, start, label, split)
            yield clip, cut_names(video, start, start + CUT)

    return table_clips(files, entries())


def audioset(files: Files, table: Path) -> Found:
    """AudioSet's segment tables: id, start, end, "labels" (comma-separated), lines with # are comments."""

    def entries() -> Iterator[tuple[Clip, list[str]]]:
        for line, (video, first, last, label, *_) in rows(table, 4, skipinitialspace=True):
            start, end = number(first, table, line), number(last, table, line)
            if end <= start:
                raise SourceError(f"{table}, line {line}: the clip ends at {end} s, before it starts")
            name = f"{video}_{round(start * 1000)}_{round(end * 1000)}"
            yield Clip(name, None, "", 0.0, end - start, video, start, label), cut_names(video, start, end)

    return table_clips(files, entries())


def music21(files: Files, table: Path) -> Found:
    """MUSIC's JSON: {"videos": {instrument: [ids]}}; every whole window of 10 s of a video is a sample."""
    try:
        videos = json.loads(table.read_text(encoding="utf-8"))["videos"]
        pairs = [(str(video), str(label)) for label, ids in videos.items() for video in ids]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f'{table} is no {{"videos": {{instrument: [ids]}}}} ({error!r})') from error
    return table_clips(files, ((Clip(v, None, video=v, label=label), [v]) for v, label in pairs))


def folder(files: Files, table: Path | None = None) -> Found:
    """Every video below a folder, named by its path without suffix."""
    clips, left, seen = [], [], {}
    for path in files.paths:
        name = files.relative(path).removesuffix(path.suffix)
        if name in seen:
            left.append(Left(files.relative(path), "duplicate", f"{seen[name]} has the same name"))
        else:
            seen[name] = files.relative(path)
            clips.append(Clip(name, path, files.relative(path), video=name))
    return clips, left


SOURCES: dict[str, Callable[..., Found]] = {
    "folder": folder, "vggsound": vggsound, "audioset": audioset, "music21": music21
}  # fmt: skip


# ---------------------------------------------------------------- splits
def rank(seed: int, name: str) -> str:
    """A name's place in the order that this seed gives: the same whatever other names there are."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def stratified(names: dict[str, Sequence[str]], count: int, seed: int) -> set[str]:
    """`count` names, of every stratum its share (largest remainders), the first by rank in each."""
    total = sum(map(len, names.values()))
    if not 0 <= count <= total:
        raise SourceError(f"{count} of {total} clips cannot be chosen")
    exact = {label: count * len(ids) / max(total, 1) for label, ids in names.items()}
    shares = {label: int(share) for label, share in exact.items()}
    by_rest = sorted(exact, key=lambda label: (shares[label] - exact[label], label))
    for label in by_rest[: count - sum(shares.values())]:
        shares[label] += 1
    return {n for label, ids in names.items() for n in sorted(ids, key=lambda n: rank(seed, n))[: shares[label]]}
