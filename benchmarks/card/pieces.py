"""Large files travel in pieces, because a way to another machine may limit the size of a file or of a folder."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import OptionError

MEGABYTE = 1_000_000
PIECE = re.compile(r".+\.piece(?P<number>\d{3})of\d{3}")
INDEX = "pieces.json"  # sha256 of every file that was cut, by its path
BLOCK = 1 << 22


def sha256_of(path: Path) -> str:
    """The hash of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> list[Path]:
    """All files below a folder, sorted, relative to it."""
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum((path / name).stat().st_size for name in files_in(path))


def cut(path: Path, size: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pieces of a file, each of at most `size` bytes."""
    count = max(1, -(-path.stat().st_size // size))
    if count > 999:
        raise OptionError(f"{path} would be cut into {count} pieces; at most 999 are possible, so allow larger files")
    with path.open("rb") as file:
        for number in range(1, count + 1):
            yield f"{path.name}.piece{number:03}of{count:03}", file.read(size)


def note_hash(folder: Path, name: str, digest: str) -> None:
    """Add a file's hash to the folder's index, which `join_all` checks."""
    index = folder / INDEX
    known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    write_text(index, json.dumps(known | {name: digest}, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def join_all(folder: Path) -> list[str]:
    """Join the pieces of every file in the index of `folder`, and delete them.

    Returns what is missing or damaged, one line each. Such a file keeps its pieces, so that others can be added later.
    """
    index, problems = folder / INDEX, []
    hashes = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    for name, digest in sorted(hashes.items()):
        path = folder / name
        found = {int(m["number"]): p for p in path.parent.glob(f"{path.name}.piece*") if (m := PIECE.fullmatch(p.name))}
        if not found:
            problems += [] if path.is_file() else [f"{name}: all pieces are missing"]
            continue
        count = int(next(iter(found.values())).name[-3:])
        missing = sorted(set(range(1, count + 1)) - set(found))
        if missing:
            problems.append(f"{name}: pieces {', '.join(map(str, missing))} of {count} are missing")
        elif not _join(path, found, digest):
            problems.append(f"{name}: its pieces do not give the file that was cut (sha256 differs); copy them again")
    return problems


def _join(path: Path, pieces: dict[int, Path], digest: str) -> bool:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as whole:
        for number in sorted(pieces):
            with pieces[number].open("rb") as piece:
                shutil.copyfileobj(piece, whole, BLOCK)
    if sha256_of(part) != digest:
        part.unlink()
        return False
    os.replace(part, path)
    for piece_path in pieces.values():
        piece_path.unlink()
    return True
