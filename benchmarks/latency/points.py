"""Points of benchmarks.latency, the processes that measure them, and the order of runs."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.latency.worker import EAGER, RUNTIME
from runtime.errors import MaskVATError
from runtime.sampling import SamplingConfig

STEPS, CANDIDATES, SECONDS = (4, 8, 16, 32, 64), (1, 4, 10), (2, 10, 60)
GRIDS = ("quick", "default", "full")
STAGES = ("video", "frame_encoder", "sync_encoder", "condition", "step", "host", "codec", "select", "mux")
Answer = dict[str, Any]


class WorkerError(MaskVATError):
    """A process that measures a point failed."""


@dataclass(frozen=True)
class Workload:
    """One point of the grid."""

    steps: int
    candidates: int = 1
    clip_seconds: int = 10

    def sampling(self, guidance: float) -> dict[str, Any]:
        """SamplingConfig options as JSON values. Raises OptionError for values that the runtime refuses."""
        options = {"steps": self.steps, "candidates": self.candidates, "guidance": guidance}
        SamplingConfig(**options)
        return options


def grid(name: str, first: bool) -> list[Workload]:
    """Points of a grid. `default` varies one axis at a time; only the `first` size gets all of it."""
    if name == "full":
        return [Workload(s, c, t) for t in SECONDS for c in CANDIDATES for s in STEPS]
    if name == "quick" or not first:
        return [Workload(s) for s in ((8, 32) if first else (8,))]
    others = [Workload(8, c) for c in CANDIDATES[1:]] + [Workload(8, 1, t) for t in SECONDS if t != 10]
    return [Workload(s) for s in STEPS] + others


class Worker:
    """A process of benchmarks.latency.worker. `ask` generates one sound in it. Use it in a `with` statement."""

    def __init__(self, order: Answer) -> None:
        self.order = order
        command = [sys.executable, "-m", "benchmarks.latency.worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send(order)
        self.loaded = self._answer()

    def _send(self, value: Answer) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # the process has ended; `_answer` reports it
            return

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if line.startswith("{")), "{}")  # skip output of libraries
        answer: Answer = json.loads(line)
        if not answer or "error" in answer:
            self.close()
            reason = answer.get("error", f"the process ended with status {self.process.returncode}; out of memory?")
            raise WorkerError(f"{self.order['kind']} of {self.order['name']} cannot be measured: {reason}")
        return answer

    def ask(self, request: Answer) -> Answer:
        """Generate one sound. Raises WorkerError if the process fails."""
        self._send(request)
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.process.kill()
        self.close()


def runtime_order(name: str, engines: Path, backend: str, threads: int, precision: str = "auto") -> Answer:
    order = {"kind": RUNTIME, "name": name, "engines": str(engines), "backend": backend, "threads": threads}
    return order | {"precision": precision}


def torch_order(name: str, system: Path, threads: int, kind: str = EAGER, **changes: Any) -> Answer:
    """Order for PyTorch on the CPU in fp32; `changes` may set device, dtype, sample_on_host and tuned."""
    order = {"kind": kind, "name": name, "system": str(system), "threads": threads}
    return order | {"device": "cpu", "dtype": "float32", "sample_on_host": True, "tuned": False} | changes


def alternate(workers: Sequence[Worker], requests: Sequence[Answer], rounds: int, limit: float) -> list[list[Answer]]:
    """Send every worker its request `rounds` times, in alternating order (1 2 3, 3 2 1, ...); return the answers.

    So a temporary slowdown of the machine affects all workers. After `limit` seconds no new round begins, but at least
    two rounds are run (one if `rounds` is 1).
    """
    answers: list[list[Answer]] = [[] for _ in workers]
    order, begin = list(range(len(workers))), time.monotonic()
    for n in range(rounds):
        if n >= 2 and time.monotonic() - begin > limit:
            break
        for i in order if n % 2 == 0 else reversed(order):
            answers[i].append(workers[i].ask(requests[i]))
    return answers


# ---------------------------------------------------------------- figures of a point
def quantile(values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[max(0, ceil(q * len(ordered)) - 1)]


def figures(loaded: Answer, cold: Answer, warm: Sequence[Answer]) -> dict[str, Any]:
    """Seconds, memory and stages of one process, as medians over its warm runs."""
    totals = [answer["seconds"] for answer in warm]
    stages = {s: statistics.median(answer["stages"].get(s, 0.0) for answer in warm) for s in STAGES}
    return {
        "seconds": statistics.median(totals),
        "p95": quantile(totals, 0.95),
        "repeats": len(warm),
        "threads": loaded.get("threads"),
        "peak_mb": warm[-1]["peak_mb"],
        "card_mb": warm[-1].get("card_mb"),
        "import_seconds": loaded["import_seconds"],
        "load_seconds": loaded["load_seconds"],  # including the import
        "cold_seconds": cold["seconds"],
        "first_clip_seconds": loaded["load_seconds"] + cold["seconds"],
        "sound_seconds": warm[-1]["sound_seconds"],
        "windows": warm[-1]["windows"],
        "stages": stages,
        "warnings": warm[-1]["warnings"],
    }


def ratios(ours: Sequence[Answer], theirs: Sequence[Answer]) -> dict[str, float]:
    """Time of `theirs` over time of `ours`, round by round: median, lowest and highest."""
    values = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True)]
    return {"ratio": statistics.median(values), "lowest": min(values), "highest": max(values), "pairs": len(values)}
