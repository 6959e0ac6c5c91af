"""The command `python -m train.evaluate`: scores folders of generated sound and writes a report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from train.extras import requires_extra

with requires_extra("bench", __name__):
    from train.evaluate.core import EXPECTED, run
    from train.metrics import METRICS

INCOMPLETE = 3
ABOUT = """\
Score one or more systems' sounds against the true videos, and write a report with tables, plots and players.

A SYSTEM_DIR holds one sound or video per clip, named like the reference's file of that clip.
Measures whose weights are not in --weights are left out; the command names the file that each one needs.

example: python -m train.evaluate sounds/ours --reference videos --out report --weights weights"""
STATUS = """\
exit status: 0 if the report is complete; 3 if it is written but some clips could not be scored; 1 after an error
(no report)"""


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description=ABOUT,
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("systems", nargs="+", metavar="SYSTEM_DIR", help="folder of sounds or videos; write NAME=DIR to set its name")
    add("--reference", type=Path, metavar="DIR", required=True, help="folder of the true videos or sounds")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder for the report (report.md, report.json, index.html)",
    )
    add("--weights", type=Path, metavar="DIR", help="folder with the official weights of the measures")
    add("--codec", type=Path, metavar="DIR", help="also score true sounds after this codec (system folder or bundle)")
    add(
        "--subset",
        type=Path,
        metavar="LIST",
        action="append",
        default=[],
        help="list of clips to score as a test set of its own too",
    )
    add(
        "--metrics",
        metavar="NAMES",
        help=f"comma-separated measures: {', '.join(METRICS)} (default: all whose weights are present)",
    )
    add("--show", type=int, metavar="N", default=8, help="number of clips with players and plots (default: 8)")
    add("--av-benchmark", type=Path, metavar="DIR", help="also write input folders for hkchengrex/av-benchmark")
    add("--device", default="cpu", help="device of the measures' networks, such as cuda (default: cpu)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = make_parser().parse_args(arguments)
    try:
        report = run(args)
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in report.problems:
        print(f"{problem.kind}: {problem}", file=sys.stderr)
    print(f"{'complete' if report.complete else 'NOT complete'}: {args.out / 'report.md'}, {args.out / 'index.html'}")
    return 0 if report.complete else INCOMPLETE


if __name__ == "__main__":
    sys.exit(main())
