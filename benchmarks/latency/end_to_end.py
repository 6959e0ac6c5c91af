"""Figures of `benchmarks.latency --bars` that need a process, a long clip or the installed files: what a user meets.

The whole process of `python -m runtime.infer`, import and load, memory of a long clip above a short one, and the bytes
of what `pip install 'maskvat[cpu]'` installs.
"""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.latency.clip import make_clip
from benchmarks.latency.points import Load, Worker, WorkerError, runtime_order
from benchmarks.latency.worker import high_water

ROOT = Path(__file__).resolve().parent.parent
OURS = ("engines", "runtime", "train", "export", "benchmarks")  # the packages that are installed
LEAN = ("numpy", "av", "onnxruntime")  # the extra `cpu`
INSTALLED = (".py", ".toml", ".html")  # what the wheel has of them, beside the bundle
LONG, SHORT = 600, 10  # seconds


@dataclass(frozen=True)
class Way:
    """Bundle, backend, precision and threads, as a user would ask for them."""

    engines: Path
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def order(self, name: str) -> dict[str, Any]:
        return runtime_order(name, self.engines, self.backend, self.threads, self.precision)

    def options(self) -> list[str]:
        chosen = {"--engines": self.engines, "--backend": self.backend, "--precision": self.precision}
        return [str(x) for pair in (chosen | {"--threads": self.threads}).items() for x in pair]


def watched(command: list[str]) -> tuple[float, float | None]:
    """Seconds from start to exit of a command and its peak memory in MB. Raises WorkerError where it fails."""
    begin, peaks = time.perf_counter(), [0.0]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def watch() -> None:
        while process.returncode is None:
            peaks.append(high_water(process.pid) or 0.0)
            time.sleep(0.02)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        error = process.communicate()[1]
        seconds = time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()
        watcher.join()
    if process.returncode:
        raise WorkerError(f"`{' '.join(command[1:4])} ...` failed: {(error.splitlines() or ['no word'])[-1]}")
    return seconds, max(peaks) or None


def whole_process(way: Way, clip: Path, folder: Path, steps: int, repeat: int) -> dict[str, Any]:
    """The command line, interpreter and writing included: seconds from start to exit, and its peak memory."""
    command = [sys.executable, "-m", "runtime.infer", str(clip), *way.options(), "--steps", str(steps)]
    command += ["-o", str(folder / "whole.wav"), "--overwrite", "--progress", "none"]
    runs = [watched(command) for _ in range(repeat)]
    times, peaks = [seconds for seconds, _ in runs], [mb for _, mb in runs if mb is not None]
    told = {"steps": steps, "seconds": statistics.median(times), "all": times}
    return told | {"command_peak_mb": max(peaks) if peaks else None}


def import_and_load(way: Way, repeat: int) -> dict[str, Any]:
    """Seconds of `import runtime; runtime.load(...)` in fresh processes, and what that chose."""
    times, loaded = [], {}
    for _ in range(repeat):
        with Worker(way.order("load")) as worker:
            loaded = worker.loaded
            times.append(loaded["load_seconds"])
    return {"seconds": statistics.median(times), "all": times} | {k: loaded[k] for k in ("backend", "precision")}


def long_clip_memory(way: Way, folder: Path, long: int = LONG) -> dict[str, Any]:
    """Peak memory of a process that makes a long clip's sound, and a short one's; two steps, for it does not depend on
    them. `command_peak_mb` of the whole process is the figure with 32."""
    peaks = {}
    for seconds in (SHORT, long):
        with Worker(way.order("memory")) as worker:
            request = {"clip": str(clip_of(folder, seconds)), "sampling": Load(2).sampling(3.0)}
            peaks[seconds] = worker.ask(request)["peak_mb"]
    return {
        "steps": 2,
        "short_mb": peaks[SHORT],
        "long_mb": peaks[long],
        "long_seconds": long,
        "above_mb": peaks[long] - peaks[SHORT],
    }


def requirements(package: Distribution) -> list[str]:
    """Names of what a package needs on its own, without extras."""
    needed = [r for r in package.requires or [] if "extra ==" not in r]
    return [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in needed]


def installed_megabytes() -> dict[str, float]:
    """MB (10^6 bytes) per package of a lean installation, as they are installed here, and of our code; no bundle.

    A requirement that is not installed here is for another Python or system, and is left out.
    """
    sizes: dict[str, float] = {}
    queue = list(LEAN)
    while queue:
        name = queue.pop(0)
        if name in sizes:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in package.files or []]
        sizes[name] = sum(p.stat().st_size for p in paths if p.is_file()) / 1e6
        queue += requirements(package)
    ours = [p for n in OURS for p in (ROOT / n).rglob("*") if p.suffix in INSTALLED]
    sizes["maskvat"] = sum(p.stat().st_size for p in ours) / 1e6
    return sizes


def clip_of(folder: Path, seconds: int) -> Path:
    clip = folder / f"clip{seconds}.mp4"
    if not clip.exists():
        make_clip(clip, seconds)
    return clip


def bars(way: Way, folder: Path, repeat: int, long: int = LONG) -> Iterator[tuple[str, Any]]:
    """All of them for one bundle, each with its name as soon as it is measured."""
    loaded = import_and_load(way, repeat)
    yield "import_and_load", loaded
    yield from ((k, loaded[k]) for k in ("backend", "precision"))
    yield "threads", way.threads  # 0: the backend's choice
    yield "whole_process", [whole_process(way, clip_of(folder, SHORT), folder, steps, repeat) for steps in (32, 8)]
    yield "long_clip_memory", long_clip_memory(way, folder, long)
    sizes = installed_megabytes()
    yield "installed_mb", {"total": sum(sizes.values()), "packages": sizes}
