"""Training the sync encoder: S3D learns when objects touch and how that sounds, from synthetic clips with exact events.

Data: a folder with ID.frames.npy (uint8 [frames, size, size, 3] at 25 fps, from train.prepare) and the folder of the
clips, with ID.json (the events). For every frame, a linear head predicts an onset logit, the log-strength, the material
and the level of sustained sounds. With features at every place, a second head predicts an onset logit at every place of
scenes that state where contacts are. The network then needs fewer clips to learn which moving object makes the contact.
The heads are not saved with the component. SparseSync learns from offsets between sound and picture instead; exact
events allow this simpler task.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from train import checkpoint
from train.models.s3d import BUNDLED, S3D, S3DConfig
from train.recipe import COUNT, NATURAL, POSITIVE, SHARE, ProvenanceOptions, Range, Ranges, options_from
from train.tasks.precision import uses_bfloat16
from train.tasks.sync_data import Floats, Targets, View, distort, read_examples, recolour

TOLERANCE = 1.0  # largest distance in frames between a detection and its contact
MOMENTUM = 0.03  # BatchNorm in training; the official 1e-3 needs more steps than a short run has


@dataclass(frozen=True)
class SyncOptions(ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("batch", "validation_count", "threads"), COUNT),
        **dict.fromkeys(("strength_weight", "material_weight", "level_weight", "place_weight", "distractors"), NATURAL),
        "crop": Range(4),  # a cut needs a quarter of it on each side
        "cuts": SHARE,
        "positive_weight": POSITIVE,
    }
    frames: str = "frames/train"  # folder with ID.frames.npy
    clips: str = "clips/train"  # folder with ID.json
    validation_frames: str = "frames/val"
    validation_clips: str = "clips/val"
    system: str = ""  # system folder to save the encoder in; default: the run's own
    batch: int = 6
    crop: int = 64  # frames
    cuts: float = 0.15  # share of crops with a cut to another example
    distractors: int = 3  # largest number of pieces of other examples that move over a crop
    positive_weight: float = 3.0  # weight of frames with a contact in the cross-entropy
    strength_weight: float = 0.2
    material_weight: float = 0.2
    level_weight: float = 1.0
    place_weight: float = 0.3
    validation_count: int = 24  # examples
    bfloat16: bool = True  # convolutions in bfloat16, if the CPU has instructions for it
    threads: int = 2


# ---------------------------------------------------------------- detections
def peaks(scores: Floats) -> NDArray[np.intp]:
    """Frames whose score is above both neighbours; the first one of equal scores."""
    padded = np.pad(scores, 1, constant_values=-np.inf)
    return np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))


def match(scores: Floats, times: Floats) -> tuple[Floats, NDArray[np.bool_], int]:
    """Match the peaks of an example, best first, with its contacts.

    Returns the scores of the peaks, whether each hits a contact that no better peak hit, and the number of contacts.
    `times` are in seconds; a contact less than one frame after the previous one is not counted.
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
    """Average precision over all examples; best F1 over thresholds, with its precision and recall."""
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
    """S3D and two linear heads: normalised frames [B, 3, Y, s, s] -> [B, Y, 3 + materials].

    The columns are onset logit, log-strength, level of sustained sound, and logits of materials. With features at every
    place, the second output has onset logits there [B, Y, grid, grid].
    """

    def __init__(self, config: S3DConfig, n_materials: int) -> None:
        super().__init__()
        self.encoder = S3D(config)
        self.head = nn.Linear(self.encoder.dim, self.encoder.stride * (3 + n_materials))
        self.place = nn.Linear(self.encoder.dim, 1) if config.frame_dim else None
        nn.init.constant_(self.head.bias, 0.0)
        with torch.no_grad():
            self.head.bias.view(self.encoder.stride, -1)[:, :2] = -2.0  # contacts are rare and of medium strength
        if self.place is not None:
            nn.init.constant_(self.place.bias, -5.0)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = MOMENTUM

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        places = None
        if self.place is None:
            features = self.encoder.trunk(x)
        else:
            everywhere = self.encoder.places(x)
            features, places = everywhere.amax(dim=(2, 3)), self.place(everywhere.float())[..., 0]
        out = self.head(features.float()).unflatten(-1, (self.encoder.stride, -1)).flatten(1, 2)
        return out[:, : x.shape[2]], places


