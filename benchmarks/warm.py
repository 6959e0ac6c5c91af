"""Measure what an editor waits for in a process that stays open: a whole sound, and a part of it made again.

    python -m benchmarks.warm VIDEO [--seconds 10] [--redo 2]

The engines are open and have run once. In turns, a sound is made for the first --seconds of the video, and then the
--redo seconds in its middle are made again, with another seed each time. Writing files is not counted. The last line
is one JSON object.
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


def measure(pipeline: runtime.Pipeline, args: argparse.Namespace) -> Rows:
    """Time `args.rounds` rounds, after one that does not count."""
    rows: Rows = {"whole": [], "redo": []}
    middle = (args.seconds - args.redo) / 2
    for number in range(args.rounds + 1):
        sampling = runtime.SamplingConfig(steps=args.steps, seed=2 * number)
        again = runtime.SamplingConfig(steps=args.steps, seed=2 * number + 1)
        begin = Elapsed.now()
        (take,) = pipeline.generate(args.video, sampling, span=(0, args.seconds))
        between = Elapsed.now()
        pipeline.generate(args.video, again, edit=runtime.redo(take, (middle, middle + args.redo)))
        end = Elapsed.now()
        if number:
            rows["whole"].append(between - begin)
            rows["redo"].append(end - between)
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
    names = {"whole": f"whole sound of {args.seconds:g} s", "redo": f"{args.redo:g} s of it again"}
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
