"""docs/EMBEDDING.md: its messages match the schema, its tables are complete, and the clients compile and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.commands.stdio.requests import FIELDS
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT
from tests.support.stdio_host import SCHEMA, matches

GUIDE = (ROOT / "docs" / "EMBEDDING.md").read_text(encoding="utf-8")
CLIENTS = ROOT / "examples" / "clients"
LUA = next((name for name in ("lua", "lua5.4", "lua5.1", "luajit") if shutil.which(name)), "lua")


def test_the_messages_match_the_schema() -> None:
    lines = [line for block in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    kinds = [("request" if "method" in message else "event", message) for message in map(json.loads, lines)]
    for kind, message in kinds:
        matches(message, kind)
    assert {m["method"] for kind, m in kinds if kind == "request"} == set(FIELDS) - {"redo"}
    assert {m["event"] for kind, m in kinds if kind == "event"} == {"hello", "started", "progress", "done", "error"}


def test_the_tables_are_complete() -> None:
    codes = re.findall(r"^\| ((?:`\w+`(?: \(fatal\))?,? ?)+)\|", GUIDE.partition("## Errors")[2], re.MULTILINE)
    found = {code for cell in codes for code in re.findall(r"`(\w+)`", cell)} - {"code"}
    assert found == set(SCHEMA["$defs"]["error_event"]["properties"]["code"]["enum"])
    table = GUIDE.partition("## Messages")[2].partition("## Errors")[0]
    for method, fields in FIELDS.items():
        (row,) = re.findall(rf"^\| `{method}` \|.*", table, re.MULTILINE)
        assert method == "redo" or all(f"`{name}`" in row for name in fields)


# ---------------------------------------------------------------- clients
def compiled(folder: Path) -> list[str]:
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "client")]
    subprocess.run(["g++", *flags, str(CLIENTS / "client.cpp")], check=True, timeout=120)
    return [str(folder / "client")]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "g++": compiled,
    "node": lambda folder: ["node", str(CLIENTS / "client.mjs")],
    LUA: lambda folder: [LUA, str(CLIENTS / "client.lua")],
}


@NEEDS_ORT
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the clients are for POSIX")
@pytest.mark.parametrize("program", COMMANDS)
def test_a_client(bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path, program: str) -> None:
    """It loads, generates with progress, and prints the path; an error is one line and status 1."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    command = COMMANDS[program](tmp_path)
    engines = f"--engines {bundles()} --backend cpu --threads 1"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MASKVAT": f"{sys.executable} -m runtime.commands stdio {engines}",
    }

    def run(*arguments: str) -> tuple[int, str, str]:
        line = [*command, *arguments]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    status, out, err = run(str(make_video(20)), 'ä "s\\.wav', "2")
    assert (status, out) == (0, 'ä "s\\.wav\n'), err
    assert (tmp_path / 'ä "s\\.wav').stat().st_size > 44
    assert "codec 100 %" in err and "sample " in err
    status, out, err = run("no such.mp4", "x.wav", "2")
    assert (status, out, err) == (1, "", "error: no such.mp4: no such file; check the path\n")
    assert run()[0] == 2


def test_clients_are_short() -> None:
    lengths = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in CLIENTS.iterdir()}
    assert set(lengths) == {"client.cpp", "client.mjs", "client.lua"} and max(lengths.values()) <= 80
