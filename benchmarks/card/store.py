"""Results of benchmarks.card: one JSON file per part, written completely or not at all, and what travels home.

WORK/parts/NAME.json has {"name", "status", "reason", "seconds", "date", "tries", "result"}. OUT/card.json has all of
them; it is written again after each part, so a machine that is taken away loses at most the part that was running.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.card.pieces import MEGABYTE, cut, note_hash, sha256_of, size_of, write_text
from runtime.errors import OptionError

Record = dict[str, Any]
DONE, CUT, FAILED, LEFT_OUT, LOST, WAITING = "done", "cut", "failed", "left out", "lost", "waiting"
TRIES = 2  # a part that failed so often is tried only if it is named
CARD = "card.json"
DEFAULT_OUTPUT = "8:16"


@dataclass(frozen=True)
class OutputLimit:
    """At most `files` files of at most `megabytes` each."""

    files: int
    megabytes: float

    @classmethod
    def parse(cls, text: str) -> "OutputLimit":
        """Read FILES:MB. Raises OptionError."""
        files, _, megabytes = text.partition(":")
        try:
            found = cls(int(files), float(megabytes))
            if found.files < 1 or not found.megabytes >= 0.1:
                raise ValueError
        except ValueError as error:
            advice = "give FILES:MB, at least 1:0.1, such as 8:16 for eight files of 16 MB each"
            raise OptionError(f"--max-output {text}: {advice}") from error
        return found

    @property
    def bytes_each(self) -> int:
        return int(self.megabytes * MEGABYTE)


class Store:
    """The records of all parts: those of this machine, and those that came with the pack."""

    def __init__(self, work: Path, out: Path, limit: OutputLimit, header: Record, earlier: Path | None = None) -> None:
        """`earlier` is a card.json of an earlier run. Records that cannot be read are ignored: the part runs again."""
        self.work, self.out, self.limit, self.header = work, out, limit, header
        self.records: dict[str, Record] = {}
        if earlier is not None and earlier.is_file():
            parts = json.loads(earlier.read_text(encoding="utf-8"))["parts"]
            self.records = {name: record for name, record in parts.items() if not record.get("local")}
        for file in sorted((work / "parts").glob("*.json")):
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                self.records[record["name"]] = record
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def status(self, name: str) -> str | None:
        return self.records[name]["status"] if name in self.records else None

    def tries(self, name: str) -> int:
        """How often a part was started without being done."""
        return int(self.records.get(name, {}).get("tries", 0))

    def put(self, record: Record) -> None:
        """Keep a part's record, on this machine and for the way home. A better earlier result is not replaced."""
        name, old = record["name"], self.records.get(record["name"], {})
        if record.get("result") is None and old.get("result") is not None:  # a new failure, an old partial result
            record = record | {"result": old["result"]}
        self.records[name] = record
        write_text(self.work / "parts" / f"{name}.json", json.dumps(record, indent=1) + "\n")
        self.write_home()

    def write_home(self) -> None:
        """Write OUT/card.json; results that would make it larger than allowed are left here and named."""
        values = self.header | {"parts": dict(self.records)}
        text = json.dumps(values) + "\n"
        for name in sorted(self.records, key=lambda n: -len(json.dumps(self.records[n]))):
            if len(text.encode()) <= self.limit.bytes_each:
                break
            stays = f"too large for --max-output; it stays in {self.work / 'parts' / name}.json"
            values["parts"][name] = self.records[name] | {"result": None, "left_behind": stays}
            text = json.dumps(values) + "\n"
        write_text(self.out / CARD, text)

    # ------------------------------------------------------------ states of trainings
    def carry_home(self, folders: dict[str, Path]) -> list[str]:
        """Cut each folder's files into OUT, by name; returns what did not fit, one line each. Older ones are deleted.

        A folder travels completely or not at all.
        """
        for old in self.out.glob("*.piece*"):
            old.unlink()
        (self.out / "pieces.json").unlink(missing_ok=True)
        room, problems = self.limit.files - 2, []  # besides card.json and pieces.json
        for name, folder in folders.items():
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            needed = sum(max(1, -(-p.stat().st_size // self.limit.bytes_each)) for p in files)
            if needed > room:
                size = size_of(folder) / MEGABYTE
                words = f"{name}: {size:.0f} MB in {needed} files do not fit, {max(0, room)} files are left"
                problems.append(f"{words}; raise --max-output, or take {folder} along yourself")
                continue
            room -= needed
            for path in files:
                flat = f"{name}.{path.relative_to(folder).as_posix().replace('/', '.')}"
                note_hash(self.out, flat, sha256_of(path))
                for piece, content in cut(path, self.limit.bytes_each):
                    (self.out / piece.replace(path.name, flat, 1)).write_bytes(content)
        return problems
