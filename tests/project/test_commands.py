"""Every `python -m` command in the docs works: its --help succeeds and shows the documented name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

# log.md and CHANGELOG.md are history and may name commands that were renamed
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *ROOT.glob("*/README.md")]
OURS = ("runtime", "train", "export", "benchmarks", "deploy")
RENAMED = ("train.synthetic.drawn", "train.synthetic.scenes", "train.synthetic.credits")  # from train.clips, ...

# runs all commands in one process, because most of them import PyTorch
HELP = """
import contextlib, io, json, runpy, sys, warnings

warnings.simplefilter("ignore")  # runpy warns if a module was imported before
for name in sys.argv[1:]:
    sys.argv, out = [name, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        code = "it did not exit"
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = repr(error)
    print(json.dumps([name, code, out.getvalue()]))
"""


def documented(texts: list[str]) -> set[str]:
    """Names of our modules after `python -m`."""
    names = {name.rstrip(".") for text in texts for name in re.findall(r"python3? -m ([a-z][\w.]*)", text)}
    return {name for name in names if name.split(".")[0] in OURS}


def run_help(names: list[str], path: Path = ROOT) -> dict[str, tuple[object, str]]:
    """Name -> exit status and output of `python -m NAME --help`."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-c", HELP, *names]
    result = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
    return {name: (code, text) for name, code, text in found}


def help_of(name: str) -> tuple[object, str]:
    """The same of one command in a process of its own: these print in a child process."""
    command = [sys.executable, "-m", name, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def problems(found: dict[str, tuple[object, str]]) -> dict[str, str]:
    """Name -> what is wrong, for commands that fail or show another name."""
    failed = {name: str(code) for name, (code, _) in found.items() if code not in (0, None)}
    other = {n: text[:80] for n, (_, text) in found.items() if n not in failed and f"python -m {n} " not in text}
    return failed | other


def test_every_documented_command_shows_its_help() -> None:
    names = documented([path.read_text(encoding="utf-8") for path in DOCS if path.name != "log.md"])
    assert {"runtime.infer", "train.fit", "export", "benchmarks.latency"} <= names
    guarded = {name: help_of(name) for name in ("runtime.infer", "runtime.info", "runtime.doctor")}
    found = problems(run_help(sorted((names | set(RENAMED)) - set(guarded))) | guarded)
    missing = {name: problem for name, problem in found.items() if "is not installed; install it with" in problem}
    assert found == missing
    if missing:
        pytest.skip("; ".join(missing.values()))


def test_commands_that_do_not_work_are_found(tmp_path: Path) -> None:
    """One module is missing, one raises on import, and one shows another name."""
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "other.py").write_text("import argparse\nargparse.ArgumentParser(prog='python -m old').parse_args()\n")
    (tmp_path / "good.py").write_text("import argparse\nargparse.ArgumentParser(prog='python -m good').parse_args()\n")
    found = problems(run_help(["absent", "broken", "other", "good"], tmp_path))
    assert list(found) == ["absent", "broken", "other"] and "ZeroDivisionError" in found["broken"]
    text = "`python -m train.fit`, python -m pip, and python -m export CHECKPOINT."
    assert documented([text]) == {"train.fit", "export"}
