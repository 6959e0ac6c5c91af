"""Measure how well generated sounds are synchronised with the video.

    python -m benchmarks.sync VIDEOS

For every video that has sound, the bundle generates one sound per seed. The score is `lift`: onset F1 within 100 ms of
the true track, minus chance. The baseline takes the peaks of the difference between frames as onsets; `paired` is
generated minus baseline. Values are means over clips with a bootstrap 95 % interval.

Several --engines are compared clip by clip; the second may lose at most 0.01 of lift. --compare-candidates scores all
candidates of a clip, not only SCAV's choice. The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from benchmarks.common.caching_pipeline import CachingPipeline
from benchmarks.common.pairing import (
    Rows,
    add_comparison_options,
    candidate_lines,
    check_comparison_options,
    compare_candidates,
    paired_differences,
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
from engines.contract import FloatArray
from runtime.audio import resample
from train.evaluate.bootstrap import format_summary, summarise
from train.evaluate.frame_difference import frame_difference
from train.extras import requires_extra
from train.metrics.onsets import FRAME_RATE, RATE, lift_of_onsets, onset_scores, onset_strength, pick_onsets

with requires_extra("bench", __name__):
    from benchmarks.common.true_track import TrueTrack, read_true_track
    from train.data.video_files import video_events

if TYPE_CHECKING:
    from train.evaluate.plots import Strip

LARGEST_DROP = 0.01  # lift that a smaller or faster bundle may lose


def baseline_lift(track: TrueTrack) -> float:
    """Lift of the baseline, which takes the peaks of the frame difference as onsets."""
    seconds = len(onset_strength(track.audio)) / FRAME_RATE
    peaks = pick_onsets(frame_difference(track.path, seconds))
    return lift_of_onsets(track.onsets, peaks, seconds)["lift"]


def measure(
    track: TrueTrack, pipeline: runtime.Pipeline, options: dict[str, Any], seeds: int
) -> tuple[dict[str, Any], FloatArray]:
    """Run one video through one bundle: means over seeds of SCAV's choice; and the sound of the first seed at 16 kHz.

    If all candidates are returned, `takes` has their lifts by seed, SCAV's choice first.
    """
    sounds = []
    for seed in range(seeds):
        takes = pipeline.generate(track.path, runtime.SamplingConfig(seed=seed, **options))
        sounds.append([resample(take.audio, take.sample_rate, RATE) for take in takes])
    results = [[onset_scores(track.audio, sound) for sound in takes] for takes in sounds]
    row: dict[str, Any] = {"clip": track.path.name, "onsets": len(track.onsets)}
    row |= {key: float(np.mean([r[0][key] for r in results])) for key in ("f1", "chance", "lift", "n")}
    if options["takes"] > 1:
        row["takes"] = [[score["lift"] for score in takes] for takes in results]
    return row, sounds[0][0]


def plot(track: TrueTrack, title: str, sound: FloatArray, file: Path) -> "Strip":
    """Write the onset strip of one video, and return it for the contact sheet."""
    from train.evaluate.plots import Strip, onset_strip

    movement = frame_difference(track.path, track.seconds)
    events = video_events(track.path)[:, 0]
    strip = Strip(f"{track.path.stem}: {title}", movement, events, track.audio, sound)
    onset_strip(file, strip)
    return strip


def summarise_bundle(rows: Rows) -> dict[str, Any]:
    """Figures of one bundle: summaries over clips."""
    generated = np.array([r["lift"] for r in rows])
    baseline = np.array([r["baseline_lift"] for r in rows])
    columns = {"lift": generated, "baseline_lift": baseline, "paired": generated - baseline}
    figures: dict[str, Any] = {name: summarise(v) for name, v in columns.items()}
    return figures | {"candidates": compare_candidates([r["takes"] for r in rows if "takes" in r])}


def drop_verdict(difference: dict[str, Any] | None) -> dict[str, Any] | None:
    """The lift that the second bundle loses against the first; `kept` if that is at most LARGEST_DROP.

    `certain` is true if the whole interval is on the same side of LARGEST_DROP as the mean.
    """
    if difference is None:
        return None
    kept = difference["mean"] <= LARGEST_DROP
    certain = all((bound <= LARGEST_DROP) == kept for bound in difference["interval"])
    return {"lift": difference, "largest_drop": LARGEST_DROP, "kept": kept, "certain": certain}


def summary(rows: dict[str, Rows]) -> dict[str, Any]:
    """{"bundles": {name: figures}, "pairs": {"a - b": difference of lift by clip, and the verdict on b}}."""
    pairs = {name: drop_verdict(difference) for name, difference in paired_differences(rows, "lift").items()}
    return {"bundles": {name: summarise_bundle(r) for name, r in rows.items()}, "pairs": pairs}


def print_summary(values: dict[str, Any]) -> None:
    for name, figures in values["bundles"].items():
        print(f"\n{name}")
        for key in ("lift", "baseline_lift", "paired"):
            print(f"  {key:22} {format_summary(figures[key])}")
        for label, value in candidate_lines(figures["candidates"]) if figures["candidates"] else ():
            print(f"  {label:22} {value}")
    for name, pair in values["pairs"].items():
        verdict = f"the second loses {'at most' if pair['kept'] else 'more than'} {pair['largest_drop']:g}"
        print(
            f"paired lift, {name}: {format_summary(pair['lift'])}, {verdict}"
            + ("" if pair["certain"] else ", not certain")
        )


def row_line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{k} {row[k]:+.3f}" for k in ("f1", "chance", "lift", "baseline_lift"))
    return f"{row['clip']:44} onsets {row['onsets']:3d}  generated {row['n']:5.1f}  {scores}"


def run_videos(args: argparse.Namespace, videos: list[Path], pipelines: dict[str, runtime.Pipeline]) -> dict[str, Rows]:
    """Rows of every bundle, video by video. Draws plots with --plots, and reports videos that cannot be used."""
    rows: dict[str, Rows] = {name: [] for name in pipelines}
    strips: list[Strip] = []
    for video in videos:
        try:
            track = read_true_track(video)
            baseline = {"baseline_lift": baseline_lift(track)}
            found = {name: measure(track, p, sampling_options(args), args.seeds) for name, p in pipelines.items()}
        except runtime.MediaError as error:
            print(f"skipped {video.name}: {error}", file=sys.stderr)
            continue
        for name, (scores, sound) in found.items():
            row = scores | baseline
            rows[name].append(row)
            labels = [name] if len(pipelines) > 1 else []
            print("  ".join([row_line(row), *labels]), flush=True)
            if args.plots:
                title = ", ".join([f"F1 {row['f1']:.2f}", f"chance {row['chance']:.2f}", *labels])
                strips.append(plot(track, title, sound, args.plots / f"{'-'.join([video.stem, *labels])}.png"))
    if strips:
        from train.evaluate.plots import contact_sheet

        contact_sheet(args.plots / "contact-sheet.png", strips)
    return rows


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    check_comparison_options(args)
    make_plots_folder(args.plots)
    videos = find_videos(args.videos)
    pipelines = {n: CachingPipeline(folder, args.backend, 0, p) for n, (folder, p) in systems_to_compare(args).items()}
    rows = run_videos(args, videos, pipelines)
    measured = len(next(iter(rows.values())))
    if not measured:
        raise runtime.OptionError(f"none of the {len(videos)} videos of {args.videos} can be used")
    values: dict[str, Any] = {"options": sampling_options(args), "seeds": args.seeds, "skipped": len(videos) - measured}
    values["steps_in"] = {name: p.bundle.file_for("step") for name, p in pipelines.items()}
    values["summary"] = summary(rows)
    print_summary(values["summary"])
    finish(make_result("sync", values | {"clips": rows}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.sync", __doc__)
    parser.add_argument(
        "videos", type=Path, help="folder of videos with their own sound, or with ID.flac or ID.wav beside them"
    )
    add_comparison_options(parser)
    parser.add_argument("--seeds", type=int, default=4, help="sounds per clip (default: 4)")
    parser.add_argument("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    add_output_options(parser, plots="folder for one plot per clip and contact-sheet.png")
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
