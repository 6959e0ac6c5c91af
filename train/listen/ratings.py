"""Keeps the ratings of a test in a file, and computes mean opinion scores in the layout of the paper's Table 3.

The file, ratings.jsonl, has one JSON object per line.
"""

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.errors import OptionError
from train.evaluate.bootstrap import crossed_interval
from train.evaluate.report import number
from train.listen.items import FULL, LOW, SECTIONS, Item, ListeningTest

LONGEST_NAME = 80
COLUMNS = (  # (question, sample rate, column head)
    ("quality", LOW, "Quality 16 kHz"),
    ("quality", FULL, "Quality 44.1 kHz"),
    ("relevance", LOW, "Relevance 16 kHz"),
    ("relevance", FULL, "Relevance 44.1 kHz"),
    ("alignment", LOW, "Alignment 16 kHz"),
    ("overall", FULL, "Overall"),
)
GROUPS = {"all listeners": None, "experts": True, "others": False}  # name -> value of Rating.expert; None: any


@dataclass(frozen=True)
class Rating:
    """One listener's rating of one item: 1 to 5 for each question of its section."""

    listener: str
    expert: bool
    item: str
    ratings: dict[str, int]


class Ratings:
    """The file ratings.jsonl of a test. It is thread-safe, and a rating is on the disk when `add` returns."""

    def __init__(self, folder: Path, test: ListeningTest) -> None:
        self.path, self.test = folder / "ratings.jsonl", test
        self.items = {item.id: item for item in test.items}
        self.damaged = 0  # number of lines that are not ratings, for example after a power cut
        self.known: dict[tuple[str, str], Rating] = {}  # by listener and item
        self._lock = threading.Lock()
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            values = json.loads(line)
            rating = self.check({key: values[key] for key in ("listener", "expert", "item", "ratings")})
        except (ValueError, KeyError, TypeError):
            self.damaged += 1
            return
        self.known.setdefault((rating.listener, rating.item), rating)

    def check(self, values: Any) -> Rating:
        """Make a rating from JSON values. Raises OptionError that says what is wrong."""
        if not isinstance(values, dict) or set(values) != {"listener", "expert", "item", "ratings"}:
            raise OptionError("a rating must have the keys listener, expert, item and ratings")
        listener = check_listener(values["listener"])
        if not isinstance(values["expert"], bool):
            raise OptionError("expert must be true or false")
        item = self.items.get(values["item"]) if isinstance(values["item"], str) else None
        if item is None:
            raise OptionError(f"the test has no item {values['item']!r}")
        ratings, questions = values["ratings"], SECTIONS[item.section].questions
        if not isinstance(ratings, dict) or set(ratings) != set(questions):
            raise OptionError(f"the ratings must be of {' and '.join(questions)}")
        if any(type(value) is not int or not 1 <= value <= 5 for value in ratings.values()):
            raise OptionError("a rating must be a whole number from 1 to 5")
        return Rating(listener, values["expert"], item.id, ratings)

    def add(self, rating: Rating) -> None:
        """Keep a rating. If the listener has rated the item before, the first rating stays. Raises OSError."""
        with self._lock:
            key = (rating.listener, rating.item)
            if key in self.known:
                return
            now = datetime.now(UTC).isoformat(timespec="seconds")
            with open(self.path, "a+b") as file:
                if file.tell() and not self._ends_with_newline(file):
                    file.write(b"\n")
                file.write(json.dumps(asdict(rating) | {"time": now}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self.known[key] = rating

    @staticmethod
    def _ends_with_newline(file: Any) -> bool:
        """Whether the last line is complete. A line that was cut off must not be joined with the next one."""
        file.seek(-1, os.SEEK_END)
        return bool(file.read(1) == b"\n")

    def next_item(self, listener: str) -> tuple[Item | None, int]:
        """The listener's next item (None at the end), and the number of items done."""
        order = self.test.order(listener)
        todo = [item for item in order if (listener, item.id) not in self.known]
        return (todo[0] if todo else None), len(order) - len(todo)


def check_listener(name: Any) -> str:
    """A listener's name without surrounding spaces. Raises OptionError if it is not allowed."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise OptionError(f"enter a name of 1 to {LONGEST_NAME} printable characters")
    return name.strip()


# ---------------------------------------------------------------- mean opinion scores
def scores(ratings: Ratings) -> dict[str, Any]:
    """{"mean", "interval", "n"} per group of listeners, system and column; None if there are no ratings.

    The interval is a bootstrap over listeners and samples.
    """
    out: dict[str, Any] = {}
    for group, expert in GROUPS.items():
        chosen = [r for r in ratings.known.values() if expert is None or r.expert == expert]
        listeners = sorted({r.listener for r in chosen})
        systems: dict[str, dict[str, Any]] = {}
        for system in dict.fromkeys(item.system for item in ratings.test.items):
            systems[system] = {}
            for question, rate, head in COLUMNS:
                asked = [r for r in chosen if _asks(ratings.items[r.item], system, question, rate)]
                systems[system][head] = _summary(asked, question)
        out[group] = {"listeners": len(listeners), "ratings": len(chosen), "systems": systems}
    return out


def _summary(asked: list[Rating], question: str) -> dict[str, Any] | None:
    """Mean and interval. Ratings of one listener are not independent, nor are those of one sample."""
    if not asked:
        return None
    values = [r.ratings[question] for r in asked]
    interval = crossed_interval(values, [r.listener for r in asked], [r.item for r in asked])
    return {"mean": sum(values) / len(values), "interval": interval, "n": len(values)}


def _asks(item: Item, system: str, question: str, rate: int) -> bool:
    return item.system == system and item.rate == rate and question in SECTIONS[item.section].questions


def as_markdown(found: dict[str, Any]) -> str:
    """The content of mos.md: a table like the paper's Table 3 for each group of listeners."""
    lines = [
        "# Mean opinion scores",
        "",
        "From 1 (bad) to 5 (excellent), with 95 % confidence intervals (bootstrap over listeners and samples).",
        "",
    ]
    for group, values in found.items():
        if not values["ratings"]:
            continue
        lines += [f"## {group}: {values['listeners']} listeners, {values['ratings']} samples rated", ""]
        heads = [head for _, _, head in COLUMNS]
        lines += ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
        for system, row in values["systems"].items():
            lines.append(f"| {system} | " + " | ".join(_cell(row[head]) for head in heads) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "–"
    low, high = summary["interval"]
    return f"{number(summary['mean'])} [{number(low)}, {number(high)}]"
