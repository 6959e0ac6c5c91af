"""Reads lists of clips or classes, as --only and --without take them, and chooses clips by them.

It understands VGGSound-Sparse's picked classes and clean lists, tables with a header, and plain names, one per line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.prepare.sources import Clip, Excluded, Found, SourceError, rows

YES, NO = ("y", "yes", "1", "true"), ("n", "no", "0", "false")


@dataclass(frozen=True)
class ClipList:
    """The content of a list: class labels, clip names, and (video, start second or None) pairs."""

    labels: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    cuts: frozenset[tuple[str, float | None]] = frozenset()

    def __contains__(self, clip: object) -> bool:
        if not isinstance(clip, Clip):
            return False
        cut = {(clip.video, clip.start), (clip.video, None)}
        return clip.label in self.labels or clip.id in self.names or bool(cut & self.cuts)


def parse_name(name: str) -> tuple[str, float | None]:
    """Split a clip's name, in any of the known namings, into (video, start second or None).

    Folders and suffixes are ignored.
    """
    stem = re.sub(r"\.(mp4|mkv|webm|avi|mov|m4v|wav|flac)$", "", name.strip().rsplit("/", 1)[-1], flags=re.I)
    if found := re.fullmatch(r"(.{11})_(\d{6})", stem):
        return found[1], float(found[2])
    if found := re.fullmatch(r"(.{11})_(\d+)_(\d+)", stem):
        return found[1], int(found[2]) / 1000
    if found := re.fullmatch(r"(.{11})_(\d+\.\d+)_(\d+\.\d+)", stem):
        return found[1], float(found[2])
    return stem, None


NAME_COLUMNS = ("video_id", "path", "youtube_id", "ytid", "id", "name", "file")


def read_list(path: Path) -> ClipList:
    """Read a list in one of three forms.

    - lines of a class, a tab, and y or n (VGGSound-Sparse's picked classes);
    - a table with a header (VGGSound-Sparse's clean lists; rows with is_sync 0 are left out);
    - one name, or `id,start`, per line.

    Raises SourceError if the list is unreadable or empty.
    """
    table = [cells for _, cells in rows(path, 1, delimiter="\t")]
    if table and all(len(cells) > 1 for cells in table):
        kept = [cells[0] for cells in table if cells[1].strip().lower() in YES]
        if not kept:
            raise SourceError(f"{path} marks no class with y; write lines of a class, a tab, and y or n")
        return ClipList(labels=frozenset(kept))
    table = [[cell.strip() for cell in cells] for _, cells in rows(path, 1)]
    if not table:
        raise SourceError(f"{path} is empty; write one name per line")
    header = [cell.lower() for cell in table[0]]
    column = next((header.index(name) for name in NAME_COLUMNS if name in header), None)
    if column is None:
        return _from_pairs([(cells[0], cells[1] if len(cells) > 1 else "") for cells in table])
    start = next((header.index(n) for n in ("start_sec", "start", "start_seconds") if n in header), None)
    sync = header.index("is_sync") if "is_sync" in header else None
    body = [cells for cells in table[1:] if sync is None or cells[sync].lower() not in NO]
    return _from_pairs([(cells[column], "" if start is None else cells[start]) for cells in body])


def _from_pairs(pairs: Sequence[tuple[str, str]]) -> ClipList:
    """The list that (name, start second or "") pairs make."""
    cuts = set()
    for name, start in pairs:
        video, second = parse_name(name)
        if second is None and re.fullmatch(r"\d+(\.\d+)?", start):
            second = float(start)
        cuts.add((video, second))
    return ClipList(names=frozenset(name for name, _ in pairs), cuts=frozenset(cuts))


def choose(clips: Sequence[Clip], only: Sequence[Path], without: Sequence[Path]) -> Found:
    """Keep the clips that are in every list of `only` and in no list of `without`.

    Also returns the other clips, with the reason. Raises SourceError if none are left.
    """
    wanted, unwanted = [read_list(p) for p in only], [read_list(p) for p in without]
    kept, excluded = [], []
    for clip in clips:
        reason = next((f"not in {p.name}" for p, names in zip(only, wanted, strict=True) if clip not in names), None)
        reason = reason or next(
            (f"in {p.name}" for p, names in zip(without, unwanted, strict=True) if clip in names), None
        )
        if reason:
            excluded.append(Excluded(clip.id, "list", reason))
        else:
            kept.append(clip)
    if not kept:
        raise SourceError(f"the lists leave none of the {len(clips)} clips; check --only and --without")
    return kept, excluded
