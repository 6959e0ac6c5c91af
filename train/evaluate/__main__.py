"""`python -m train.evaluate SYSTEM_DIR [SYSTEM_DIR ...] --reference DIR --out REPORT/`: score any system's sounds."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from train.extras import requires_extra

with requires_extra("bench", __name__):
    from train.evaluate.core import EXPECTED, run
    from train.metrics import METRICS

INCOMPLETE = 3  # exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("systems", nargs="+", metavar="SYSTEM_DIR", help="folder of sounds or videos, or NAME=DIR")
    add("--reference", type=Path, required=True, help="folder of the true videos, or sounds")
    add("--out", type=Path, required=True, help="folder of the report")
    add("--weights", type=Path, help="folder of the measures' official weights")
    add("--codec", type=Path, help="system folder or bundle: adds the row of true sounds after its codec")
    add("--subset", type=Path, action="append", default=[], help="list of clips that are a test set of their own")
    add(
        "--metrics",
        help=f"only these, separated by commas: {', '.join(METRICS)} (default: all whose weights are there)",
    )
    add("--show", type=int, default=8, help="clips with players and plots (default: 8)")
    add("--av-benchmark", type=Path, help="also write the folders that hkchengrex/av-benchmark reads")
    add("--device", default="cpu", help="of the networks (default: cpu)")
    args = parser.parse_args(arguments)
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
