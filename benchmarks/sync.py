"""`python -m benchmarks.sync CLIPS`: are the sounds in time? Onset F1 within 100 ms, minus what chance scores.

For every video with a sound track in CLIPS the bundle makes a sound per seed; its onsets are compared with the track's.
The baseline takes the peaks of plain frame difference for onsets. Means over clips with a bootstrap 95 % interval
(clips resampled); paired: generated minus baseline on the same clips. The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.report import command, find_clips, finish, plots_folder, result
from runtime.audio import resample
from runtime.video import Video
from train.extras import extra
from train.metrics.onsets import FRAME_RATE, RATE, lift_of_onsets, onset_scores, onset_strength, pick_onsets
from train.movement import frame_difference
from train.statistics import summarise, words

with extra("bench", __name__):
    from train.prepare import clip_events, clip_sound

if TYPE_CHECKING:
    from train.plots import Strip


def measure(
    path: Path, pipeline: runtime.Pipeline, options: dict[str, Any], seeds: int
) -> tuple[dict[str, Any], NDArray[np.float32], NDArray[np.float32]]:
    """One clip: the mean over seeds and the baseline; the true sound, and the first seed's, at 16 kHz."""
    with Video(path) as video:
        truth = clip_sound(path, float(video.start), RATE)
    sounds = []
    for seed in range(seeds):
        take = pipeline.generate(path, runtime.SamplingConfig(seed=seed, **options))[0]
        sounds.append(resample(take.audio, take.sample_rate, RATE))
    results = [onset_scores(truth, sound) for sound in sounds]
    reference = onset_strength(truth)
    seconds = len(reference) / FRAME_RATE
    baseline = lift_of_onsets(pick_onsets(reference), pick_onsets(frame_difference(path, seconds)), seconds)
    mean = {key: float(np.mean([r[key] for r in results])) for key in ("f1", "chance", "lift", "n")}
    row = {"clip": path.name, "onsets": len(pick_onsets(reference)), "baseline_lift": baseline["lift"]} | mean
    return row, truth, sounds[0]


def plot(path: Path, title: str, truth: NDArray[np.float32], made: NDArray[np.float32], folder: Path) -> "Strip":
    """Write ID.png, the clip's onset strip; returned for the contact sheet."""
    from train.plots import Strip, onset_strip

    movement = frame_difference(path, len(truth) / RATE)
    strip = Strip(f"{path.stem}: {title}", movement, clip_events(path)[:, 0], truth, made)
    onset_strip(folder / f"{path.stem}.png", strip)
    return strip


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    generated = np.array([r["lift"] for r in rows])
    baseline = np.array([r["baseline_lift"] for r in rows])
    named = {"lift": generated, "baseline_lift": baseline, "paired": generated - baseline}
    return {name: summarise(v) for name, v in named.items()}


def line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{k} {row[k]:+.3f}" for k in ("f1", "chance", "lift", "baseline_lift"))
    return f"{row['clip']:44} onsets {row['onsets']:3d}  made {row['n']:5.1f}  {scores}"


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    plots_folder(args.plots)
    clips = find_clips(args.clips)
    options = {"steps": args.steps, "guidance": args.guidance, "candidates": args.candidates}
    rows, strips = [], []
    pipeline = runtime.load(args.engines, args.backend)
    for clip in clips:
        try:
            row, truth, made = measure(clip, pipeline, options, args.seeds)
        except runtime.MediaError as error:
            print(f"skipped {clip.name}: {error}", file=sys.stderr)
            continue
        rows.append(row)
        print(line(row), flush=True)
        if args.plots:
            strips.append(plot(clip, f"F1 {row['f1']:.2f}, chance {row['chance']:.2f}", truth, made, args.plots))
    if not rows:
        raise runtime.OptionError(f"none of the {len(clips)} videos of {args.clips} can be used")
    if args.plots:
        from train.plots import contact_sheet

        contact_sheet(args.plots / "contact-sheet.png", strips)
    values = {"clips": rows, "bundle": pipeline.bundle.manifest.name, "options": options, "seeds": args.seeds}
    values["skipped"] = len(clips) - len(rows)
    values["summary"] = summary(rows)
    for name, value in values["summary"].items():
        print(f"{name:14} {words(value)}")
    finish(result("sync", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos with their own sound")
    parser.add_argument("--engines", type=Path, help="bundle (default: the shipped one)")
    parser.add_argument("--backend", default="auto", help="backend (default: auto)")
    parser.add_argument("--seeds", type=int, default=4, help="sounds per clip (default: 4)")
    parser.add_argument("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance (default: 3)")
    parser.add_argument("--candidates", type=int, default=1, help="SCAV chooses the best of so many (default: 1)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--plots", type=Path, help="folder for a picture per clip and contact-sheet.png")
    return command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
