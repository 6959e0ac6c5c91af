"""Training the sync encoder: S3D learns when things touch and what is heard then, from made-up clips whose events are
exact.

Data: a folder with ID.frames.npy (uint8 [frames, size, size, 3] at 25 fps, from train.prepare) and the folder of the
clips, with ID.json (its events). A linear head reads, for every frame, an onset logit, the log-strength, the material,
and the level of sustained sounds; the head is left out of the saved component. SparseSync learns from offsets between
sound and picture instead; the exact times of our clips make the plainer task possible.

Frame k is the picture at (k + 1/2) / 25 s (runtime.video), so it stands for contacts from k / 25 to (k + 1) / 25 s.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train import checkpoint
from train.options import RecipeError, Statement, options_from
from train.prepare import BAD, clip_events
from train.s3d import BUNDLED, S3D, S3DConfig

Floats = NDArray[np.float32]
TOLERANCE = 1.0  # frames by which a detection may miss its contact
MOMENTUM = 0.03  # of BatchNorm while training: the official 1e-3 needs more steps than a short run has


@dataclass(frozen=True)
class SyncOptions(Statement):
    frames: str = "frames/train"  # folder with ID.frames.npy
    clips: str = "clips/train"  # folder with ID.json
    validation_frames: str = "frames/val"
    validation_clips: str = "clips/val"
    system: str = ""  # folder the encoder is saved in; default: the run's own
    batch: int = 6
    crop: int = 64  # frames
    positive_weight: float = 3.0  # of bins with a contact in the cross-entropy
    strength_weight: float = 0.2
    material_weight: float = 0.2
    level_weight: float = 1.0
    validation_count: int = 24  # clips
    bfloat16: bool = True  # autocast of the convolutions
    threads: int = 2


# ---------------------------------------------------------------- data
class Targets(NamedTuple):
    """What a frame of a clip shows, each [n]: see `Clip.targets`."""

    onset: Floats
    log_strength: Floats
    material: NDArray[np.int64]
    level: Floats


@dataclass(frozen=True)
class Clip:
    path: Path  # of the frames
    contacts: list[dict[str, Any]]  # events of ID.json, sorted by time
    sustained: list[dict[str, Any]]

    @property
    def times(self) -> Floats:
        return np.array([event["time"] for event in self.contacts], np.float32)

    def targets(self, first: int, n: int, materials: tuple[str, ...]) -> Targets:
        """Targets of the frames first to first + n - 1.

        The onset is 1 within half a frame of a contact and falls to 0 at one frame and a half; strength and material
        are those of the strongest contact there (0 and -1 where there is none); the level is that of the loudest
        sustained sound.
        """
        onset, strength = np.zeros(n, np.float32), np.zeros(n, np.float32)
        material, level = np.full(n, -1, np.int64), np.zeros(n, np.float32)
        centres = first + 0.5 + np.arange(n)
        for event in sorted(self.contacts, key=lambda e: float(e.get("strength", 1.0))):  # the strongest last
            near = np.clip(1.5 - np.abs(event["time"] * S3D.fps - centres), 0, 1)
            onset = np.maximum(onset, near).astype(np.float32)
            strength[near > 0] = np.log(np.clip(event.get("strength", 1.0), 0.02, 1))
            if event.get("material") in materials:
                material[near > 0] = materials.index(event["material"])
        for event in self.sustained:
            share = (centres / S3D.fps - event["time"]) / (event["end"] - event["time"])
            envelope = np.array(event.get("envelope") or np.sin(np.linspace(0, np.pi, 9)))
            heard = np.interp(share, np.linspace(0, 1, len(envelope)), envelope, left=0, right=0)
            level = np.maximum(level, heard * event.get("strength", 1.0)).astype(np.float32)
        return Targets(onset, strength, material, level)


def read_clip(path: Path, label: Path, size: int) -> Clip:
    """Raises one of prepare.BAD that says what is wrong with the frames or with ID.json."""
    shape = np.load(path, mmap_mode="r").shape
    if len(shape) != 4 or shape[1:] != (size, size, 3) or not shape[0]:
        raise ValueError(f"holds {list(shape)}, expected [frames, {size}, {size}, 3]")
    clip_events(label)  # raises for what is not a time, a strength or a level
    events = sorted(json.loads(label.read_text(encoding="utf-8"))["events"], key=lambda event: event["time"])
    sustained = [event for event in events if event.get("end", 0) > event["time"]]
    return Clip(path, [event for event in events if not event.get("end")], sustained)


def read_clips(frames: Path, clips: Path, size: int, limit: int | None = None) -> list[Clip]:
    """The clips of a folder, by name; bad ones are named on stderr and left out. RecipeError when none is left."""
    found, bad = [], 0
    for path in sorted(frames.glob("*.frames.npy"))[:limit]:
        try:
            found.append(read_clip(path, clips / (path.name.removesuffix(".frames.npy") + ".json"), size))
        except BAD as error:
            bad += 1
            print(f"skipped {path.name}: {error}", file=sys.stderr)
    if bad:
        print(f"{bad} clips of {frames} skipped", file=sys.stderr)
    if not found:
        raise RecipeError(
            f"no usable *.frames.npy in {frames} with its ID.json in {clips} ({bad} skipped); make them with "
            "train.scenes and `train.prepare --frames`, or set task.frames and task.clips"
        )
    return found


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
    contacts = times * S3D.fps - 0.5
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
    """S3D and a linear head: normalised frames [B, 3, Y, s, s] -> [B, Y, 3 + materials] for every frame: onset logit,
    log-strength, level of sustained sound, logits of materials."""

    def __init__(self, config: S3DConfig, n_materials: int) -> None:
        super().__init__()
        self.encoder = S3D(config)
        self.head = nn.Linear(self.encoder.dim, self.encoder.stride * (3 + n_materials))
        nn.init.constant_(self.head.bias, 0.0)
        with torch.no_grad():
            self.head.bias.view(self.encoder.stride, -1)[:, :2] = -2.0  # contacts are rare, and middling in strength
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        out = self.head(self.encoder.trunk(x).float()).unflatten(-1, (self.encoder.stride, -1)).flatten(1, 2)
        return out[:, : x.shape[2]]


class SyncTask:
    """The sync encoder as a task of train.loop."""

    def __init__(self, options: SyncOptions, seed: int, config: S3DConfig = BUNDLED) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        self.clips = read_clips(Path(options.frames), Path(options.clips), config.size)
        held_out = Path(options.validation_frames), Path(options.validation_clips)
        self.validation = read_clips(*held_out, config.size, options.validation_count)
        self.materials = tuple(sorted({str(e["material"]) for c in self.clips for e in c.contacts if "material" in e}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = OnsetNetwork(config, len(self.materials))
        self.module = network.to(memory_format=torch.channels_last_3d)  # with bfloat16 1.8 times as fast on a CPU
        self.steps = 0

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "SyncTask":
        return cls(options_from(SyncOptions, options), seed)

    def batch(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Normalised crops [B, 3, n, s, s] and the fields of Targets, each [B, n]: a function of (seed, step)."""
        o, rng = self.options, np.random.default_rng([self.seed, step])
        crops, labels = [], []
        for clip in (self.clips[i] for i in rng.integers(0, len(self.clips), o.batch)):
            frames = np.load(clip.path, mmap_mode="r")
            first = int(rng.integers(0, max(1, len(frames) - o.crop + 1)))
            held = np.minimum(np.arange(first, first + o.crop), len(frames) - 1)  # a short clip's last frame stays
            crops.append(distort(frames[held], rng))
            labels.append(clip.targets(first, o.crop, self.materials))
        x = self.module.encoder.normalise(torch.from_numpy(np.stack(crops)))
        for crop in x:
            recolour(crop, rng)
        return x, [torch.from_numpy(np.stack(part)) for part in zip(*labels, strict=True)]

    def predict(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16):
            return self.module(x.contiguous(memory_format=torch.channels_last_3d)).float()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        x, (onset, strength, material, level) = self.batch(step)
        out, o = self.predict(x), self.options
        share = onset / onset.sum().clamp(min=1)  # of every frame in what is learned of contacts
        weight = torch.tensor(o.positive_weight)
        parts = {
            "onset": F.binary_cross_entropy_with_logits(out[..., 0], onset, pos_weight=weight),
            "strength": (F.smooth_l1_loss(out[..., 1], strength, reduction="none") * share).sum(),
            "level": F.mse_loss(out[..., 2], level),
        }
        weights = [1.0, o.strength_weight, o.level_weight]
        if self.materials:
            logits = out[..., 3:].transpose(1, 2)  # (B, materials, n)
            error = F.cross_entropy(logits, material, ignore_index=-1, reduction="none")
            parts["material"] = (error * share).sum()
            weights.append(o.material_weight)
        self.steps = step + 1
        total = sum((w * p for w, p in zip(weights, parts.values(), strict=True)), start=out.new_zeros(()))
        return total, {name: part.item() for name, part in parts.items()}

    def validate(self) -> dict[str, float]:
        """Detections of contacts on whole validation clips, within one frame; materials right at the true contacts."""
        detections, right = [], []
        for clip in self.validation:
            frames = np.load(clip.path)
            out = self.predict(self.module.encoder.normalise(torch.from_numpy(frames)[None]))[0].numpy()
            detections.append(match(out[:, 0], clip.times))
            truth = clip.targets(0, len(frames), self.materials)
            sure = (truth.material >= 0) & (truth.onset == 1)
            right += (out[sure, 3:].argmax(axis=1) == truth.material[sure]).tolist() if sure.any() else []
        return score(detections) | {"material": float(np.mean(right or [0.0]))}

    def finish(self, out: Path) -> None:
        folder = Path(self.options.system) if self.options.system else out / "system"
        provenance = self.options.provenance("S3D for contacts", clips=len(self.clips), steps=self.steps)
        checkpoint.save(folder, "sync_encoder", self.module.encoder, "s3d", provenance)
