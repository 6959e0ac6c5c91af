"""Figures of `benchmarks.latency --bars`: what a user of the command line gets.

The time of a whole `python -m runtime.infer` process, the time of import and load, the memory that a long video needs
more than a short one, and the size of what `pip install '.[cpu]'` installs.
"""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from threading import Event, Thread
from typing import Any

from benchmarks.common.machine import ROOT
from benchmarks.latency.points import Worker, WorkerError, Workload, runtime_order
from benchmarks.latency.video import write_video
from benchmarks.latency.worker import tree_peak_mb

OURS = ("engines", "runtime", "train", "export")  # the packages in the wheel
LEAN = ("numpy", "av", "onnxruntime")  # the extra `cpu`
INSTALLED = (".py", ".toml", ".html")  # files in the wheel, without the bundle
LONG, SHORT = 600, 10  # seconds


@dataclass(frozen=True)
class RunOptions:
    """Bundle, backend, precision and threads, as on the command line."""

    engines: Path
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0

    def order(self, name: str) -> dict[str, Any]:
        return runtime_order(name, self.engines, self.backend, self.threads, self.precision)

    def options(self) -> list[str]:
        chosen = {"--engines": self.engines, "--backend": self.backend, "--precision": self.precision}
        return [str(x) for pair in (chosen | {"--threads": self.threads}).items() for x in pair]


@contextmanager
def peak_memory(process: "subprocess.Popen[Any]") -> Iterator[list[float]]:
    """Watch a process until it is waited for, or the block ends. The largest number of the list is its peak in MB."""
    peaks, over = [0.0], Event()

    def watch() -> None:
        while process.returncode is None and not over.wait(0.02):
            peaks.append(tree_peak_mb(process.pid))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def run_and_watch(command: list[str]) -> tuple[float, float | None]:
    """Seconds from start to exit of a command, and its peak memory in MB. Raises WorkerError if it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with peak_memory(process) as peaks:
        try:
            error = process.communicate()[1]
            seconds = time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise WorkerError(f"`{' '.join(command[1:4])} ...` failed: {(error.splitlines() or ['no message'])[-1]}")
    return seconds, max(peaks) or None


def whole_process(run: RunOptions, video: Path, folder: Path, steps: int, repeat: int) -> dict[str, Any]:
    """Seconds and peak memory of the command line, including the start of Python and writing the file."""
    command = [sys.executable, "-m", "runtime.infer", str(video), *run.options(), "--steps", str(steps)]
    command += ["-o", str(folder / "whole.wav"), "--overwrite", "--progress", "none"]
    runs = [run_and_watch(command) for _ in range(repeat)]
    times, peaks = [seconds for seconds, _ in runs], [mb for _, mb in runs if mb is not None]
    figures = {"steps": steps, "seconds": statistics.median(times), "all": times}
    return figures | {"command_peak_mb": max(peaks) if peaks else None}


def import_and_load(run: RunOptions, repeat: int) -> dict[str, Any]:
    """Seconds of `import runtime; runtime.load(...)` in new processes, and the chosen backend and precision."""
    times, loaded = [], {}
    for _ in range(repeat):
        with Worker(run.order("load")) as worker:
            loaded = worker.loaded
            times.append(loaded["load_seconds"])
    return {"seconds": statistics.median(times), "all": times} | {k: loaded[k] for k in ("backend", "precision")}


def long_clip_memory(run: RunOptions, folder: Path, long: int = LONG) -> dict[str, Any]:
    """Peak memory of a process that generates sound for a long video, and for a short one.

    It uses two steps, because memory does not depend on their number.
    """
    peaks = {}
    for seconds in (SHORT, long):
        with Worker(run.order("memory")) as worker:
            request = {"video": str(cached_video(folder, seconds)), "sampling": Workload(2).sampling(3.0)}
            peaks[seconds] = worker.ask(request)["peak_mb"]
    return {
        "steps": 2,
        "short_mb": peaks[SHORT],
        "long_mb": peaks[long],
        "long_seconds": long,
        "above_mb": peaks[long] - peaks[SHORT],
    }


def requirements(package: Distribution) -> list[str]:
    """Names of the packages that a package requires, without extras."""
    needed = [r for r in package.requires or [] if "extra ==" not in r]
    return [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in needed]


def installed_megabytes() -> dict[str, float]:
    """MB (10^6 bytes) per package of a lean installation, measured on the packages installed here, without the bundle.

    A requirement that is not installed is for another Python or system, and is skipped.
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


def cached_video(folder: Path, seconds: int) -> Path:
    video = folder / f"video{seconds}.mp4"
    if not video.exists():
        write_video(video, seconds)
    return video


def measure_bars(run: RunOptions, folder: Path, repeat: int, long: int = LONG) -> Iterator[tuple[str, Any]]:
    """Measure all figures of one bundle; yield each (name, value) as soon as it is known."""
    loaded = import_and_load(run, repeat)
    yield "import_and_load", loaded
    yield from ((k, loaded[k]) for k in ("backend", "precision"))
    yield "threads", run.threads  # 0: the backend's choice
    yield "whole_process", [whole_process(run, cached_video(folder, SHORT), folder, steps, repeat) for steps in (32, 8)]
    yield "long_clip_memory", long_clip_memory(run, folder, long)
    sizes = installed_megabytes()
    yield "installed_mb", {"total": sum(sizes.values()), "packages": sizes}
