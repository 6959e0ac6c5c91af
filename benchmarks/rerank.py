"""`python -m benchmarks.rerank CLIPS --budget 4,1`: candidates dropped on the way, against plain best of N.

For every clip and seed: one sound, the best of N by SCAV, and what each budget chooses from the same N. Onset F1 within
50 ms of the true track, lift over chance at 100 ms, the SCAV distance of the choice (after all steps), its rank among
all N (0 is the best), whether it is plain's choice, and seconds and processor seconds of whole calls, taken in turn (a
picture is encoded once, and what that took is counted in every call). Means over clips with a bootstrap 95 % interval;
the last line is one JSON object. A candidate's tokens depend on its batch where the step is in int8, and then ranks and
distances are of its twin in plain's batch: --precision fp16 keeps them equal.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.common.caching_pipeline import RememberingPipeline
from benchmarks.common.report import command, finish, result, table
from benchmarks.common.truth import TOLERANCE, Truth, against, read_truths
from engines.backends import AUTO, PRECISIONS
from runtime.sampling import read_budget
from train.evaluate.bootstrap import summarise, words

FIGURES = {  # name -> how a table shows it
    "f1": ".3f",
    "lift": "+.3f",
    "distance": ".4f",
    "rank": ".2f",
    "plains_choice": ".2f",
    "seconds": ".2f",
    "cpu_seconds": ".2f",
}
Row = dict[str, float]


def systems(options: dict[str, Any], candidates: int, budgets: Sequence[str]) -> dict[str, runtime.SamplingConfig]:
    """Name -> how it samples. Raises OptionError."""
    many = options | {"candidates": candidates}
    found = {"single": runtime.SamplingConfig(**options), "plain": runtime.SamplingConfig(**many)}
    for text in budgets:
        found[text] = runtime.SamplingConfig(**many, budget=read_budget(text))
    return found


def measure(truth: Truth, pipeline: RememberingPipeline, named: dict[str, runtime.SamplingConfig]) -> dict[str, Row]:
    """One clip and seed: every system's figures. What a silent track has no answer to is absent."""
    takes, rows = {}, {}
    for name, sampling in named.items():
        (takes[name], *_), spent = pipeline.timed(truth.path, sampling)
        rows[name] = {"seconds": spent.wall, "cpu_seconds": spent.cpu}
    distances = takes["plain"].report.scores
    for name, take in takes.items():
        own = distances[take.candidate]  # the same tokens have the same distance
        rows[name] |= {"distance": own, "rank": sum(d < own for d in distances)} | against(truth, [take])
        rows[name]["plains_choice"] = float(take.candidate == takes["plain"].candidate)
    return rows


def compare(
    truths: list[Truth], pipeline: RememberingPipeline, args: argparse.Namespace
) -> tuple[dict[str, list[Row]], list[dict[str, Any]]]:
    """Every system's rows, a mean over seeds for each clip; and what was measured, clip by clip."""
    rows: dict[str, list[Row]] = {}
    told = []
    pipeline.generate(truths[0].path, runtime.SamplingConfig(steps=1, candidates=2))  # warm-up
    for n, truth in enumerate(truths):
        runs = []
        for seed in range(args.seeds):
            named = systems({"steps": args.steps, "seed": seed}, args.candidates, args.budget)
            turn = (n + seed) % len(named)
            runs.append(measure(truth, pipeline, dict([*named.items()][turn:] + [*named.items()][:turn])))
        for name in named:
            mean = {key: float(np.mean([run[name][key] for run in runs])) for key in runs[0][name]}
            rows.setdefault(name, []).append(mean)
        told.append({"clip": truth.path.name} | {name: found[-1] for name, found in rows.items()})
        ranks = [f"{k} {found[-1]['rank']:.1f} ({found[-1]['cpu_seconds']:.1f} s)" for k, found in rows.items()]
        print(f"{n + 1}/{len(truths)} {truth.path.name}: rank (processor time) of {'  '.join(ranks)}", flush=True)
    return rows, told


def summary(rows: list[Row], plain: list[Row]) -> dict[str, Any]:
    """Mean and interval of every figure, and of the differences from plain on the same clips."""
    columns = {name: [row[name] for row in rows if name in row] for name in FIGURES}
    for name in ("f1", "distance", "seconds", "cpu_seconds"):
        columns[f"paired_{name}"] = [a[name] - b[name] for a, b in zip(rows, plain, strict=True) if name in a]
    return {name: summarise(values) for name, values in columns.items()}


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    if args.candidates < 2:
        raise runtime.OptionError(f"--candidates is {args.candidates}; it must be 2 or more, or there is no choice")
    systems({"steps": args.steps}, args.candidates, args.budget)  # refuses now what it would refuse in an hour
    truths = read_truths(args.clips, args.limit)
    pipeline = RememberingPipeline(args.engines, args.backend, args.threads, args.precision)
    rows, clips = compare(truths, pipeline, args)
    summaries = {name: summary(found, rows["plain"]) for name, found in rows.items()}
    cells = [[name, *(words(s[key], form) for key, form in FIGURES.items())] for name, s in summaries.items()]
    print(table([f"of {args.candidates}", *FIGURES], cells))
    facts = {"steps": args.steps, "candidates": args.candidates, "budgets": args.budget, "seeds": args.seeds}
    facts |= {"bundle": pipeline.bundle.manifest.name, "backend": pipeline.bundle.backend, "tolerance": TOLERANCE}
    facts["step_in"] = pipeline.bundle.file_for("step")
    finish(result("rerank", facts | {"summary": summaries, "clips": clips}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rerank", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("clips", type=Path, help="folder of videos with ID.flac, ID.wav or their own sound")
    add("--candidates", type=int, default=10, help="sounds to choose among (default: 10)")
    add("--budget", nargs="+", default=["4,1"], metavar="N,N", help="candidates kept on the way (default: 4,1)")
    add("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    add("--seeds", type=int, default=1, help="choices per clip (default: 1)")
    add("--limit", type=int, default=16, help="at most so many clips (default: 16)")
    add("--engines", type=Path, help="bundle (default: the shipped one)")
    add("--backend", default="auto", help="backend (default: auto)")
    add(
        "--precision", choices=(AUTO, *PRECISIONS), default=AUTO, help="of the step (default: what the backend prefers)"
    )
    add("--threads", type=int, default=0, help="CPU threads (default: the backend's choice)")
    add("--out", type=Path, help="also write the JSON to this file")
    return command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
