"""Measure the silence gate: does what a generation knows tell frames that sound from frames that are silent?

    python -m benchmarks.silence VIDEOS [VIDEOS ...]

VIDEOS holds ID.mp4 and ID.flac. A frame of 100 ms is silent if its true track lies below -60 dBFS, and sounds above
-50 dBFS; others do not count. The gate should find the silent ones.

  confidence, motion   what the gate "auto" knows of a frame (runtime.edit.activity)
  auto                 both, weighted by logistic regression
  level                the level of the generated sound, which a gate of -50 dB uses

`auc` is the area under the ROC curve: 0.5 by chance, 1 at best. `found` is the share of silent frames that are silenced
when at most 5 % of the sounding ones are.

Weights and threshold come from one half of the videos, by the SHA-256 of their names, and all other numbers from the
other half. The rule: the threshold silences 5 % of the sounding frames. The gate becomes the default if it finds half
of the silent frames of the other half and silences at most 5 % of the sounding ones. The last line is one JSON object.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.common.report import (
    add_bundle_options,
    add_output_options,
    command_parser,
    find_videos,
    finish,
    format_number,
    make_result,
    run_command,
    table,
)
from benchmarks.common.true_track import read_true_track
from runtime.deliver.silence import STILL, levels, long_runs
from train.metrics.onsets import RATE

Floats = NDArray[np.float64]
SILENT, SOUNDING = -60.0, -50.0  # dBFS of the true track
FALSE = 0.05  # share of sounding frames that may be silenced
ENOUGH = 0.5  # share of silent frames that a default gate finds
KINDS = ("confidence", "motion", "auto", "level")


@dataclass(frozen=True)
class Frames:
    """The frames of one sound: what is known of each, and the level of the true track."""

    clip: str
    confidence: Floats  # [F] mean log-probability
    motion: Floats  # [F] log10, at least that of STILL
    level: Floats  # [F] dBFS of the generated sound
    true_level: Floats  # [F] dBFS

    @property
    def silent(self) -> NDArray[np.bool_]:
        return self.true_level < SILENT

    @property
    def sounding(self) -> NDArray[np.bool_]:
        return self.true_level > SOUNDING


def measure(pipeline: runtime.Pipeline, video: Path, sampling: runtime.SamplingConfig) -> Frames:
    """Generate for a video, and gather its frames. Raises MediaError if it has no true sound."""
    track = read_true_track(video)
    (take,) = pipeline.generate(video, sampling)
    assert take.activity is not None
    confidence, motion = take.activity.astype(np.float64)
    found = (
        confidence,
        np.log10(np.maximum(motion, STILL)),
        levels(take.audio, take.sample_rate).astype(np.float64),
        levels(track.audio, RATE).astype(np.float64),
    )
    count = min(map(len, found))
    known = np.isfinite(confidence[:count]) & np.isfinite(motion[:count])
    return Frames(video.name, *(values[:count][known] for values in found))


def is_chosen(clip: str) -> bool:
    """Whether a video belongs to the half that chooses weights and threshold."""
    return hashlib.sha256(clip.encode()).digest()[0] % 2 == 0


# ---------------------------------------------------------------- ROC
def auc(silent: Floats, sounding: Floats) -> float:
    """Area under the ROC curve for scores that are low where it is silent; ties count half."""
    both = np.concatenate([silent, sounding])
    _, group, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    n, m = len(silent), len(sounding)
    return float(1 - (ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def threshold_for(sounding: Floats, false: float = FALSE) -> float:
    """The highest threshold below which at most this share of the sounding frames lies."""
    ordered = np.sort(sounding)
    return float(ordered[int(false * len(ordered))])


def fit(features: Floats, sounds: NDArray[np.bool_], steps: int = 50) -> Floats:
    """Weights [D] of a logistic regression of features [N, D], both answers equally heavy, with a small penalty."""
    scale = features.std(axis=0) + 1e-9
    x = np.column_stack([(features - features.mean(axis=0)) / scale, np.ones(len(features))])
    y, share = (
        sounds.astype(np.float64),
        np.where(sounds, 0.5 / max(sounds.mean(), 1e-9), 0.5 / max(1 - sounds.mean(), 1e-9)),
    )
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (share * (p - y)) / len(y) + 1e-3 * weights
        curvature = (x * (share * p * (1 - p))[:, None]).T @ x / len(y) + 1e-3 * np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, gradient)
    return np.asarray(weights[:-1] / scale)


# ---------------------------------------------------------------- both halves
def pooled(clips: Sequence[Frames], name: str, mask: str) -> Floats:
    """One value of all frames of a kind ("silent" or "sounding")."""
    return np.concatenate([getattr(c, name)[getattr(c, mask)] for c in clips]) if clips else np.zeros(0)


def choose(clips: Sequence[Frames]) -> dict[str, float]:
    """Weights and threshold of "auto", by the rule. Raises OptionError if a kind of frame is missing."""
    columns = {
        mask: np.column_stack([pooled(clips, n, mask) for n in ("confidence", "motion")])
        for mask in ("silent", "sounding")
    }
    if not all(map(len, columns.values())):
        raise runtime.OptionError("the choosing half needs silent and sounding frames; give more videos")
    x = np.concatenate([columns["silent"], columns["sounding"]])
    weights = fit(x, np.arange(len(x)) >= len(columns["silent"]))
    weights = np.round(weights / np.abs(weights).max(), 3)
    threshold = round(threshold_for(columns["sounding"] @ weights), 3)
    return {"confidence": float(weights[0]), "motion": float(weights[1]), "threshold": threshold}


def score(clip: Frames, kind: str, chosen: dict[str, float]) -> Floats:
    """The scores [F] of a kind of gate: low where it would silence."""
    if kind == "auto":
        return chosen["confidence"] * clip.confidence + chosen["motion"] * clip.motion
    return np.asarray(getattr(clip, kind))


def judge(clips: Sequence[Frames], choosing: Sequence[Frames], chosen: dict[str, float]) -> dict[str, dict[str, float]]:
    """AUC of each kind on `clips`, and what its gate silences there at the threshold of the choosing half."""
    found = {}
    for kind in KINDS:
        limit = threshold_for(np.concatenate([score(c, kind, chosen)[c.sounding] for c in choosing]))
        limit = chosen["threshold"] if kind == "auto" else limit
        scores = [score(c, kind, chosen) for c in clips]
        gates = [long_runs(s < limit) for s in scores]
        silent, sounding = (
            [(s[mask], g[mask]) for c, s, g in zip(clips, scores, gates, strict=True) for mask in [getattr(c, name)]]
            for name in ("silent", "sounding")
        )
        parts = {"silent": silent, "sounding": sounding}
        values = {name: np.concatenate([s for s, _ in p]) for name, p in parts.items()}
        gated = {name: float(np.concatenate([g for _, g in p]).mean()) for name, p in parts.items()}
        found[kind] = {"auc": auc(values["silent"], values["sounding"]), "threshold": limit}
        found[kind] |= {"found": gated["silent"], "false": gated["sounding"]}
    return found


def run(args: argparse.Namespace) -> None:
    sampling = runtime.SamplingConfig(steps=args.steps, seed=args.seed)
    videos = [video for folder in args.videos for video in find_videos(folder)]
    videos = sorted(videos, key=lambda v: hashlib.sha256(v.name.encode()).digest()[1:])[: args.limit]
    clips: list[Frames] = []
    with runtime.load(args.engines, args.backend, precision=args.precision) as pipeline:
        for video in videos:
            try:
                clips.append(measure(pipeline, video, sampling))
            except runtime.MediaError as error:
                print(f"skipped {video.name}: {error}", file=sys.stderr)
                continue
            print(f"{len(clips)} {video.name}", flush=True)
        bundle = pipeline.bundle.manifest.name
    choosing, reporting = ([c for c in clips if is_chosen(c.clip) == half] for half in (True, False))
    chosen = choose(choosing)
    counts = {mask: len(pooled(reporting, "level", mask)) for mask in ("silent", "sounding")}
    if not all(counts.values()):
        raise runtime.OptionError("the reporting half needs silent and sounding frames; give more videos")
    rows = judge(reporting, choosing, chosen)
    default = "auto" if rows["auto"]["found"] >= ENOUGH and rows["auto"]["false"] <= FALSE else "off"
    cells = [
        [kind, *(format_number(row[k], ".3f") for k in ("auc", "threshold", "found", "false"))]
        for kind, row in rows.items()
    ]
    print(table(["gate", "AUC", "threshold", "found", "false"], cells))
    print(f"CONFIDENCE, MOTION = {chosen['confidence']}, {chosen['motion']}; THRESHOLD = {chosen['threshold']}")
    print(f"by the rule, the default is {default}")
    values: dict[str, Any] = {"bundle": bundle, "steps": args.steps, "seed": args.seed, "chosen": chosen}
    values |= {
        "clips": {"choose": len(choosing), "report": len(reporting)},
        "frames": counts,
        "gates": rows,
        "default": default,
    }
    finish(make_result("silence", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.silence", __doc__)
    add = parser.add_argument
    add("videos", type=Path, nargs="+", help="folders of videos with their own sound, or with ID.flac or ID.wav")
    add_bundle_options(parser)
    add("--steps", type=int, default=8, help="unmasking steps (default: 8)")
    add("--seed", type=int, default=0, help="seed (default: 0)")
    add("--limit", type=int, help="use at most so many videos, chosen by the SHA-256 of their names")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
