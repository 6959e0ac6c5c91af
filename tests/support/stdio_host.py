"""A host of `maskvat stdio`: starts it, sends lines, and checks every event against the protocol's schema."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

SCHEMA = json.loads((ROOT / "runtime" / "commands" / "stdio" / "schema.json").read_text(encoding="utf-8"))
PROGRAM = "import sys; from runtime.commands.stdio.guard import process; sys.exit(process(sys.argv[1:]))"
PLANTED = """
import os, sys
from runtime.commands.stdio import guard
real = guard.run_in_child

def plant(run, debug):  # in the child, after the imports
    def planted():
        import ctypes, signal, time
        from runtime.commands import make, outputs
        from runtime.pipeline import Pipeline
        {code}
        return run()
    return real(planted, debug)

guard.run_in_child = plant
sys.exit(guard.process(sys.argv[1:]))
"""


def matches(message: object, kind: str) -> None:
    """Raise unless a message is a "request" or an "event" of the schema."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{kind}"}).validate(message)


class Host:
    """One process, and what it said. Use it as a context manager."""

    def __init__(self, folder: Path, *arguments: str, code: str | None = None) -> None:
        program = PROGRAM if code is None else PLANTED.format(code=code)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        line = [sys.executable, "-c", program, *arguments]
        self.process = subprocess.Popen(line, cwd=folder, env=environment, **pipes)
        self.events: list[dict[str, Any]] = []
        self.hello = self.read()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, **request: Any) -> None:
        """Send a request. It must match the schema."""
        matches(request, "request")
        self.send_line(json.dumps(request).encode())

    def send_line(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next event, which must match the schema."""
        assert self.process.stdout is not None
        event = json.loads(self.process.stdout.readline())
        matches(event, "event")
        self.events.append(event)
        return event

    def until(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read up to the first event for which `found` is true."""
        while not found(event := self.read()):
            pass
        return event

    def answer(self, request_id: object) -> dict[str, Any]:
        """Read up to the answer of a request."""
        return self.until(lambda e: e["event"] in ("done", "error") and e["id"] == request_id)

    def end(self) -> tuple[int, bytes, bytes]:
        """Send no more. Returns the exit status, and what is left on stdout and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err
