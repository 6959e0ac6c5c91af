"""`python -m benchmarks.scenes CLIPS`: what a bundle makes of made-up clips whose contacts are known."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runtime
from benchmarks.common.pairing import add_options, check_options, compared, sampling_options
from benchmarks.common.report import run_command, find_clips, finish, make_plots_folder, make_result
from benchmarks.common.true_track import TOLERANCE
from benchmarks.scenes import materials
from benchmarks.scenes.measure import Bundled, run_clips
from benchmarks.scenes.tables import print_tables, summary


def run(args: argparse.Namespace) -> None:
    check_options(args)
    make_plots_folder(args.plots)
    clips = find_clips(args.clips, args.limit)
    bundles = [Bundled(name, folder, args.backend, precision) for name, (folder, precision) in compared(args).items()]
    judge, facts = materials.train(args.sounds) if args.sounds else (None, None)
    rows = run_clips(args, clips, bundles, judge)
    measured = len(rows[bundles[0].name])
    if not measured:
        raise runtime.OptionError(f"none of the {len(clips)} clips of {args.clips} can be used")
    values: dict[str, Any] = sampling_options(args)
    values["steps_in"] = {b.name: b.pipeline.bundle.file_for("step") for b in bundles}
    values |= {"seed": args.seed, "classifier": facts, "tolerance": TOLERANCE, "skipped": len(clips) - measured}
    values["summary"] = summary(rows)
    print_tables(values["summary"], facts)
    finish(make_result("scenes", values | {"clips": rows}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenes", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("clips", type=Path, help="folder of ID.mp4, ID.flac and ID.json")
    add_options(parser)
    add("--sounds", type=Path, help="pool of recordings for the classifier of materials (default: no such figures)")
    add("--steps", type=int, default=16, help="unmasking steps (default: 16)")
    add("--seed", type=int, default=0, help="seed (default: 0)")
    add("--limit", type=int, default=200, help="at most so many clips (default: 200)")
    add("--out", type=Path, help="also write the JSON to this file")
    add("--plots", type=Path, help="folder for a picture per clip and contact-sheet.png")
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
