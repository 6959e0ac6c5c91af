"""Measure how well `maskvat batch` keeps the cores busy, with one video at a time and with several.

    python -m benchmarks.batch VIDEOS [--steps 8] [--ways 1 2x1]

A way is JOBS or JOBSxTHREADS, as `--jobs` and `--threads` of the command; "auto" is the command without them. Every
run is a process of its own, from start to exit. The ways take turns (1 2 3, 3 2 1, ...), and all must write the same
bytes. Then one run inside of this process, with the first way's threads, shows how many cores each stage keeps busy
when it runs alone. The last line is one JSON object.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from benchmarks.common.machine import cores
from benchmarks.common.report import (
    add_bundle_options,
    add_output_options,
    command_parser,
    find_videos,
    finish,
    make_result,
    run_command,
    table,
)
from benchmarks.common.stopwatch import Elapsed
from runtime import context
from runtime.commands import make
from runtime.commands.batch import run as batch
from runtime.errors import OptionError

Values = dict[str, Any]
FIGURES = {"wall": ".2f", "cpu": ".2f", "utilisation": ".3f", "clips_per_hour": ".0f", "peak_mb": ".0f"}


class BatchFailed(Exception):
    """`maskvat batch` ended with an error."""


def flags_of(way: str) -> list[str]:
    """The flags of a way such as "2", "2x1" or "auto". Raises OptionError."""
    if way == "auto":
        return []
    numbers = way.split("x")
    if len(numbers) > 2 or not all(n.isdecimal() for n in numbers):
        raise OptionError(f"--ways {way}: give jobs such as 2, jobs and threads such as 2x1, or auto")
    return [f"{flag}={n}" for flag, n in zip(("--jobs", "--threads"), numbers, strict=False)]


def command_flags(args: argparse.Namespace) -> list[str]:
    """What all runs have in common."""
    flags = [*map(str, find_videos(args.videos, args.limit)), f"--steps={args.steps}", f"--backend={args.backend}"]
    bundle = [f"--engines={args.engines}"] if args.engines else []
    return [*flags, *bundle, f"--precision={args.precision}", "--quiet", "--progress=none"]


def run_once(flags: list[str]) -> Values:
    """Run the command once as a process. Raises BatchFailed."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "runtime.commands", "batch", *flags, f"--out-dir={folder}"]
        before, begin = os.times(), time.perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        wall, after = time.perf_counter() - begin, os.times()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BatchFailed(f"`maskvat batch` ended with exit code {process.returncode}; its message is above")
        sounds = sorted(Path(folder).iterdir())
        written = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in sounds)).hexdigest()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "wall": wall,
        "cpu": cpu,
        "utilisation": cpu / (wall * cores()),
        "clips_per_hour": 3600 * len(sounds) / wall,
        "peak_mb": usage.ru_maxrss / 1024,  # kilobytes on Linux
        "sha256": written,
    }


def take_turns(args: argparse.Namespace) -> dict[str, list[Values]]:
    """Way -> its runs. Raises BatchFailed."""
    runs: dict[str, list[Values]] = {way: [] for way in args.ways}
    for number in range(args.rounds):
        for way in args.ways if number % 2 == 0 else args.ways[::-1]:
            runs[way].append(run_once(command_flags(args) + flags_of(way)))
    return runs


def summary(runs: dict[str, list[Values]]) -> dict[str, Values]:
    """The median of each way, and `ratio`: the first way's wall seconds over its own, as the median over rounds."""
    first = next(iter(runs.values()))
    found = {}
    for way, rows in runs.items():
        pairs = [a["wall"] / b["wall"] for a, b in zip(first, rows, strict=True)]
        medians: Values = {name: statistics.median(row[name] for row in rows) for name in FIGURES}
        found[way] = medians | {"ratio": statistics.median(pairs), "lowest": min(pairs), "highest": max(pairs)}
    return found