class SyncTask:
    """The task "sync" of train.fit. See train.loop.trainer.Task."""

    def __init__(self, options: SyncOptions, seed: int, config: S3DConfig = BUNDLED) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        self.train_examples = read_examples(Path(options.frames), Path(options.clips), config)
        held_out = Path(options.validation_frames), Path(options.validation_clips)
        self.validation = read_examples(*held_out, config, options.validation_count)
        self.materials = tuple(
            sorted({str(e["material"]) for c in self.train_examples for e in c.contacts if "material" in e})
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = OnsetNetwork(config, len(self.materials))
        self.module = network.to(
            memory_format=torch.channels_last_3d
        )  # 1.8 times as fast with bfloat16 on a CPU that supports it
        self.bfloat16 = uses_bfloat16(options.bfloat16, torch.device("cpu"))
        self.facts = {"bfloat16": float(self.bfloat16)}
        self.steps = 0

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "SyncTask":
        return cls(options_from(SyncOptions, options), seed)

    def batch(self, step: int) -> tuple[Tensor, Targets]:
        """Normalised crops [B, 3, n, s, s] and their targets with a leading B: a function of (seed, step)."""
        o, rng = self.options, np.random.default_rng([self.seed, step])
        crops, labels = [], []
        for _ in range(o.batch):
            if rng.random() < o.cuts:
                n = int(rng.integers(o.crop // 4, o.crop * 3 // 4))
                pieces = [self.piece(n, rng), self.piece(o.crop - n, rng)]
            else:
                pieces = [self.piece(o.crop, rng)]
            others = [self.picture(rng) for _ in range(rng.integers(0, o.distractors + 1))]
            crops.append(distort(np.concatenate([frames for frames, _ in pieces]), others, rng))
            labels.append([np.concatenate(part) for part in zip(*(target for _, target in pieces), strict=True)])
        x = self.module.encoder.normalise(torch.from_numpy(np.stack(crops)))
        for crop in x:
            recolour(crop, rng)
        return x, Targets(*(torch.from_numpy(np.stack(part)) for part in zip(*labels, strict=True)))

    def piece(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Targets]:
        """A random view of a random example."""
        example = self.train_examples[rng.integers(len(self.train_examples))]
        frames = np.load(example.path, mmap_mode="r")
        view = example.draw(n, len(frames), rng)
        return view.cut(frames, n), example.targets(view, n, self.materials, self.module.encoder.grid)

    def picture(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A random frame [s, s, 3] of a random example."""
        frames = np.load(self.train_examples[rng.integers(len(self.train_examples))].path, mmap_mode="r")
        return frames[rng.integers(len(frames))]

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            out, places = self.module(x.contiguous(memory_format=torch.channels_last_3d))
            return out.float(), places

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        x, target = self.batch(step)
        (out, places), o = self.predict(x), self.options
        share = target.onset / target.onset.sum().clamp(min=1)  # weight of every frame in the losses of contacts
        weight = torch.tensor(o.positive_weight)
        onset = F.binary_cross_entropy_with_logits(out[..., 0], target.onset, pos_weight=weight, reduction="none")
        strength = F.smooth_l1_loss(out[..., 1], target.log_strength, reduction="none")
        parts = {
            "onset": (1.0, (onset * target.seen).mean()),
            "strength": (o.strength_weight, (strength * share).sum()),
            "level": (o.level_weight, F.mse_loss(out[..., 2], target.level)),
        }
        if places is not None:
            error = F.binary_cross_entropy_with_logits(places, target.places, pos_weight=weight, reduction="none")
            parts["place"] = (o.place_weight, (error.sum(dim=(2, 3)) * target.placed).mean())
        if self.materials:
            error = F.cross_entropy(out[..., 3:].transpose(1, 2), target.material, ignore_index=-1, reduction="none")
            parts["material"] = (o.material_weight, (error * share).sum())
        self.steps = step + 1
        total = sum((weight * part for weight, part in parts.values()), start=out.new_zeros(()))
        return total, {name: part.item() for name, (_, part) in parts.items()}

    def validate(self) -> dict[str, float]:
        """Score detected contacts (within one frame) on whole validation examples, and materials at true contacts."""
        detections, right = [], []
        for example in self.validation:
            frames = np.load(example.path)
            out = self.predict(self.module.encoder.normalise(torch.from_numpy(frames)[None]))[0][0].numpy()
            detections.append(match(out[:, 0], example.times))
            truth = example.targets(View(), len(frames), self.materials, self.module.encoder.grid)
            sure = (truth.material >= 0) & (truth.onset == 1)
            right += (out[sure, 3:].argmax(axis=1) == truth.material[sure]).tolist() if sure.any() else []
        return score(detections) | {"material": float(np.mean(right or [0.0]))}

    def finish(self, out: Path) -> None:
        folder = Path(self.options.system) if self.options.system else out / "system"
        provenance = self.options.provenance("S3D for contacts", clips=len(self.train_examples), steps=self.steps)
        checkpoint.save(folder, "sync_encoder", self.module.encoder, "s3d", provenance)
