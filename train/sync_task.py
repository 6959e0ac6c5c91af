"""Training the sync encoder: S3D learns when things touch, from made-up clips whose contact times are exact.

Data: a folder with ID.frames.npy (uint8 [frames, size, size, 3] at 25 fps) and ID.json ({"events": [{"time", ...}]}). A
linear head reads, from each feature, one onset logit and one log-strength for each frame that the feature stands for;
the head is left out of the saved component. SparseSync learns from offsets between sound and picture instead; the
exact times of our clips make the plainer task possible.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train import checkpoint
from train.options import RecipeError, Statement, options_from
from train.s3d import BUNDLED, S3D, S3DConfig

Floats = NDArray[np.float32]
TOLERANCE = 1.0  # frames by which a detection may miss its contact
MOMENTUM = 0.03  # of BatchNorm while training: the official 1e-3 needs more steps than a short run has


@dataclass(frozen=True)
class SyncOptions(Statement):
    frames: str = "frames/train"  # folder with ID.frames.npy and ID.json
    validation_frames: str = "frames/val"
    system: str = ""  # folder the encoder is saved in; default: the run's own
    batch: int = 6
    crop: int = 64  # frames
    positive_weight: float = 3.0  # of bins with a contact in the cross-entropy
    strength_weight: float = 0.2
    validation_clips: int = 24
    bfloat16: bool = True  # autocast of the convolutions
    threads: int = 2


# ---------------------------------------------------------------- data
@dataclass(frozen=True)
class Clip:
    path: Path  # of the frames
    times: Floats  # contacts, seconds, sorted
    strengths: Floats  # (0, 1]


def read_clips(folder: Path, size: int, limit: int | None = None) -> list[Clip]:
    """The clips of a folder, by name. Raises RecipeError when there are none, or when frames have another size."""
    clips = []
    for path in sorted(folder.glob("*.frames.npy"))[:limit]:
        label = path.with_name(path.name.removesuffix(".frames.npy") + ".json")
        if not label.exists():
            raise RecipeError(f"{path} has no {label.name} beside it; make the clips and their frames again")
        events = sorted(json.loads(label.read_text(encoding="utf-8"))["events"], key=lambda event: event["time"])
        times = np.array([event["time"] for event in events], np.float32)
        strengths = np.array([event.get("strength", 1.0) for event in events], np.float32)
        clips.append(Clip(path, times, strengths))
    if not clips:
        raise RecipeError(f"no *.frames.npy in {folder}; run train.clips and train.prepare, or set task.frames")
    shape = np.load(clips[0].path, mmap_mode="r").shape
    if len(shape) != 4 or shape[1:] != (size, size, 3):
        raise RecipeError(f"{clips[0].path} holds {list(shape)}, expected [frames, {size}, {size}, 3]")
    return clips


def targets(times: Floats, strengths: Floats, first: int, n: int) -> tuple[Floats, Floats]:
    """Onset target and log-strength [n] of frames first to first + n - 1.

    The target is 1 within half a frame of a contact and falls to 0 at one frame and a half; the strength is that of the
    strongest contact there, 0 where there is none.
    """
    distance = np.abs(times[:, None] * S3D.fps - first - np.arange(n))  # (events, n)
    near = np.clip(1.5 - distance, 0, 1).astype(np.float32)
    log_strength = np.log(np.clip(strengths, 0.02, 1))[:, None]
    strongest = np.where(near > 0, log_strength, -np.inf).max(axis=0, initial=-np.inf)
    return near.max(axis=0, initial=0), np.where(np.isfinite(strongest), strongest, 0).astype(np.float32)


def distort(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift, zoom, flip, hold frames, cover a patch: [n, s, s, 3] -> the same shape. Contact times stay true."""
    n, size = frames.shape[:2]
    zoom, shift = rng.uniform(0.8, 1.1), rng.uniform(-0.08, 0.08, 2) * size
    centred = (np.arange(size) - (size - 1) / 2) * zoom + (size - 1) / 2
    rows, columns = (np.clip(np.rint(centred + s), 0, size - 1).astype(np.intp) for s in shift)
    if rng.random() < 0.5:
        columns = columns[::-1]
    held = np.arange(n)
    if rng.random() < 0.3:  # dropped frames: the one before is shown
        held = np.maximum.accumulate(np.where(rng.random(n) < rng.uniform(0, 0.4), 0, held))
    out = frames.take(held, axis=0).take(rows, axis=1).take(columns, axis=2)  # several times faster than one gather
    if rng.random() < 0.3:
        height, width = rng.integers(size // 16, size // 4, 2)
        y, x = rng.integers(0, size - height), rng.integers(0, size - width)
        out[:, y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return out


def recolour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Contrast, brightness, colour balance and grain of one normalised crop [3, n, s, s], in place."""
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    shift = rng.uniform(-0.5, 0.5) + rng.uniform(-0.2, 0.2, 3)
    x.mul_(_per_channel(gain)).add_(_per_channel(shift))
    if rng.random() < 0.3:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        x.add_(torch.randn(x.shape[1:], generator=generator), alpha=rng.uniform(0, 0.08))
    return x


def _per_channel(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None, None]


# ---------------------------------------------------------------- detections
def peaks(scores: Floats) -> NDArray[np.intp]:
    """Frames whose score is above both neighbours (of equal ones the first)."""
    padded = np.pad(scores, 1, constant_values=-np.inf)
    return np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))


def match(scores: Floats, times: Floats) -> tuple[Floats, NDArray[np.bool_], int]:
    """Peaks of one clip, best first: scores, whether each hits a contact no better peak has hit; number of contacts.

    `times` in seconds; contacts nearer than one frame to the one before are one.
    """
    contacts = times * S3D.fps
    contacts = contacts[np.diff(contacts, prepend=-np.inf) >= 1] if len(contacts) else contacts
    found = peaks(scores)
    found = found[np.argsort(-scores[found], kind="stable")]
    free, hits = np.ones(len(contacts), bool), np.zeros(len(found), bool)
    for i, frame in enumerate(found):
        distance = np.where(free, np.abs(contacts - frame), np.inf)
        if len(contacts) and distance.min() <= TOLERANCE:
            free[distance.argmin()] = False
            hits[i] = True
    return scores[found], hits, len(contacts)


def score(detections: list[tuple[Floats, NDArray[np.bool_], int]]) -> dict[str, float]:
    """Average precision over all clips, and the best F1 over thresholds with the precision and recall there."""
    order = np.argsort(-np.concatenate([d[0] for d in detections]), kind="stable")
    hits = np.concatenate([d[1] for d in detections])[order]
    total = sum(d[2] for d in detections)
    if total == 0 or len(hits) == 0:
        return {"average_precision": 0.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    true = np.cumsum(hits)
    precision, recall = true / np.arange(1, len(hits) + 1), true / total
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(f1.argmax())
    numbers = {"average_precision": (precision * hits).sum() / total, "f1": f1[best]}
    return {k: float(v) for k, v in (numbers | {"precision": precision[best], "recall": recall[best]}).items()}


# ---------------------------------------------------------------- the task
class OnsetNetwork(nn.Module):
    """S3D and a linear head: normalised frames [B, 3, Y, s, s] -> onset logits, log-strengths, each [B, Y].

    Output i speaks for frame i + lead: a feature's frames lie about its centre, so the first ones come before frame 0.
    """

    def __init__(self, config: S3DConfig) -> None:
        super().__init__()
        self.encoder = S3D(config)
        self.lead = self.encoder.offset - self.encoder.stride // 2  # frames; -2
        self.head = nn.Linear(self.encoder.dim, 2 * self.encoder.stride)
        nn.init.constant_(self.head.bias, -2.0)  # contacts are rare; a log-strength of -2 is a middling one
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = MOMENTUM

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(self.encoder.trunk(x).float()).unflatten(-1, (self.encoder.stride, 2)).flatten(1, 2)
        return y[..., 0], y[..., 1]


class SyncTask:
    """The sync encoder as a task of train.loop."""

    def __init__(self, options: SyncOptions, seed: int, config: S3DConfig = BUNDLED) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = OnsetNetwork(config)
        if options.crop % self.module.encoder.stride:
            raise RecipeError(f"task.crop {options.crop} must be a multiple of {self.module.encoder.stride}")
        self.clips = read_clips(Path(options.frames), config.size)
        self.validation = read_clips(Path(options.validation_frames), config.size, options.validation_clips)
        self.steps = 0

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "SyncTask":
        return cls(options_from(SyncOptions, options), seed)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised crops [B, 3, n, s, s], onset targets [B, n], log-strengths [B, n]: a function of (seed, step)."""
        o, rng = self.options, np.random.default_rng([self.seed, step])
        crops, onsets, strengths = [], [], []
        for clip in (self.clips[i] for i in rng.integers(0, len(self.clips), o.batch)):
            frames = np.load(clip.path, mmap_mode="r")
            first = int(rng.integers(0, max(1, len(frames) - o.crop + 1)))
            onset, strength = targets(clip.times, clip.strengths, first + self.module.lead, o.crop)
            held = np.minimum(np.arange(first, first + o.crop), len(frames) - 1)  # a short clip's last frame stays
            crops.append(distort(frames[held], rng))
            onsets.append(onset)
            strengths.append(strength)
        x = self.module.encoder.normalise(torch.from_numpy(np.stack(crops)))
        for crop in x:
            recolour(crop, rng)
        return x, torch.from_numpy(np.stack(onsets)), torch.from_numpy(np.stack(strengths))

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        x, onset, strength = self.batch(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16):
            logits, log_strength = self.module(x)
        weight = torch.tensor(self.options.positive_weight)
        cross_entropy = F.binary_cross_entropy_with_logits(logits.float(), onset, pos_weight=weight)
        error = F.smooth_l1_loss(log_strength.float(), strength, reduction="none")
        size = (error * onset).sum() / onset.sum().clamp(min=1)
        self.steps = step + 1
        total = cross_entropy + self.options.strength_weight * size
        return total, {"onset": cross_entropy.item(), "strength": size.item()}

    def validate(self) -> dict[str, float]:
        """Detections of contacts on whole validation clips, within one frame."""
        stride, lead, detections = self.module.encoder.stride, self.module.lead, []
        for clip in self.validation:
            frames = np.load(clip.path)
            missing = -len(frames) % stride
            padded = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])
            with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16):
                logits, _ = self.module(self.module.encoder.normalise(torch.from_numpy(padded)[None]))
            detections.append(match(logits[0, -lead:].float().numpy(), clip.times))  # from frame 0 on
        return score(detections)

    def finish(self, out: Path) -> None:
        folder = Path(self.options.system) if self.options.system else out / "system"
        provenance = self.options.provenance("S3D for contacts", clips=len(self.clips), steps=self.steps)
        checkpoint.save(folder, "sync_encoder", self.module.encoder, "s3d", provenance)
