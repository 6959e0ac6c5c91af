"""Files and folders stay small enough to read: lines per file, modules per folder, lines per guide."""

from collections import Counter

import pytest

from tests.support.paths import ROOT

FOLDERS = ("engines", "runtime", "train", "export", "benchmarks")
SOURCES = sorted(p for name in FOLDERS for p in (ROOT / name).rglob("*.py"))
LINES, MODEL_LINES, MODULES = 300, 400, 20


def test_no_file_is_long() -> None:
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    long = {n: k for n, k in lengths.items() if k > (MODEL_LINES if n.startswith("train/models/") else LINES)}
    assert not long


def test_no_folder_is_wide() -> None:
    modules = Counter(p.parent.relative_to(ROOT).as_posix() for p in SOURCES if p.name != "__init__.py")
    assert not {folder: n for folder, n in modules.items() if n > MODULES}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_no_guide_is_long(path) -> None:
    if path.name != "log.md":
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
