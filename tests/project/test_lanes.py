"""Tests marked `host` never run by the README's test command or in CI."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CASES = """
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.host
def test_host(): pass

@pytest.mark.host
@pytest.mark.slow
def test_slow_host(): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One test for each combination of markers, with the hook and the settings of this project."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_collection_modifyitems\n")
    (tmp_path / "test_cases.py").write_text(CASES)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def passed(folder: Path, options: list[str]) -> set[str]:
    """Names of the tests that run with these options of pytest."""
    command = [sys.executable, "-m", "pytest", "test_cases.py", "-rp", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return set(re.findall(r"^PASSED test_cases.py::test_(\w+)", result.stdout, re.MULTILINE))


def documented_options(file: str) -> list[str]:
    """The -m option of the pytest command in a file; other options do not matter here."""
    (line,) = re.findall(r"pytest (-q -m .*)", (ROOT / file).read_text(encoding="utf-8"))
    words = shlex.split(line, comments=True)
    return words[words.index("-m") : words.index("-m") + 2]


def test_the_commands_of_readme_and_ci_leave_out_host(folder: Path) -> None:
    assert passed(folder, documented_options("README.md")) == {"plain"}
    assert passed(folder, documented_options(".ci/run")) == {"slow"}


def test_host_runs_if_it_is_named(folder: Path) -> None:
    assert passed(folder, []) == {"plain", "slow"}
    assert passed(folder, ["-m", "host"]) == {"host", "slow_host"}
