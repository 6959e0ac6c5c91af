"""Code stays small enough to read: lines per function, file and guide, modules per folder, columns of prose."""

import ast
from collections import Counter

import pytest

from tests.support.paths import ROOT

FOLDERS = ("engines", "runtime", "train", "export", "benchmarks", "plugins", "deploy")
SOURCES = sorted(p for name in FOLDERS for p in (ROOT / name).rglob("*.py"))
LINES, MODEL_LINES, FUNCTION_LINES, MODULES = 300, 400, 40, 20
GUIDES = sorted(
    [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "plugins").glob("*/README.md"),
        *(p for p in ROOT.glob("*.md") if p.name != "CREDITS.md"),
    ]
)
GUIDE_LINES, COLUMNS = 150, 150
TABLES = {"engines/contract.py graphs"}  # a table of all graphs; it reads best in one piece


def test_no_file_is_long() -> None:
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    long = {n: k for n, k in lengths.items() if k > (MODEL_LINES if n.startswith("train/models/") else LINES)}
    assert not long


def test_no_function_is_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT).as_posix()} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES}
    assert set(long) == TABLES, long


def test_no_folder_is_wide() -> None:
    modules = Counter(p.parent.relative_to(ROOT).as_posix() for p in SOURCES if p.name != "__init__.py")
    assert not {folder: n for folder, n in modules.items() if n > MODULES}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_no_guide_is_long(path) -> None:
    if path.name != "log.md":
        assert len(path.read_text(encoding="utf-8").splitlines()) <= GUIDE_LINES


def wide_lines(text: str) -> list[str]:
    """Lines of prose that are too long to read; a table's row and code cannot be broken."""
    prose, code = [], False
    for line in text.splitlines():
        code ^= line.lstrip().startswith("```")
        prose += [] if code or line.lstrip().startswith("|") else [line]
    return [line for line in prose if len(line) > COLUMNS]


@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_line_of_prose_is_wide(path) -> None:
    assert wide_lines(path.read_text(encoding="utf-8")) == []


def test_a_wide_line_is_found() -> None:
    wide = "word " * 31
    assert wide_lines(f"{wide}\n| {wide} |\n```\n{wide}\n```\n- {wide}\n") == [wide, f"- {wide}"]
