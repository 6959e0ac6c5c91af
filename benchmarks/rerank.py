"""Measure what is lost and saved if weak candidates are dropped during decoding.

    python -m benchmarks.rerank VIDEOS --budget 4,1

Every clip and seed gets one single sound, the best of N candidates by SCAV ("plain"), and the choice of each budget
from the same N. The systems take turns. Columns, as means over clips with a bootstrap 95 % interval:
  f1              onset F1 within 50 ms of the true track
  lift            onset F1 within 100 ms minus chance
  distance, rank  SCAV distance of the choice after all steps, and its rank among all N (0 is the best)
  plains_choice   share of clips where the choice equals that of plain
  seconds, cpu_seconds   wall-clock and processor time of a complete call
The last line is one JSON object.

With an int8 step the tokens of a candidate depend on its batch. Ranks and distances are then those of the same
candidate in plain's batch. --precision fp16 avoids this.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.common.caching_pipeline import CachingPipeline
from benchmarks.common.report import (
    add_bundle_options,
    add_output_options,
    command_parser,
    finish,
    make_result,
    run_command,
    table,
)
from benchmarks.common.true_track import TOLERANCE, TrueTrack, read_true_tracks, score_takes
from runtime.sampling import read_budget
from train.evaluate.bootstrap import format_summary, summarise

FIGURES = {  # name -> number format in the table
    "f1": ".3f",
    "lift": "+.3f",
    "distance": ".4f",
    "rank": ".2f",
    "plains_choice": ".2f",
    "seconds": ".2f",
    "cpu_seconds": ".2f",
}
Row = dict[str, float]


def sampling_configs(
    options: dict[str, Any], candidates: int, budgets: Sequence[str]
) -> dict[str, runtime.SamplingConfig]:
    """System name -> its SamplingConfig. Raises OptionError for values that the runtime refuses."""
    many = options | {"candidates": candidates}
    configs = {"single": runtime.SamplingConfig(**options), "plain": runtime.SamplingConfig(**many)}
    for text in budgets:
        configs[text] = runtime.SamplingConfig(**many, budget=read_budget(text))
    return configs


def measure(track: TrueTrack, pipeline: CachingPipeline, configs: dict[str, runtime.SamplingConfig]) -> dict[str, Row]:
    """Figures of every system for one clip and seed. A silent track has no `f1`, `lift` and `loudness`."""
    takes, rows = {}, {}
    for name, sampling in configs.items():
        (takes[name], *_), elapsed = pipeline.timed(track.path, sampling)
        rows[name] = {"seconds": elapsed.wall, "cpu_seconds": elapsed.cpu}
    distances = takes["plain"].report.scores
    for name, take in takes.items():
        own = distances[take.candidate]  # the same tokens have the same distance
        rows[name] |= {"distance": own, "rank": sum(d < own for d in distances)} | score_takes(track, [take])
        rows[name]["plains_choice"] = float(take.candidate == takes["plain"].candidate)
    return rows


def compare(
    tracks: list[TrueTrack], pipeline: CachingPipeline, args: argparse.Namespace
) -> tuple[dict[str, list[Row]], list[dict[str, Any]]]:
    """Rows of every system, with a mean over seeds for each clip; and the same figures clip by clip."""
    rows: dict[str, list[Row]] = {}
    by_video = []
    pipeline.generate(tracks[0].path, runtime.SamplingConfig(steps=1, candidates=2))  # warm-up
    for n, track in enumerate(tracks):
        runs = []
        for seed in range(args.seeds):
            configs = sampling_configs({"steps": args.steps, "seed": seed}, args.candidates, args.budget)
            first = (n + seed) % len(configs)  # another system begins each time
            runs.append(measure(track, pipeline, dict([*configs.items()][first:] + [*configs.items()][:first])))
        for name in configs:
            mean = {key: float(np.mean([run[name][key] for run in runs])) for key in runs[0][name]}
            rows.setdefault(name, []).append(mean)
        by_video.append({"clip": track.path.name} | {name: own[-1] for name, own in rows.items()})
        ranks = [f"{k} {own[-1]['rank']:.1f} ({own[-1]['cpu_seconds']:.1f} s)" for k, own in rows.items()]
        print(f"{n + 1}/{len(tracks)} {track.path.name}: rank (processor time): {'  '.join(ranks)}", flush=True)
    return rows, by_video


def summary(rows: list[Row], plain: list[Row]) -> dict[str, Any]:
    """Mean and interval of every figure, and of its differences from plain on the same clips."""
    columns = {name: [row[name] for row in rows if name in row] for name in FIGURES}
    for name in ("f1", "distance", "seconds", "cpu_seconds"):
        columns[f"paired_{name}"] = [a[name] - b[name] for a, b in zip(rows, plain, strict=True) if name in a]
    return {name: summarise(values) for name, values in columns.items()}


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    if args.candidates < 2:
        raise runtime.OptionError(f"--candidates is {args.candidates}; it must be 2 or more")
    sampling_configs({"steps": args.steps}, args.candidates, args.budget)  # reports bad options before the measurement
    tracks = read_true_tracks(args.videos, args.limit)
    pipeline = CachingPipeline(args.engines, args.backend, args.threads, args.precision)
    rows, by_video = compare(tracks, pipeline, args)
    summaries = {name: summary(own, rows["plain"]) for name, own in rows.items()}
    cells = [[name, *(format_summary(s[key], form) for key, form in FIGURES.items())] for name, s in summaries.items()]
    print(table([f"best of {args.candidates}", *FIGURES], cells))
    facts = {"steps": args.steps, "candidates": args.candidates, "budgets": args.budget, "seeds": args.seeds}
    facts |= {"bundle": pipeline.bundle.manifest.name, "backend": pipeline.bundle.backend, "tolerance": TOLERANCE}
    facts["step_in"] = pipeline.bundle.file_for("step")
    finish(make_result("rerank", facts | {"summary": summaries, "clips": by_video}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.rerank", __doc__)
    add = parser.add_argument
    add("videos", type=Path, help="folder of videos with their own sound, or with ID.flac or ID.wav beside them")
    add("--candidates", type=int, default=10, help="number of candidates (default: 10)")
    add(
        "--budget",
        nargs="+",
        default=["4,1"],
        metavar="N,N",
        help="numbers of candidates to keep, in falling order (default: 4,1)",
    )
    add("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    add("--seeds", type=int, default=1, help="seeds per clip (default: 1)")
    add("--limit", type=int, default=16, help="largest number of clips (default: 16)")
    add_bundle_options(parser)
    add("--threads", type=int, default=0, help="CPU threads (default: the backend's choice)")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
