"""`python -m benchmarks.motion_probe VIDEOS --simulated TRAIN --validation VAL --system SYSTEM`

Does motion tell when real videos sound, better than the sync encoder's features? It must, before MaskVAT is trained on
it. Two probes learn from simulated videos (with ID.json) in which frames something strikes: a linear one on the
features of the system's sync encoder, and a small network on the ranks of functions of flow (see flow.py). On real
videos, the peaks of each probability are taken as onsets and scored like sounds in benchmarks.sync: `lift` is onset F1
within 100 ms minus chance, `above_wrong` takes off what the same onsets score against the other videos' sounds. Only
one number of the rule that finds peaks is free: the power that the probability is raised to. It is chosen on the
simulated videos of --validation, for each probe, before a real video is scored. Nothing learns from real videos.

The gate: the motion probe has a lift of GATE or more on all videos, and more than the encoder's on those of impacts.
Values are means over clips with a bootstrap 95 % interval, lifts of a clip means over seeds. The last line is one JSON
object.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.halves import add_folders_option, find_half
from benchmarks.common.impacts import SHARE, sharp_share
from benchmarks.common.report import command_parser, find_videos, finish, make_result, run_command, table
from benchmarks.common.wrong_pairings import wrong_lifts
from runtime.errors import OptionError
from train.evaluate.bootstrap import format_summary, summarise
from train.extras import requires_extra
from train.metrics.onsets import FRAME_RATE, Floats, lift_of_onsets, onset_strength, pick_onsets

with requires_extra("bench", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from benchmarks.common.true_track import TrueTrack, read_true_track
    from benchmarks.motion_probe.flow import POOLED, MotionHead, pooled_motion, ranks
    from runtime.video import FrameGrid, Video
    from train import checkpoint
    from train.data.video_files import video_events
    from train.errors import CheckpointError
    from train.models.loading import WeightsError
    from train.models.s3d import S3D

GATE = 0.065
POWERS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the probability, before its peaks are found
BATCH, LEARNING_RATE, DECAY, DROPOUT = 8, 3e-3, 1e-2, 0.2
POSITIVE_WEIGHT = 3.0  # of frames with a contact, as in the sync encoder's training
Features = dict[str, NDArray[np.float32]]  # probe -> [Y, D]


class MotionProbe(nn.Module):
    """Ranks [B, Y, M] -> onset logits [B, Y, 1]. In training whole functions are left out of a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout1d(DROPOUT)
        self.head = MotionHead()
        self.onset = nn.Linear(self.head.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.onset(self.head(self.drop(x.transpose(1, 2)).transpose(1, 2)))


# ---------------------------------------------------------------- features
@torch.no_grad()
def read_features(path: Path, encoder: S3D, cache: Path | None) -> Features:
    """Features of the sync encoder and ranks of motion of a video, frame by frame; kept in `cache` as NAME.npy."""
    kept = cache / f"{path.name}.npy" if cache else None
    if kept and kept.is_file():
        both = np.load(kept)
    else:
        with Video(path) as video:
            grid = FrameGrid(encoder.fps, encoder.resize, encoder.size)
            frames = torch.from_numpy(np.stack([frame for _, frame in video.sample([grid])]))[None]
        both = torch.cat([encoder(frames), ranks(pooled_motion(frames))], dim=-1)[0].numpy().astype(np.float16)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, both)
    whole = np.asarray(both, np.float32)
    return {"encoder": whole[:, :-POOLED], "motion": whole[:, -POOLED:]}


def contact_targets(path: Path, count: int) -> NDArray[np.float32]:
    """Targets [count] of a simulated video: 1 within half a frame of a contact, falling to 0 at one and a half.

    Raises OptionError if ID.json is damaged.
    """
    try:
        events = video_events(path)
    except ValueError as error:
        raise OptionError(str(error)) from error
    contacts = events[events[:, 1] == 0, 0] * S3D.fps
    away = np.abs(contacts[:, None] - (np.arange(count) + 0.5))
    return np.clip(1.5 - away.min(axis=0, initial=1.5), 0, 1).astype(np.float32)


