"""`python -m benchmarks.sync CLIPS`: are the sounds in time? Onset F1 within 100 ms, minus what chance scores.

For every video with a sound track in CLIPS the bundle makes a sound per seed; its onsets are compared with the track's.
The baseline takes the peaks of plain frame difference for onsets. Means over clips with a bootstrap 95 % interval
(clips resampled); paired: generated minus baseline on the same clips. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.machine import facts
from runtime.audio import resample
from runtime.video import FrameGrid, Video
from train.metrics.onsets import FRAME_RATE, RATE, lift, lift_of_onsets, onset_strength, pick_onsets
from train.prepare import clip_sound

GRID = FrameGrid(25, 112, 112)  # of the frame difference
BOOTSTRAPS = 10_000


def frame_difference(path: Path, seconds: float) -> NDArray[np.float64]:
    """Mean absolute difference of successive frames at 25 fps, as an envelope at 100 Hz."""
    with Video(path) as video:
        grey = [frame.mean(axis=2) for _, frame in video.sample([GRID])]
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(grey)] or [0.0])
    times = (np.arange(len(change)) + 1) / GRID.fps
    return np.interp(np.arange(round(seconds * FRAME_RATE)) / FRAME_RATE, times, change)


def interval(values: NDArray[np.float64]) -> list[float]:
    """Bootstrap 95 % interval of the mean over clips."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (BOOTSTRAPS, len(values)))].mean(axis=1)
    return [float(np.quantile(means, q)) for q in (0.025, 0.975)]


def measure(path: Path, pipeline: runtime.Pipeline, options: dict[str, Any], seeds: int) -> dict[str, Any]:
    """One clip: the mean over seeds, and the baseline."""
    with Video(path) as video:
        truth = clip_sound(path, float(video.start), RATE)
    results = []
    for seed in range(seeds):
        take = pipeline.generate(path, runtime.SamplingConfig(seed=seed, **options))[0]
        results.append(lift(truth, resample(take.audio, take.sample_rate, RATE)))
    reference = onset_strength(truth)
    seconds = len(reference) / FRAME_RATE
    baseline = lift_of_onsets(pick_onsets(reference), pick_onsets(frame_difference(path, seconds)), seconds)
    mean = {key: float(np.mean([r[key] for r in results])) for key in ("f1", "chance", "lift", "n")}
    return {"clip": path.name, "onsets": len(pick_onsets(reference)), "baseline_lift": baseline["lift"]} | mean


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    generated = np.array([r["lift"] for r in rows])
    baseline = np.array([r["baseline_lift"] for r in rows])
    named = {"lift": generated, "baseline_lift": baseline, "paired": generated - baseline}
    return {name: {"mean": float(v.mean()), "interval": interval(v)} for name, v in named.items()}


def line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{k} {row[k]:+.3f}" for k in ("f1", "chance", "lift", "baseline_lift"))
    return f"{row['clip']:44} onsets {row['onsets']:3d}  made {row['n']:5.1f}  {scores}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos with their own sound")
    parser.add_argument("--engines", type=Path, help="bundle (default: the shipped one)")
    parser.add_argument("--backend", default="auto", help="backend (default: auto)")
    parser.add_argument("--seeds", type=int, default=4, help="sounds per clip (default: 4)")
    parser.add_argument("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance (default: 3)")
    parser.add_argument("--candidates", type=int, default=1, help="SCAV chooses the best of so many (default: 1)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    clips = sorted(p for p in args.clips.glob("*") if p.suffix.lower() in (".mp4", ".mkv", ".mov", ".webm", ".avi"))
    if not clips or args.seeds < 1:
        print(f"error: no videos in {args.clips}, or --seeds below 1", file=sys.stderr)
        return 1
    options = {"steps": args.steps, "guidance": args.guidance, "candidates": args.candidates}
    rows = []
    try:
        pipeline = runtime.load(args.engines, args.backend)
        for clip in clips:
            rows.append(row := measure(clip, pipeline, options, args.seeds))
            print(line(row), flush=True)
    except runtime.MaskVATError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = {"benchmark": "sync", "date": date.today().isoformat(), "machine": facts(), "clips": rows}
    result |= {"bundle": pipeline.bundle.manifest.name, "options": options, "seeds": args.seeds}
    result["summary"] = summary(rows)
    for name, value in result["summary"].items():
        print(f"{name:14} {value['mean']:+.3f}  [{value['interval'][0]:+.3f}, {value['interval'][1]:+.3f}]")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
