"""`python -m benchmarks.sync CLIPS`: are the sounds in time? Onset F1 within 100 ms, minus what chance scores.

For every video with a sound track in CLIPS the bundle makes a sound per seed; its onsets are compared with the track's.
The baseline takes the peaks of plain frame difference for onsets. Means over clips with a bootstrap 95 % interval
(clips resampled); paired: generated minus baseline on the same clips. Several --engines are compared in pairs: the
second may fall behind the first by 0.01 of lift. --compare-candidates scores all candidates of a clip, not only the
one that SCAV chose. The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.common.caching_pipeline import RememberingPipeline
from benchmarks.common.pairing import (
    Rows,
    add_options,
    candidate_lines,
    candidates,
    check_options,
    compared,
    differences,
    sampling_options,
)
from benchmarks.common.report import command, find_clips, finish, plots_folder, result
from runtime.audio import resample
from runtime.video import Video
from train.evaluate.bootstrap import summarise, words
from train.evaluate.frame_difference import frame_difference
from train.extras import requires_extra
from train.metrics.onsets import FRAME_RATE, RATE, lift_of_onsets, onset_scores, onset_strength, pick_onsets

with requires_extra("bench", __name__):
    from train.data.clip_files import clip_events, clip_sound

if TYPE_CHECKING:
    from train.evaluate.plots import Strip

LARGEST_DROP = 0.01  # of lift: what a smaller or faster bundle may lose and still be kept


@dataclass(frozen=True)
class Truth:
    """A clip, its true sound [L] at 16 kHz, and what the baseline scores on it."""

    path: Path
    audio: NDArray[np.float32]
    baseline_lift: float

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Raises MediaError where there is no sound to compare with."""
        with Video(path) as video:
            audio = clip_sound(path, float(video.start), RATE)
        strength = onset_strength(audio)
        seconds = len(strength) / FRAME_RATE
        moved = pick_onsets(frame_difference(path, seconds))
        return cls(path, audio, lift_of_onsets(pick_onsets(strength), moved, seconds)["lift"])


