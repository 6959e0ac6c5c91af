"""Measure the sounds that a bundle generates for synthetic clips with known events.

    python -m benchmarks.scenes VIDEOS [--sounds POOL]

VIDEOS holds ID.mp4, ID.flac and ID.json of train.synthetic.drawn or train.synthetic.scenes; use their test split.

  onset F1              clips with impacts: onsets within 50 ms of those of the true track
  chance                the same with the onsets shifted in time
  codec's copy          the same for the true track after the codec: the most that can be reached
  ratio                 onset F1 over that of the codec's copy
  silent stays silent   share of silent clips whose sound is silent
  material              share of impacts whose material a classifier recognises; needs --sounds

Values are means over clips with a bootstrap 95 % interval. Several --engines are compared clip by clip. The last line
is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runtime
from benchmarks.common.pairing import (
    add_comparison_options,
    check_comparison_options,
    sampling_options,
    systems_to_compare,
)
from benchmarks.common.report import (
    add_output_options,
    command_parser,
    find_videos,
    finish,
    make_plots_folder,
    make_result,
    run_command,
)
from benchmarks.common.true_track import TOLERANCE
from benchmarks.scenes import materials
from benchmarks.scenes.measure import MeasuredBundle, run_videos
from benchmarks.scenes.tables import print_tables, summary


def run(args: argparse.Namespace) -> None:
    check_comparison_options(args)
    make_plots_folder(args.plots)
    videos = find_videos(args.videos, args.limit)
    bundles = [MeasuredBundle(name, folder, args.backend, precision)
               for name, (folder, precision) in systems_to_compare(args).items()]  # fmt: skip
    classifier, facts = materials.train(args.sounds) if args.sounds else (None, None)
    rows = run_videos(args, videos, bundles, classifier)
    measured = len(rows[bundles[0].name])
    if not measured:
        raise runtime.OptionError(f"none of the {len(videos)} clips of {args.videos} can be used")
    values: dict[str, Any] = sampling_options(args)
    values["steps_in"] = {b.name: b.pipeline.bundle.file_for("step") for b in bundles}
    values |= {"seed": args.seed, "classifier": facts, "tolerance": TOLERANCE, "skipped": len(videos) - measured}
    values["summary"] = summary(rows)
    print_tables(values["summary"], facts)
    finish(make_result("scenes", values | {"clips": rows}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.scenes", __doc__)
    add = parser.add_argument
    add("videos", type=Path, help="folder of ID.mp4, ID.flac and ID.json")
    add_comparison_options(parser)
    add(
        "--sounds",
        type=Path,
        help="pool of recordings that trains the classifier of materials (default: materials are not measured)",
    )
    add("--steps", type=int, default=16, help="unmasking steps (default: 16)")
    add("--seed", type=int, default=0, help="seed (default: 0)")
    add("--limit", type=int, default=200, help="largest number of clips (default: 200)")
    add_output_options(parser, plots="folder for one plot per clip and contact-sheet.png")
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