# ---------------------------------------------------------------- probes
def train_probe(probe: nn.Module, clips: Sequence[tuple[Any, Any]], steps: int, seed: int) -> nn.Module:
    """Train a probe on (features [Y, D], targets [Y]) of clips; it is returned ready for use."""
    rng, longest = np.random.default_rng(seed), max(len(y) for _, y in clips)
    x = torch.stack([F.pad(torch.from_numpy(x), (0, 0, 0, longest - len(x))) for x, _ in clips])
    y = torch.stack([F.pad(torch.from_numpy(y), (0, longest - len(y)), value=-1.0) for _, y in clips])
    optimiser = torch.optim.AdamW(probe.parameters(), LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    for _ in range(steps):
        chosen = torch.from_numpy(rng.choice(len(x), min(BATCH, len(x)), replace=False))
        logits, target = probe(x[chosen])[..., 0], y[chosen]
        weight = torch.tensor(POSITIVE_WEIGHT)
        loss = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), pos_weight=weight, reduction="none")
        optimiser.zero_grad()
        (loss * (target >= 0)).mean().backward()
        optimiser.step()
        schedule.step()
    return probe.eval()


@torch.no_grad()
def probability(probe: nn.Module, features: NDArray[np.float32], seconds: float) -> Floats:
    """Probability of an onset at 100 Hz, for a sound of `seconds`; frame k is the picture at (k + 1/2) / 25 s."""
    values = probe(torch.from_numpy(features)[None])[0, :, 0].sigmoid().numpy()
    times = (np.arange(len(values)) + 0.5) / S3D.fps
    return np.asarray(np.interp(np.arange(round(seconds * FRAME_RATE)) / FRAME_RATE, times, values))


@dataclass(frozen=True)
class Clip:
    """A video with its features and its true onsets."""

    track: TrueTrack
    strength: Floats  # onset strength of the true sound at 100 Hz
    features: Features

    def curve(self, name: str, probe: nn.Module) -> Floats:
        return probability(probe, self.features[name], len(self.strength) / FRAME_RATE)

    def lift(self, curve: Floats) -> float:
        return lift_of_onsets(self.track.onsets, pick_onsets(curve), len(curve) / FRAME_RATE)["lift"]


def choose_power(clips: Sequence[Clip], name: str, probe: nn.Module) -> tuple[float, float]:
    """The power with the highest mean lift on simulated clips that have onsets, and that lift."""
    curves = [(clip, clip.curve(name, probe)) for clip in clips if len(clip.track.onsets)]
    lifts = {power: float(np.mean([clip.lift(curve**power) for clip, curve in curves])) for power in POWERS}
    best = max(lifts, key=lambda power: lifts[power])
    return best, lifts[best]


# ---------------------------------------------------------------- the measurement
def read_clips(paths: Sequence[Path], features: Callable[[Path], Features]) -> list[Clip]:
    """Clips of videos with sound. Raises MediaError for one without."""
    tracks = [read_true_track(path) for path in paths]
    return [Clip(track, onset_strength(track.audio), features(track.path)) for track in tracks]


def measure(args: argparse.Namespace, features: Callable[[Path], Features], width: int) -> dict[str, Any]:
    """Train the probes, choose their powers, score them on the real videos."""
    paths = find_half(args.videos, args.half)
    if len(paths) < 2:
        raise OptionError("one video cannot be paired with another's sound; give two or more")
    examples = [(features(p), p) for folder in args.simulated for p in find_videos(folder)]
    targets = [contact_targets(path, len(found["motion"])) for found, path in examples]
    if not any(target.any() for target in targets):
        raise OptionError("no video of --simulated has a contact in its ID.json; give those of train.synthetic.scenes")
    held_out = read_clips([p for folder in args.validation for p in find_videos(folder)], features)
    if not any(len(clip.track.onsets) for clip in held_out):
        raise OptionError("no video of --validation has an onset; give others")
    real = read_clips(paths, features)
    curves: dict[str, list[list[Floats]]] = {}
    chosen: dict[str, list[dict[str, float]]] = {}
    for name, make in (("encoder", lambda: nn.Linear(width, 1)), ("motion", MotionProbe)):
        data = [(found[name], target) for (found, _), target in zip(examples, targets, strict=True)]
        for seed in range(args.seeds):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                probe = train_probe(make(), data, args.steps, seed)
            power, lift = choose_power(held_out, name, probe)
            chosen.setdefault(name, []).append({"power": power, "validation_lift": lift})
            curves.setdefault(name, []).append([clip.curve(name, probe) ** power for clip in real])
            print(f"{name} seed {seed}: power {power:g}, lift on simulated videos {lift:.3f}", flush=True)
    return {"chosen": chosen, "clips": score(real, curves), "simulated": len(examples), "validation": len(held_out)}


