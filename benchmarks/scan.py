"""Measure how one sampling option changes quality and speed.

    python -m benchmarks.scan VIDEOS --what guidance

Generates sounds with every value of the option, for the same clips and seeds. Other options keep their defaults. One
row per value; columns are means over clips with a bootstrap 95 % interval:
  f1            onset F1 within 50 ms of the true track
  lift          onset F1 within 100 ms minus chance
  paired_f1     f1 minus that of the default value on the same clips
  seconds, cpu_seconds   wall-clock and processor time of a complete call
  diversity     share of tokens that differ between two seeds
  entropy       bits per token of a codebook, within a clip
  distinct      number of different codewords over the number of tokens
  same_tokens   share of tokens equal to those of the default value with the same noise
  loudness      dB above the true track
  stays_silent  share of silent clips whose sound is silent
The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from benchmarks.common.caching_pipeline import CachingPipeline
from benchmarks.common.report import (
    add_bundle_options,
    add_output_options,
    command_parser,
    finish,
    make_plots_folder,
    make_result,
    run_command,
    table,
)
from engines.contract import Int32Array
from runtime.decode import SCHEDULES
from train.evaluate.bootstrap import format_summary, summarise
from train.extras import requires_extra

with requires_extra("bench", __name__):
    from benchmarks.common.true_track import TOLERANCE, TrueTrack, read_true_tracks, score_takes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = float | str
VALUES: dict[
    str, tuple[Value, ...]
] = {  # the ranges of the paper; our own ranges for options that the paper does not have
    "guidance": (0, 1, 2, 3, 4, 8, 16),
    "diversity": (0, 1, 2, 4, 8, 16),
    "steps": (4, 8, 16, 32, 64, 128),
    "candidates": (1, 2, 4, 8, 16),
    "guidance_from": (0, 0.25, 0.5, 0.75),
    "guidance_until": (0.25, 0.5, 0.75, 1),
    "schedule": tuple(SCHEDULES),
}
KINDS: dict[str, Callable[[str], Value]] = {
    "steps": int,
    "candidates": int,
    "schedule": str,
}  # type of the values; others are float
FIGURES = {  # name -> number format in the table
    "f1": ".3f",
    "lift": "+.3f",
    "paired_f1": "+.3f",
    "seconds": ".2f",
    "cpu_seconds": ".2f",
    "diversity": ".3f",
    "entropy": ".2f",
    "distinct": ".3f",
    "same_tokens": ".3f",
    "loudness": "+.1f",
    "stays_silent": ".2f",
}


def token_statistics(codes: Int32Array) -> dict[str, float]:
    """Diversity, entropy and distinct codewords of codes [seeds, K, T], as means over seeds and codebooks."""
    counts = [np.unique(row, return_counts=True)[1] for take in codes for row in take]
    shares = [n / codes.shape[-1] for n in counts]
    return {
        "diversity": float(np.mean([(a != b).mean() for a, b in combinations(codes, 2)])),
        "entropy": float(np.mean([-(p * np.log2(p)).sum() for p in shares])) + 0.0,  # no -0
        "distinct": float(np.mean([len(n) for n in counts])) / codes.shape[-1],
    }


def measure(
    track: TrueTrack, pipeline: CachingPipeline, options: dict[str, Any], seeds: int
) -> tuple[dict[str, float], Int32Array]:
    """Figures of one clip at one value, as means over seeds; and its codes [seeds, K, T].

    See `score_takes` for the figures that a silent track lacks.
    """
    calls = [pipeline.timed(track.path, runtime.SamplingConfig(seed=s, **options)) for s in range(seeds)]
    takes, times = [takes[0] for takes, _ in calls], [elapsed for _, elapsed in calls]
    row = {"seconds": float(np.mean([t.wall for t in times])), "cpu_seconds": float(np.mean([t.cpu for t in times]))}
    codes = np.stack([take.codes for take in takes])
    return row | token_statistics(codes) | score_takes(track, takes), codes


def scan(
    tracks: list[TrueTrack], pipeline: CachingPipeline, settings: list[dict[str, Any]], default: int | None, seeds: int
) -> list[list[dict[str, float]]]:
    """Rows of every setting, clip by clip, so that a temporary slowdown of the machine affects all settings.

    `default` is the index of the setting whose tokens the others are compared with.
    """
    rows: list[list[dict[str, float]]] = [[] for _ in settings]
    pipeline.generate(tracks[0].path, runtime.SamplingConfig(steps=1))  # warm-up
    for n, track in enumerate(tracks):
        found = [measure(track, pipeline, options, seeds) for options in settings]
        for row, (figures, codes) in zip(rows, found, strict=True):
            same = {} if default is None else {"same_tokens": float((codes == found[default][1]).mean())}
            row.append(figures | same)
        scores = "  ".join(f"{r[-1]['f1']:.2f}" if "f1" in r[-1] else "-" for r in rows)
        print(f"{n + 1}/{len(tracks)} {track.path.name}: F1 {scores}", flush=True)
    return rows


def summary(rows: list[dict[str, float]], default: list[dict[str, float]] | None) -> dict[str, Any]:
    """Mean and interval of every figure at one value; None if no clip has the figure."""
    columns = {name: [row[name] for row in rows if name in row] for name in FIGURES}
    if default is not None:
        columns["paired_f1"] = [a["f1"] - b["f1"] for a, b in zip(rows, default, strict=True) if "f1" in a]
    return {name: summarise(values) for name, values in columns.items()}


# ---------------------------------------------------------------- plots
def draw_figure(axes: "Axes", x: Sequence[float], summaries: Sequence[dict[str, Any]], name: str) -> None:
    """Plot one figure with its intervals as error bars. Values without the figure are left out."""
    known = [(at, s[name]) for at, s in zip(x, summaries, strict=True) if s[name] is not None]
    if not known:
        return
    means = np.array([s["mean"] for _, s in known])
    low, high = np.array([s["interval"] for _, s in known]).T
    bars = [np.maximum(means - low, 0), np.maximum(high - means, 0)]
    axes.errorbar([at for at, _ in known], means, bars, marker="o", capsize=3, label=name)


def draw(path: Path, what: str, values: Sequence[Value], summaries: Sequence[dict[str, Any]]) -> None:
    """Plot the scan: quality, time, and the other figures."""
    from matplotlib.figure import Figure

    from train.evaluate.plots import save

    figure = Figure(figsize=(15, 8), layout="constrained")
    grid = figure.subplots(2, 3).flat
    places, labels = list(range(len(values))), [value_label(v) for v in values]
    panels = (("f1", "lift"), ("seconds",), ("diversity", "distinct", "same_tokens"), ("loudness",), ("stays_silent",))
    units = ("onset F1 and lift", "seconds per clip", "share of tokens", "dB above the track", "share")
    for axes, names, unit in zip(grid, panels, units, strict=False):
        for name in names:
            draw_figure(axes, places, summaries, name)
        axes.set(xlabel=what, ylabel=unit, title=", ".join(names).replace("_", " "))
        axes.set_xticks(places, labels)
        axes.grid(alpha=0.3)
    for axes in (grid[0], grid[2]):
        axes.legend(*axes.get_legend_handles_labels())
    tradeoff = figure.axes[5]
    seconds = [s["seconds"]["mean"] for s in summaries]
    draw_figure(tradeoff, seconds, summaries, "f1")
    for at, label, s in zip(seconds, labels, summaries, strict=True):
        if s["f1"] is not None:
            tradeoff.annotate(label, (at, s["f1"]["mean"]), textcoords="offset points", xytext=(6, 4))
    tradeoff.set(xlabel="seconds per clip", ylabel="onset F1", title=f"quality against time (labels: {what})")
    tradeoff.grid(alpha=0.3)
    save(figure, path)


# ---------------------------------------------------------------- the command
def value_label(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def read_values(what: str, text: str | None) -> list[Value]:
    """The values of --values, sorted and without duplicates. Raises OptionError."""
    if text is None:
        return list(VALUES[what])
    kind = KINDS.get(what, float)
    try:
        return sorted({kind(part) for part in text.split(",")})
    except ValueError as error:
        name = "whole numbers" if kind is int else "numbers"
        raise runtime.OptionError(
            f"--values {text!r}: give {name} with commas between them, for example 1,2,4"
        ) from error


def run(args: argparse.Namespace) -> None:
    if args.seeds < 2:
        raise runtime.OptionError(
            f"--seeds is {args.seeds}; it must be 2 or more, because diversity compares two seeds"
        )
    values, base = read_values(args.what, args.values), runtime.SamplingConfig()
    options = {name: getattr(base, name) if (value := getattr(args, name)) is None else value for name in VALUES}
    settings = [options | {args.what: value} for value in values]
    for setting in settings:
        runtime.SamplingConfig(**setting)  # reports bad options before the measurement
    make_plots_folder(args.plots)
    tracks = read_true_tracks(args.videos, args.limit)
    pipeline = CachingPipeline(args.engines, args.backend, 0, args.precision)
    default = values.index(options[args.what]) if options[args.what] in values else None
    rows = scan(tracks, pipeline, settings, default, args.seeds)
    summaries = [summary(r, None if default is None else rows[default]) for r in rows]
    pairs = zip(values, summaries, strict=True)
    cells = [
        [value_label(value), *(format_summary(s[name], form) for name, form in FIGURES.items())] for value, s in pairs
    ]
    print(table([args.what, *FIGURES], cells))
    if args.plots:
        draw(args.plots / f"scan-{args.what}.png", args.what, values, summaries)
    facts = {"what": args.what, "default": options[args.what], "options": options, "seeds": args.seeds}
    facts |= {"bundle": pipeline.bundle.manifest.name, "backend": pipeline.bundle.backend, "tolerance": TOLERANCE}
    facts["step_in"] = pipeline.bundle.file_for("step")
    facts["values"] = [
        {"value": value, "summary": s, "clips": [{"clip": t.path.name} | row for t, row in zip(tracks, r, strict=True)]}
        for value, s, r in zip(values, summaries, rows, strict=True)
    ]
    finish(make_result("scan", facts), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.scan", __doc__)
    add = parser.add_argument
    add("videos", type=Path, help="folder of videos with their own sound, or with ID.flac or ID.wav beside them")
    add("--what", choices=list(VALUES), required=True, help="option to scan")
    add("--values", help="values with commas between them (default: the range of the paper)")
    add_bundle_options(parser)
    for name in VALUES:
        add(
            f"--{name.replace('_', '-')}",
            type=KINDS.get(name, float),
            help=f"value of {name} while another option is scanned",
        )
    add("--seeds", type=int, default=2, help="sounds per clip and value (default: 2)")
    add("--limit", type=int, default=16, help="largest number of clips (default: 16)")
    add_output_options(parser, plots="folder for scan-WHAT.png")
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
