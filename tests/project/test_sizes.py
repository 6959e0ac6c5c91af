"""Code stays small enough to read: lines per function and file, modules per folder, lines per guide."""

import ast
from collections import Counter

import pytest

from tests.support.paths import ROOT

FOLDERS = ("engines", "runtime", "train", "export", "benchmarks")
SOURCES = sorted(p for name in FOLDERS for p in (ROOT / name).rglob("*.py"))
LINES, MODEL_LINES, FUNCTION_LINES, MODULES = 300, 400, 40, 20
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
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