def measure(
    truth: Truth, pipeline: runtime.Pipeline, options: dict[str, Any], seeds: int
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """One clip through one bundle: the mean over seeds of SCAV's choice; and the first seed's sound at 16 kHz.

    `takes`, where all candidates came back: their lifts by seed, SCAV's choice first.
    """
    sounds = []
    for seed in range(seeds):
        takes = pipeline.generate(truth.path, runtime.SamplingConfig(seed=seed, **options))
        sounds.append([resample(take.audio, take.sample_rate, RATE) for take in takes])
    results = [[onset_scores(truth.audio, sound) for sound in of_seed] for of_seed in sounds]
    row: dict[str, Any] = {"clip": truth.path.name, "onsets": len(pick_onsets(onset_strength(truth.audio)))}
    row["baseline_lift"] = truth.baseline_lift
    row |= {key: float(np.mean([r[0][key] for r in results])) for key in ("f1", "chance", "lift", "n")}
    if options["takes"] > 1:
        row["takes"] = [[score["lift"] for score in of_seed] for of_seed in results]
    return row, sounds[0][0]


def plot(truth: Truth, title: str, made: NDArray[np.float32], file: Path) -> "Strip":
    """Write the clip's onset strip; returned for the contact sheet."""
    from train.evaluate.plots import Strip, onset_strip

    movement = frame_difference(truth.path, len(truth.audio) / RATE)
    events = clip_events(truth.path)[:, 0]
    strip = Strip(f"{truth.path.stem}: {title}", movement, events, truth.audio, made)
    onset_strip(file, strip)
    return strip


def of_bundle(rows: Rows) -> dict[str, Any]:
    generated = np.array([r["lift"] for r in rows])
    baseline = np.array([r["baseline_lift"] for r in rows])
    named = {"lift": generated, "baseline_lift": baseline, "paired": generated - baseline}
    found: dict[str, Any] = {name: summarise(v) for name, v in named.items()}
    return found | {"candidates": candidates([r["takes"] for r in rows if "takes" in r])}


def judged(difference: dict[str, Any] | None) -> dict[str, Any] | None:
    """How much lift the second bundle loses against the first, and whether that is at most LARGEST_DROP.

    `certain`: the whole interval is on the side of the mean.
    """
    if difference is None:
        return None
    kept = difference["mean"] <= LARGEST_DROP
    certain = all((bound <= LARGEST_DROP) == kept for bound in difference["interval"])
    return {"lift": difference, "largest_drop": LARGEST_DROP, "kept": kept, "certain": certain}


def summary(rows: dict[str, Rows]) -> dict[str, Any]:
    """{"bundles": {name: figures}, "pairs": {"a - b": difference of lift by clip, and the verdict on b}}."""
    pairs = {name: judged(difference) for name, difference in differences(rows, "lift").items()}
    return {"bundles": {name: of_bundle(r) for name, r in rows.items()}, "pairs": pairs}


def print_summary(found: dict[str, Any]) -> None:
    for name, figures in found["bundles"].items():
        print(f"\n{name}")
        for key in ("lift", "baseline_lift", "paired"):
            print(f"  {key:22} {words(figures[key])}")
        for label, told in candidate_lines(figures["candidates"]) if figures["candidates"] else ():
            print(f"  {label:22} {told}")
    for name, pair in found["pairs"].items():
        verdict = f"the second {'loses at most' if pair['kept'] else 'loses more than'} {pair['largest_drop']:g}"
        print(f"paired lift, {name}: {words(pair['lift'])}, {verdict}" + ("" if pair["certain"] else ", not certain"))


def line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{k} {row[k]:+.3f}" for k in ("f1", "chance", "lift", "baseline_lift"))
    return f"{row['clip']:44} onsets {row['onsets']:3d}  made {row['n']:5.1f}  {scores}"


def run_clips(args: argparse.Namespace, clips: list[Path], pipelines: dict[str, runtime.Pipeline]) -> dict[str, Rows]:
    """Rows of every bundle, clip by clip; pictures where they are wanted."""
    rows: dict[str, Rows] = {name: [] for name in pipelines}
    strips: list[Strip] = []
    for clip in clips:
        try:
            truth = Truth.read(clip)
            found = {name: measure(truth, p, sampling_options(args), args.seeds) for name, p in pipelines.items()}
        except runtime.MediaError as error:
            print(f"skipped {clip.name}: {error}", file=sys.stderr)
            continue
        for name, (row, made) in found.items():
            rows[name].append(row)
            told = [name] if len(pipelines) > 1 else []
            print("  ".join([line(row), *told]), flush=True)
            if args.plots:
                title = ", ".join([f"F1 {row['f1']:.2f}", f"chance {row['chance']:.2f}", *told])
                strips.append(plot(truth, title, made, args.plots / f"{'-'.join([clip.stem, *told])}.png"))
    if strips:
        from train.evaluate.plots import contact_sheet

        contact_sheet(args.plots / "contact-sheet.png", strips)
    return rows


def run(args: argparse.Namespace) -> None:
    if args.seeds < 1:
        raise runtime.OptionError(f"--seeds is {args.seeds}; it must be 1 or more")
    check_options(args)
    plots_folder(args.plots)
    clips = find_clips(args.clips)
    pipelines = {n: RememberingPipeline(folder, args.backend, 0, p) for n, (folder, p) in compared(args).items()}
    rows = run_clips(args, clips, pipelines)
    measured = len(next(iter(rows.values())))
    if not measured:
        raise runtime.OptionError(f"none of the {len(clips)} videos of {args.clips} can be used")
    values: dict[str, Any] = {"options": sampling_options(args), "seeds": args.seeds, "skipped": len(clips) - measured}
    values["steps_in"] = {name: p.bundle.file_for("step") for name, p in pipelines.items()}
    values["summary"] = summary(rows)
    print_summary(values["summary"])
    finish(result("sync", values | {"clips": rows}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sync", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos with their own sound")
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=4, help="sounds per clip (default: 4)")
    parser.add_argument("--steps", type=int, default=32, help="unmasking steps (default: 32)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--plots", type=Path, help="folder for a picture per clip and contact-sheet.png")
    return command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
