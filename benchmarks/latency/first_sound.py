"""Figures of `benchmarks.latency --first-sound`: how soon a long clip is heard.

The command writes bare samples to a pipe, in turn with --stream and without. The clock starts with the process.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.latency.end_to_end import LONG, RunOptions, cached_video, peak_memory
from benchmarks.latency.points import WorkerError

STEPS = 8
HEARD = 8  # seconds of sound that the first window gives
SECOND = 44100 * 2  # bytes of a second of sound
HEADER = 44  # bytes; without --stream the sound has one


@dataclass(frozen=True)
class Heard:
    """Seconds until the first sample, until the first HEARD seconds of sound (None: never), and until the end."""

    first: float
    eight: float | None
    whole: float
    peak_mb: float | None


def listen(command: list[str], end: bool = True) -> Heard:
    """Run a command that writes its sound to stdout. Without `end`, stop once HEARD seconds are there.

    Raises WorkerError if it fails.
    """
    begin = time.perf_counter()
    with _running(command) as process, peak_memory(process) as peaks:
        assert process.stdout is not None and process.stderr is not None
        got = len(process.stdout.read(HEADER + 2))
        first = time.perf_counter() - begin
        got += len(process.stdout.read(HEADER + HEARD * SECOND - got))
        eight = time.perf_counter() - begin if got == HEADER + HEARD * SECOND else None
        if end:
            while process.stdout.read(1 << 20):
                pass
            error = process.stderr.read().decode().splitlines()
            if process.wait() or got < HEADER + 2:
                raise WorkerError(f"`{' '.join(command[1:4])} ...` failed: {(error or ['no message'])[-1]}")
        whole = time.perf_counter() - begin
    return Heard(first, eight, whole, max(peaks) or None)


@contextmanager
def _running(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()  # it ends within a step


def measure_first_sound(run: RunOptions, folder: Path, repeat: int, seconds: int = LONG) -> dict[str, Any]:
    """Measure a clip of so many seconds: `repeat` times up to the first HEARD seconds, and once to the end each."""
    video = cached_video(folder, seconds)
    command = [sys.executable, "-m", "runtime.infer", str(video), *run.options(), "--steps", str(STEPS)]
    command += ["-o", "-", "--quiet", "--progress", "none"]
    streaming = [*command, "--stream", "pcm"]
    begun = [listen(streaming, end=False) for _ in range(repeat)]
    figures: dict[str, Any] = {"steps": STEPS, "clip_seconds": seconds}
    for name, words, early in (("stream", streaming, begun), ("whole", command, [])):
        heard = listen(words)
        runs = [*early, heard]
        eight = [x.eight for x in runs if x.eight is not None]
        figures[name] = {
            "first_seconds": statistics.median(x.first for x in runs),
            "eight_seconds": statistics.median(eight) if eight else None,
            "all_first": [x.first for x in runs],
            "seconds": heard.whole,
            "peak_mb": heard.peak_mb,
        }
    return figures
