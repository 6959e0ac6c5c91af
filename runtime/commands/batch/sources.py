"""What a batch works on: videos, folders of videos, and CSV tables."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VIDEOS = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .wmv".split()
)  # suffixes that a folder is searched for; a video that is named may have any
COLUMNS = {"clip": "", "range": "--range", "prompt": "--prompt", "avoid": "--avoid", "output": ""}  # and their flags
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Entry:
    """One sound to make. `problem` says why it cannot be made; then the other fields may be empty."""

    video: Path
    output: Path | None = None  # sound file; None: named after the video
    flags: dict[str, str] = field(default_factory=dict)  # of this sound alone, such as {"--range": "2-4"}
    where: str = ""  # line of a table
    problem: str = ""

    def failing(self, problem: str) -> "Entry":
        return Entry(self.video, self.output, self.flags, self.where, problem)


def with_name(entry: Entry, problem: str) -> str:
    """A problem with the place where it is: the table's line, or the video if the problem does not name it."""
    if entry.where:
        return f"{entry.where}: {problem}"
    return problem if problem.startswith(str(entry.video)) else f"{entry.video}: {problem}"


def read_sources(sources: Sequence[Path], out_dir: Path | None) -> list[Entry]:
    """All sounds to make, in the order of the sources. Names in a folder are sorted."""
    entries: list[Entry] = []
    for source in sources:
        if source.is_dir():
            found = [Entry(path) for path in videos_of(source)]
            entries += found or [Entry(source, problem=f"the folder has no videos ({' '.join(sorted(VIDEOS))})")]
        elif source.suffix.lower() == ".csv":
            entries += read_table(source, out_dir)
        else:
            entries.append(Entry(source))
    return entries


def videos_of(folder: Path) -> list[Path]:
    """The videos of a folder, without hidden files and without the copies with sound that --mux wrote there."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEOS and p.name[0] != "." and not p.is_dir())
    names = {p.name for p in found}
    return [p for p in found if not (p.stem.endswith(".sound") and f"{p.stem[:-6]}{p.suffix}" in names)]


def read_table(path: Path, out_dir: Path | None) -> list[Entry]:
    """The rows of a CSV table. Names in it count from the table's folder; outputs from `out_dir` if that is given."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin the file with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8; save it as CSV UTF-8"
        return [Entry(path, problem=f"cannot read the table: {reason}")]
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)  # spreadsheets use ; where , is the decimal sign
    rows = csv.reader(text.splitlines(), delimiter=delimiter)
    names = [name.strip().lower() for name in next(rows, [])]
    problem = _header_problem(names)
    if problem:
        return [Entry(path, problem=problem)]
    found = list(_read_rows(path, names, rows, path.parent if out_dir is None else out_dir))
    return found or [Entry(path, problem="the table has no rows")]


def _header_problem(names: list[str]) -> str:
    allowed = f"the columns are {', '.join(COLUMNS)}; only clip is needed"
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        return f"unknown column {unknown[0]!r}: {allowed}"
    if "clip" not in names:
        return f"there is no column clip: {allowed}"
    twice = [name for name in names if names.count(name) > 1]
    return f"the column {twice[0]!r} is there twice" if twice else ""


def _read_rows(path: Path, names: list[str], rows: Iterator[list[str]], out_dir: Path) -> Iterator[Entry]:
    for number, row in enumerate(rows, 2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{path}, line {number}"
        values = dict(zip(names, cells, strict=False))
        if len(cells) > len(names):
            yield Entry(path, where=where, problem=f"{len(cells)} values for {len(names)} columns")
        elif not values.get("clip"):
            yield Entry(path, where=where, problem="the column clip is empty")
        else:
            output = out_dir / values["output"] if values.get("output") else None
            flags = {flag: values[name] for name, flag in COLUMNS.items() if flag and values.get(name)}
            yield Entry(Path(os.path.join(path.parent, values["clip"])), output, flags, where)
