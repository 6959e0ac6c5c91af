"""`python -m benchmarks.scan CLIPS --what guidance`: what one sampling option buys, and what it costs.

Every value makes sounds for the same clips and seeds, the other options at their defaults: onset F1 within 50 ms of the
true track, lift over chance at 100 ms, seconds and processor seconds per clip (whole calls: a picture is encoded once,
and what that took is counted in every call), diversity (share of tokens that differ between two seeds), entropy and
distinct (bits of a codebook's tokens in a clip, and different codewords per token), same_tokens (share of tokens equal
to the default's with the same noise), loudness against the track, and how often a silent clip stays silent. Means over
clips with a bootstrap 95 % interval; paired: against the default's sounds of the same clips. The last line is one JSON
object.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from benchmarks.common.caching_pipeline import RememberingPipeline
from benchmarks.common.report import command, finish, plots_folder, result, table
from engines.backends import AUTO, PRECISIONS
from engines.contract import Int32Array
from runtime.decode import SCHEDULES
from train.evaluate.bootstrap import summarise, words
from train.extras import requires_extra

with requires_extra("bench", __name__):
    from benchmarks.common.truth import TOLERANCE, Truth, against, read_truths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = float | str
VALUES: dict[str, tuple[Value, ...]] = {  # the paper's ranges, and of what it does not have
    "guidance": (0, 1, 2, 3, 4, 8, 16),
    "diversity": (0, 1, 2, 4, 8, 16),
    "steps": (4, 8, 16, 32, 64, 128),
    "candidates": (1, 2, 4, 8, 16),
    "guidance_from": (0, 0.25, 0.5, 0.75),
    "guidance_until": (0.25, 0.5, 0.75, 1),
    "schedule": tuple(SCHEDULES),
}
KINDS: dict[str, Callable[[str], Value]] = {"steps": int, "candidates": int, "schedule": str}  # all others: float
FIGURES = {  # name -> how a table shows it
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
    """How codes [seeds, K, T] use their codebooks, mean over seeds and codebooks; diversity between the seeds."""
    counts = [np.unique(row, return_counts=True)[1] for take in codes for row in take]
    shares = [n / codes.shape[-1] for n in counts]
    return {
        "diversity": float(np.mean([(a != b).mean() for a, b in combinations(codes, 2)])),
        "entropy": float(np.mean([-(p * np.log2(p)).sum() for p in shares])) + 0.0,  # no -0
        "distinct": float(np.mean([len(n) for n in counts])) / codes.shape[-1],
    }


def measure(
    truth: Truth, pipeline: RememberingPipeline, options: dict[str, Any], seeds: int
) -> tuple[dict[str, float], Int32Array]:
    """One clip at one value, mean over seeds, and its codes. What a silent track has no answer to is absent."""
    calls = [pipeline.timed(truth.path, runtime.SamplingConfig(seed=s, **options)) for s in range(seeds)]
    takes, spent = [takes[0] for takes, _ in calls], [spent for _, spent in calls]
    row = {"seconds": float(np.mean([s.wall for s in spent])), "cpu_seconds": float(np.mean([s.cpu for s in spent]))}
    codes = np.stack([take.codes for take in takes])
    return row | token_statistics(codes) | against(truth, takes), codes


def scan(
    truths: list[Truth], pipeline: RememberingPipeline, settings: list[dict[str, Any]], default: int | None, seeds: int
) -> list[list[dict[str, float]]]:
    """Rows of every setting, clip by clip: what slows the machine down for a while slows all of them.

    `default` is the number of the setting that tokens are compared with.
    """
    rows: list[list[dict[str, float]]] = [[] for _ in settings]
    pipeline.generate(truths[0].path, runtime.SamplingConfig(steps=1))  # warm-up
    for n, truth in enumerate(truths):
        found = [measure(truth, pipeline, options, seeds) for options in settings]
        for row, (figures, codes) in zip(rows, found, strict=True):
            same = {} if default is None else {"same_tokens": float((codes == found[default][1]).mean())}
            row.append(figures | same)
        scores = "  ".join(f"{r[-1]['f1']:.2f}" if "f1" in r[-1] else "-" for r in rows)
        print(f"{n + 1}/{len(truths)} {truth.path.name}: F1 {scores}", flush=True)
    return rows


def summary(rows: list[dict[str, float]], default: list[dict[str, float]] | None) -> dict[str, Any]:
    """Mean and interval of every figure at one value; None where no clip has it."""
    columns = {name: [row[name] for row in rows if name in row] for name in FIGURES}
    if default is not None:
        columns["paired_f1"] = [a["f1"] - b["f1"] for a, b in zip(rows, default, strict=True) if "f1" in a]
    return {name: summarise(values) for name, values in columns.items()}


# ---------------------------------------------------------------- pictures
def draw_figure(axes: "Axes", x: Sequence[float], summaries: Sequence[dict[str, Any]], name: str) -> None:
    """One figure with its intervals as error bars, where it is known."""
    known = [(at, s[name]) for at, s in zip(x, summaries, strict=True) if s[name] is not None]
    if not known:
        return
    means = np.array([s["mean"] for _, s in known])
    low, high = np.array([s["interval"] for _, s in known]).T
    bars = [np.maximum(means - low, 0), np.maximum(high - means, 0)]
    axes.errorbar([at for at, _ in known], means, bars, marker="o", capsize=3, label=name)


def draw(path: Path, what: str, values: Sequence[Value], summaries: Sequence[dict[str, Any]]) -> None:
    """A picture of the scan: quality, its price, and what else changes."""
    from matplotlib.figure import Figure

    from train.evaluate.plots import save

    figure = Figure(figsize=(15, 8), layout="constrained")
    grid = figure.subplots(2, 3).flat
    places, labels = list(range(len(values))), [spelled(v) for v in values]
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
    price = figure.axes[5]
    seconds = [s["seconds"]["mean"] for s in summaries]
    draw_figure(price, seconds, summaries, "f1")
    for at, label, s in zip(seconds, labels, summaries, strict=True):
        if s["f1"] is not None:
            price.annotate(label, (at, s["f1"]["mean"]), textcoords="offset points", xytext=(6, 4))
    price.set(xlabel="seconds per clip", ylabel="onset F1", title=f"quality against its price ({what} as labels)")
    price.grid(alpha=0.3)
    save(figure, path)


# ---------------------------------------------------------------- the command
def spelled(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def read_values(what: str, text: str | None) -> list[Value]:
    """The values of --values, in order and once each. Raises OptionError."""
    if text is None:
        return list(VALUES[what])
    kind = KINDS.get(what, float)
    try:
        return sorted({kind(part) for part in text.split(",")})
    except ValueError as error:
        name = "whole numbers" if kind is int else "numbers"
        raise runtime.OptionError(f"--values {text!r}: give {name} with commas between them, as 1,2,4") from error


def run(args: argparse.Namespace) -> None:
    if args.seeds < 2:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 2 or more, for diversity compares two")
    values, base = read_values(args.what, args.values), runtime.SamplingConfig()
    options = {name: getattr(base, name) if (given := getattr(args, name)) is None else given for name in VALUES}
    settings = [options | {args.what: value} for value in values]
    for setting in settings:
        runtime.SamplingConfig(**setting)  # refuses now what it would refuse in an hour
    plots_folder(args.plots)
    truths = read_truths(args.clips, args.limit)
    pipeline = RememberingPipeline(args.engines, args.backend, 0, args.precision)
    default = values.index(options[args.what]) if options[args.what] in values else None
    rows = scan(truths, pipeline, settings, default, args.seeds)
    summaries = [summary(r, None if default is None else rows[default]) for r in rows]
    pairs = zip(values, summaries, strict=True)
    cells = [[spelled(value), *(words(s[name], form) for name, form in FIGURES.items())] for value, s in pairs]
    print(table([args.what, *FIGURES], cells))
    if args.plots:
        draw(args.plots / f"scan-{args.what}.png", args.what, values, summaries)
    facts = {"what": args.what, "default": options[args.what], "options": options, "seeds": args.seeds}
    facts |= {"bundle": pipeline.bundle.manifest.name, "backend": pipeline.bundle.backend, "tolerance": TOLERANCE}
    facts["step_in"] = pipeline.bundle.file_for("step")
    facts["values"] = [
        {"value": value, "summary": s, "clips": [{"clip": t.path.name} | row for t, row in zip(truths, r, strict=True)]}
        for value, s, r in zip(values, summaries, rows, strict=True)
    ]
    finish(result("scan", facts), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("clips", type=Path, help="folder of videos with ID.flac, ID.wav or their own sound")
    add("--what", choices=list(VALUES), required=True, help="the option that is scanned")
    add("--values", help="values with commas between them (default: the paper's range)")
    add("--engines", type=Path, help="bundle (default: the shipped one)")
    add("--backend", default="auto", help="backend (default: auto)")
    add(
        "--precision", choices=(AUTO, *PRECISIONS), default=AUTO, help="of the step (default: what the backend prefers)"
    )
    for name in VALUES:
        add(f"--{name.replace('_', '-')}", type=KINDS.get(name, float), help=f"{name} while another option is scanned")
    add("--seeds", type=int, default=2, help="sounds per clip and value (default: 2)")
    add("--limit", type=int, default=16, help="at most so many clips (default: 16)")
    add("--out", type=Path, help="also write the JSON to this file")
    add("--plots", type=Path, help="folder for scan-WHAT.png")
    return command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
