"""Runs one part as a process of its own, with a time limit, and says how it ended."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

from benchmarks.card.parts import OUT, Part
from benchmarks.card.store import CUT, DONE, FAILED
from engines.advice import short_of_memory

GRACE = 20.0  # seconds from SIGTERM to SIGKILL, for writing what was measured
TAIL = 40  # lines of a failed part's output that are kept
STOPPED = 75  # exit status of a training that was stopped in time and can go on


@dataclass(frozen=True)
class Outcome:
    """How a part ended: status, reason, seconds, and the text of its JSON result if it wrote one."""

    status: str
    reason: str | None = None
    seconds: float = 0.0
    result: str | None = None
    output: str = ""


class Runner(Protocol):
    """Runs parts. The rehearsal has another one, on a fake GPU."""

    def run(self, part: Part, seconds: float) -> Outcome: ...

    def card_is_there(self) -> bool: ...


class ProcessRunner:
    """Runs parts as processes, from the root of the checkout."""

    def __init__(self, root: Path, work: Path, environment: Mapping[str, str]) -> None:
        self.root, self.work, self.environment = root, work, dict(environment)

    def run(self, part: Part, seconds: float) -> Outcome:
        """Run a part for at most `seconds`, with GRACE more to write what it has."""
        (self.work / "logs").mkdir(parents=True, exist_ok=True)
        log = self.work / "logs" / f"{part.name}.log"
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.work) as folder, log.open("wb") as output:
            out = Path(folder) / "result.json"
            command = [sys.executable, *(str(out) if word == OUT else word for word in part.command)]
            process = subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            in_time = wait(process, None if seconds == inf else seconds)
            text = out.read_text(encoding="utf-8") if out.is_file() else None
        words = log.read_text(encoding="utf-8", errors="replace")
        return outcome(process.returncode, in_time, time.monotonic() - begin, text, words)

    def card_is_there(self) -> bool:
        """Whether the driver still answers for the GPU."""
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            return False
        return True


def wait(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Wait for a process; stop its whole group when the time is over, or on Ctrl-C. Whether it ended by itself."""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            process.terminate()  # only the part itself: it knows how to end its own processes
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it left behind
        except ProcessLookupError:
            pass
        process.wait()


def outcome(code: int, in_time: bool, seconds: float, result: str | None, output: str) -> Outcome:
    """What an exit code means. A part that was stopped by the time limit is `cut`, also if it wrote a result."""
    lines = output.strip().splitlines()
    tail = "\n".join(lines[-TAIL:])
    if not in_time:
        return Outcome(CUT, f"stopped after {seconds:.0f} s", seconds, result, tail)
    if code == STOPPED:
        return Outcome(CUT, "stopped; it can go on", seconds, result, tail)
    if code == 0 and result is not None:
        return Outcome(DONE, None, seconds, result)
    said = next((line for line in reversed(lines) if line.strip()), "it printed nothing")[:300]
    if short_of_memory(output):
        said = f"not enough memory: {said}"
    if code == 0:
        said = f"it wrote no result: {said}"
    return Outcome(FAILED, f"exit code {code}: {said}", seconds, result, tail)


def parsed(text: str | None) -> Any:
    """A part's JSON result; None without one, or if it is not JSON."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
