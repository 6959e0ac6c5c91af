"""Measure whether generated sounds mean what the videos show.

    python -m benchmarks.meaning VIDEOS [VIDEOS ...] [--recordings POOL [POOL ...]]

The score is semantic lift: the similarity of a generated sound to its own video's true sound, minus the mean similarity
to the true sounds of the other videos, in an embedding of sound effects (aiSFX; train.metrics.semantic has the
definition). `rank` is the rank of the video's own true sound among all n. By chance, lift is 0 and rank (n + 1) / 2.
The score depends on the set of videos: compare systems on the same set only.

  --engines     bundles to measure; repeat to compare several
  --generated   folders of sounds that another system generated, paired by file name
  --judge       simulated videos: how often a classifier hears the concept that is shown; the same for the true tracks.
                Bundles then get made-up frame features of these concepts: a simulated picture does not show them
  --words       each bundle also with the right words (the concepts that are shown) and with a wrong one: is the wish
                followed? Videos whose concepts are not known are left out
  --codecs      with --recordings: the same sounds through each bundle's codec, to see how much meaning it keeps
  --recordings  baseline: random recordings of the concept that the frame encoder sees most, without any timing
  floors        noise; and `other`, the true sounds of the other videos

Systems are compared video by video. Values are means over videos with a bootstrap 95 % interval. The last line is one
JSON object. The embedding needs `pip install --no-deps aisfx==0.1.2` (weights CC BY 4.0). It is for evaluation only:
never train or choose with it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runtime
from benchmarks.common.halves import add_folders_option, find_half
from benchmarks.common.pairing import (
    add_comparison_options,
    check_comparison_options,
    sampling_options,
    systems_to_compare,
)
from benchmarks.common.report import (
    add_output_options,
    command_parser,
    finish,
    make_plots_folder,
    make_result,
    run_command,
)
from benchmarks.meaning.tables import print_tables, summary
from train.extras import requires_extra

with requires_extra("bench", __name__):
    from benchmarks.common.bundle_codec import BundleCodec
    from benchmarks.common.real_videos import read_encoder, read_truth
    from benchmarks.meaning.judge import train_judge
    from benchmarks.meaning.measure import run_videos, score_system, swapped_lifts
    from benchmarks.meaning.recordings import RandomRecordings
    from benchmarks.meaning.shown import FeaturesOfShown, ShownPipeline
    from benchmarks.meaning.systems import System, bundle_system, folder_system, noise_system
    from benchmarks.meaning.wishes import Wishes, print_wishes, wish_summary
    from train.evaluate.files import scan_systems
    from train.metrics.aisfx import AiSFX, embed
    from train.models.loading import WeightsError
    from train.synthetic.concepts.table import read_table

NOISE, RECORDINGS = "noise", "recordings"


def make_systems(
    args: argparse.Namespace, pipelines: "dict[str, ShownPipeline]", wishes: "Wishes | None"
) -> "dict[str, System]":
    """All systems by name: bundles first, then folders of sounds, then the baselines.

    Raises OptionError if two have the same name.
    """
    encoder = read_encoder(args.weights) if args.recordings or args.judge else None
    features = FeaturesOfShown(read_table(), *encoder) if encoder and args.judge else None
    options = sampling_options(args)
    systems: dict[str, System] = {}
    for name, pipeline in pipelines.items():
        if wishes is None:
            systems[name] = bundle_system(pipeline, options, args.seeds, features)
        else:
            systems |= wishes.systems(name, pipeline, options, args.seeds, features)
    others: dict[str, System] = {folder.name: folder_system(folder) for folder in scan_systems(args.generated or [])}
    if repeated := sorted(set(others) & {*systems, NOISE, RECORDINGS}):
        raise runtime.OptionError(f"the name {repeated[0]} is taken; write --generated NAME=DIR to choose another")
    if encoder and args.recordings:
        others[RECORDINGS] = recordings = RandomRecordings(args.recordings, *encoder)
        if args.codecs:
            codecs = {f"{RECORDINGS} through {name}": BundleCodec(p.bundle) for name, p in pipelines.items()}
            others |= {name: recordings.through(codec) for name, codec in codecs.items()}
    return systems | others | {NOISE: noise_system()}


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    if args.codecs and not (args.recordings and (args.engines or not args.generated)):
        raise runtime.OptionError("--codecs needs --recordings and a bundle; add --recordings POOL or --engines")
    check_comparison_options(args)
    make_plots_folder(args.plots)
    network, videos = AiSFX.load(), find_half(args.videos, args.half)
    bundles = systems_to_compare(args) if args.engines or not args.generated else {}
    pipelines = {n: ShownPipeline(folder, args.backend, 0, p) for n, (folder, p) in bundles.items()}
    table = read_table()
    concepts = {file: [table[k].name for k in right] for file, right in read_truth(table).items()}
    wishes = Wishes.of_videos(videos, concepts) if args.words else None
    systems = make_systems(args, pipelines, wishes)
    judge, facts = train_judge(*args.judge, table) if args.judge else (None, None)
    measured = run_videos(videos, systems, lambda sound: embed(network, sound), bool(args.plots), judge)
    if len(measured.tracks) < 2:
        raise runtime.OptionError(f"{len(measured.tracks)} of {len(videos)} videos can be used; 2 or more are needed")
    rows = {name: score_system(measured, name, concepts) for name in systems}
    floors = {NOISE: [row["lift"] for row in rows.pop(NOISE)], "other": swapped_lifts(measured.truth)}
    if wishes is not None:
        for name in rows:
            wishes.score(measured, name, rows[name], judge)
    if args.plots:
        from benchmarks.meaning.plots import draw_plots

        draw_plots(args.plots, measured, rows)
    values: dict[str, Any] = {"options": sampling_options(args), "seeds": args.seeds, "half": args.half}
    values |= {"skipped": len(videos) - len(measured.tracks), "embedding": "aisfx 0.1.2", "judge": facts}
    values["steps_in"] = {name: p.bundle.file_for("step") for name, p in pipelines.items()}
    values["summary"] = summary(rows, floors)
    print_tables(values["summary"])
    if wishes is not None:
        values["wishes"] = {name: wish_summary(rows, name) for name in pipelines}
        print_wishes(values["wishes"])
    finish(make_result("meaning", values | {"clips": rows}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.meaning", __doc__)
    add = parser.add_argument
    add_folders_option(parser)
    add_comparison_options(parser)
    words = "folder of generated sounds, one file per video with the same name; NAME=DIR sets a name; may be repeated"
    add("--generated", action="append", metavar="DIR", help=words)
    words = "also measure each bundle with the right words and with a wrong one"
    add("--words", action="store_true", help=words)
    words = "folders of recordings with sounds.csv, for the baseline of random recordings"
    add("--recordings", type=Path, nargs="+", metavar="POOL", help=words)
    words = "with --recordings: also these recordings, encoded and decoded by each bundle's codec"
    add("--codecs", action="store_true", help=words)
    words = "folders of recordings that train the judge: one whose labels are materials, one of sound classes"
    add("--judge", type=Path, nargs=2, metavar="POOL", help=words)
    words = "mobilenet_v2-b0353104.pth, for --recordings and --judge (default: from its package)"
    add("--weights", type=Path, help=words)
    add("--seeds", type=int, default=1, help="sounds per video (default: 1)")
    add("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    add_output_options(parser, plots="folder for one plot of spectrograms per video, and contact sheets")
    return run_command(run, parser.parse_args(argv), WeightsError)


if __name__ == "__main__":
    sys.exit(main())
