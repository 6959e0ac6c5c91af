"""Measure what an editor waits for in a process that stays open: a sound, another take, and a part of it made again.

    python -m benchmarks.warm VIDEO [--seconds 10] [--redo 2]

The engines are open and have run once. In turns, a sound is made for the first --seconds of the video, as if for the
first time, and another one; then the --redo seconds in its middle are made again, twice. Each has a seed of its own.
Writing files is not counted. The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import runtime
from benchmarks.common.report import (
    add_bundle_options,
    add_output_options,
    command_parser,
    finish,
    format_number,
    make_result,
    run_command,
    table,
)
from benchmarks.common.stopwatch import Elapsed
from runtime.errors import OptionError

Rows = dict[str, list[Elapsed]]
NAMES = {  # in the order in which they are made
    "whole": "sound of {seconds:g} s",
    "another": "another take of it",
    "redo": "{redo:g} s of it again",
    "redo_again": "the same {redo:g} s once more",
}


def measure(pipeline: runtime.Pipeline, args: argparse.Namespace) -> Rows:
    """Time `args.rounds` rounds, after one that does not count."""
    rows: Rows = {name: [] for name in NAMES}
    middle = (args.seconds - args.redo) / 2
    for number in range(args.rounds + 1):
        pipeline.forget()
        takes: list[runtime.Take] = []
        for place, name in enumerate(NAMES):
            sampling = runtime.SamplingConfig(steps=args.steps, seed=len(NAMES) * number + place)
            begin = Elapsed.now()
            if name.startswith("redo"):
                again = runtime.redo(takes[0], (middle, middle + args.redo))
                pipeline.generate(args.video, sampling, edit=again)
            else:
                takes = pipeline.generate(args.video, sampling, span=(0, args.seconds))
            if number:
                rows[name].append(Elapsed.now() - begin)
    return rows


def summary(rows: Rows) -> dict[str, dict[str, float]]:
    """Median, least and most wall-clock seconds, and the median of processor seconds."""
    found = {}
    for name, times in rows.items():
        wall = [t.wall for t in times]
        cpu = float(np.median([t.cpu for t in times]))
        found[name] = {"median": float(np.median(wall)), "min": min(wall), "max": max(wall), "cpu": cpu}
    return found


def run(args: argparse.Namespace) -> None:
    """Measure, and print the table and the result."""
    if args.rounds < 1 or not 0 < args.redo < args.seconds:
        raise OptionError(f"--rounds {args.rounds} and --redo {args.redo}: at least 1, and above 0 but below --seconds")
    with runtime.load(args.engines, args.backend, precision=args.precision) as pipeline:
        step = {"backend": pipeline.bundle.backend, "precision": pipeline.bundle["step"].precision}
        found = summary(measure(pipeline, args))
    names = {n: text.format(seconds=args.seconds, redo=args.redo) for n, text in NAMES.items()}
    header = ["seconds", "median", "min", "max", "processor"]
    print(table(header, [[names[n], *(format_number(v) for v in row.values())] for n, row in found.items()]))
    options = {"steps": args.steps, "seconds": args.seconds, "redo": args.redo, "rounds": args.rounds}
    finish(make_result("warm", {"options": options, **step, "summary": found}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("benchmarks.warm", __doc__)
    parser.add_argument("video", type=Path, help="a video of at least --seconds")
    add_bundle_options(parser)
    parser.add_argument("--steps", type=int, default=8, help="unmasking steps (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="length of the whole sound (default: %(default)s)")
    parser.add_argument("--redo", type=float, default=2, help="seconds that are made again (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: %(default)s)")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