def score(real: Sequence[Clip], curves: dict[str, list[list[Floats]]]) -> list[dict[str, Any]]:
    """One row for each real video. Curves: probe -> seed -> video -> probability to the chosen power."""
    rows: list[dict[str, Any]] = []
    for clip in real:
        sharp = sharp_share(clip.track.audio, clip.track.onsets)
        rows.append({"clip": clip.track.path.name, "onsets": len(clip.track.onsets), "impact": sharp >= SHARE})
    true = [clip.strength for clip in real]
    for name, seeds in curves.items():
        wrong = wrong_lifts(true, [list(own) for own in zip(*seeds, strict=True)])
        for k, (clip, row) in enumerate(zip(real, rows, strict=True)):
            row[name] = float(np.mean([clip.lift(own[k]) for own in seeds]))
            row[f"{name}_wrong"] = wrong[k]
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """{"all", "impacts", "others": {probe: lift, probe_above_wrong, paired: motion - encoder}}, and the gate."""
    found: dict[str, Any] = {}
    parts = {"all": rows, "impacts": [r for r in rows if r["impact"]], "others": [r for r in rows if not r["impact"]]}
    for part, own in parts.items():
        lifts = {name: np.array([r[name] for r in own]) for name in ("encoder", "motion")}
        above = {f"{n}_above_wrong": x - np.array([r[f"{n}_wrong"] for r in own]) for n, x in lifts.items()}
        columns = lifts | above | {"paired": lifts["motion"] - lifts["encoder"]}
        found[part] = {name: summarise(values) for name, values in columns.items()}
    paired = found["impacts"]["paired"]
    more = paired is not None and paired["mean"] > 0
    found["gate"] = {
        "lift": found["all"]["motion"]["mean"] >= GATE,
        "impacts": more,
        "impacts_certain": more and paired["interval"][0] > 0,
    }
    return found


def run(args: argparse.Namespace) -> None:
    if min(args.steps, args.seeds) < 1:
        raise OptionError("--steps and --seeds must be 1 or more")
    torch.set_num_threads(1)
    encoder = checkpoint.load(args.system, "sync_encoder").eval()
    if not isinstance(encoder, S3D) or encoder.stride != 1:
        raise OptionError(f"the sync encoder of {args.system} has no feature for every frame; give another system")
    values = measure(args, lambda path: read_features(path, encoder, args.cache), encoder.dim)
    values["summary"] = summary(values["clips"])
    parts = ("all", "impacts", "others")
    lines = [[key, *(format_summary(values["summary"][p][key]) for p in parts)] for key in values["summary"]["all"]]
    print("\n" + table(["lift", *parts], lines))
    print(f"gate: lift {GATE} or more, and more than the encoder on impacts: {values['summary']['gate']}")
    options = {name: getattr(args, name) for name in ("half", "steps", "seeds")}
    finish(make_result("motion_probe", options | values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.motion_probe", __doc__)
    add_folders_option(parser)
    add = parser.add_argument
    add("--simulated", type=Path, action="append", required=True, help="folder of simulated videos to learn from")
    add("--validation", type=Path, action="append", required=True, help="folder of simulated videos to choose with")
    add("--system", type=Path, required=True, help="system folder with the sync encoder to compare with")
    add("--steps", type=int, default=400, help="training steps of a probe (default: 400)")
    add("--seeds", type=int, default=2, help="probes of each kind (default: 2)")
    add("--cache", type=Path, help="folder that keeps the features of the videos, as NAME.npy")
    add("--out", type=Path, help="also write the JSON to this file")
    return run_command(run, parser.parse_args(argv), WeightsError, CheckpointError)


if __name__ == "__main__":
    sys.exit(main())