# ---------------------------------------------------------------- stages
class Stages:
    """Wall and processor seconds of each stage, as long as no two run at once."""

    def __init__(self) -> None:
        self.seconds: dict[str, Elapsed] = defaultdict(Elapsed)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = Elapsed.now()
        try:
            yield
        finally:
            self.seconds[stage] += Elapsed.now() - begin

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the stages of every generation, opening the engines, and writing."""
        stages = self

        class Timer(context.Timer):
            @contextmanager
            def __call__(self, stage: str) -> Iterator[None]:
                with stages(stage), super().__call__(stage):
                    yield

        def around(module: Any, name: str, stage: str) -> Any:
            return mock.patch.object(module, name, stages(stage)(getattr(module, name)))

        patches = mock.patch.object(context, "Timer", Timer), around(batch, "open_engines", "open")
        with patches[0], patches[1], around(make, "write_outputs", "write"), self("whole"):
            yield

    def table(self) -> dict[str, Values]:
        """Stage -> wall, cpu, cores and idle core seconds; the whole comes last."""
        found = dict(self.seconds)
        whole = found.pop("whole")
        found["host"] = found.pop("sample") - found["step"]
        found["rest"] = whole - sum(found.values(), Elapsed())
        return {
            name: {"wall": t.wall, "cpu": t.cpu, "cores": t.cpu / t.wall, "idle": cores() * t.wall - t.cpu}
            for name, t in (found | {"whole": whole}).items()
        }


def profile(args: argparse.Namespace) -> dict[str, Values]:
    """The stages of a run with one video at a time, inside of this process. Raises BatchFailed."""
    stages = Stages()
    with TemporaryDirectory() as folder, stages.watching():
        if batch.main([*command_flags(args), *flags_of(args.ways[0])[1:], "--jobs=1", f"--out-dir={folder}"]):
            raise BatchFailed("`maskvat batch` failed; its message is above")
    return stages.table()


# ---------------------------------------------------------------- command
def run(args: argparse.Namespace) -> None:
    """Measure, and print the tables and the result. Raises BatchFailed, OptionError."""
    if args.rounds < 1 or len(set(args.ways)) < len(args.ways):
        raise OptionError(f"--rounds {args.rounds}, --ways {' '.join(args.ways)}: at least 1 round, and no way twice")
    for way in args.ways:
        flags_of(way)
    runs = take_turns(args)
    found, same = summary(runs), len({row["sha256"] for rows in runs.values() for row in rows}) == 1
    rows = [
        [way, *(f"{row[n]:{form}}" for n, form in FIGURES.items()), f"{row['ratio']:.2f}"] for way, row in found.items()
    ]
    print(table(["jobs x threads", *FIGURES, "times as fast"], rows))
    print("all ways wrote the same bytes" if same else "the ways wrote DIFFERENT bytes")
    stages = profile(args)
    print(
        table(
            ["stage", "wall", "cpu", "cores", "idle"],
            [[n, *(f"{v:.2f}" for v in row.values())] for n, row in stages.items()],
        )
    )
    options = {"steps": args.steps, "videos": len(find_videos(args.videos, args.limit)), "rounds": args.rounds}
    values = {"options": options, "same_bytes": same, "summary": found, "runs": runs, "stages": stages}
    finish(make_result("batch", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("benchmarks.batch", __doc__)
    add = parser.add_argument
    add("videos", type=Path, help="a folder of videos")
    add_bundle_options(parser)
    add("--steps", type=int, default=8, help="unmasking steps (default: %(default)s)")
    add("--limit", type=int, help="use the first N videos")
    add("--ways", nargs="+", default=["1", "auto"], metavar="JOBS[xTHREADS]", help="what to compare (default: 1 auto)")
    add("--rounds", type=int, default=4, help="runs of each way (default: %(default)s)")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv), BatchFailed)


if __name__ == "__main__":
    sys.exit(main())
