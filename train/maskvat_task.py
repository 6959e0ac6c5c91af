"""The task that trains MaskVAT on prepared clips (`train.prepare`): masked tokens, and for the encoder designs the
auxiliary losses. Batches and masks are pure functions of (seed, step)."""

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from engines.contract import SIZES, Grid, ModelConfig, adapter_index, condition_indices
from train.checkpoint import COMPONENTS, load, save
from train.masking import AuxiliaryLosses, corrupt, drop_rows, masked_cross_entropy
from train.model import MaskVAT
from train.options import RecipeError, Statement, options_from
from train.prepare import system_config

VALIDATION_RATIOS = (0.3, 0.6, 0.9)


@dataclass(frozen=True)
class MaskVATOptions(Statement):
    """The [task] table of a recipe."""

    data: str  # folder of prepared clips
    validation: str
    system: str  # folder with the codec and the encoders; the trained component goes there
    start: str = ""  # system folder whose maskvat to go on from (fine-tuning); default: fresh weights
    design: str = "hybrid"
    size: str = "mini"
    batch: int = 8
    crop_seconds: float = 10.0  # of each clip; shorter crops train faster
    condition_dropout: float = 0.1  # paper, section 3.2.4
    mse_weight: float = 1.0
    contrastive_weight: float = 1.0
    target_norm: str = "layernorm"
    device: str = "auto"  # of PyTorch; "auto" is cuda where there is one, else cpu
    bfloat16: bool = False  # matrix products in bfloat16; parameters, norms and losses stay float32
    round_weights: bool = False  # finished weights to the nearest fp16: a bundle in fp16 then holds them exactly
    model: dict[str, Any] = field(default_factory=dict)  # further fields of ModelConfig


@dataclass(frozen=True)
class Batch:
    codes: Tensor  # (B, K, T)
    clip: Tensor  # (B, N, Dc)
    sync: Tensor  # (B, S, Ds)
    audio: Tensor  # (B, A, 8, D)

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


def find_device(name: str) -> torch.device:
    """The device of this name that is here. Raises RecipeError with those that are."""
    cards = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    if name not in ("auto", "cpu", *cards):
        raise RecipeError(f"task.device {name!r} is not here; choose from {', '.join(('auto', 'cpu', *cards))}")
    return torch.device("cuda" if cards else "cpu") if name == "auto" else torch.device(name)


class PreparedClips:
    """The arrays of a folder of prepared clips, in memory: 0.2 MB for 10 s."""

    NAMES = ("codes", "clip_features", "sync_features", "audio_features")

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Bad files are named on stderr, skipped and counted. Raises RecipeError when none is left."""
        self.config = config
        self.clips: list[dict[str, np.ndarray]] = []
        paths = sorted(folder.glob("*.npz"))
        for path in paths:
            try:
                self.clips.append(self.read(path))
            except (OSError, ValueError, EOFError, BadZipFile) as error:
                print(f"skipped {path.name}: {error}", file=sys.stderr)
        bad = len(paths) - len(self.clips)
        if bad:
            print(f"{bad} of {len(paths)} prepared clips of {folder} skipped", file=sys.stderr)
        if not self.clips:
            advice = "make them with `python -m train.prepare` and the whole system"
            raise RecipeError(f"no usable prepared clips (*.npz) in {folder} ({bad} skipped); {advice}")

    def read(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of one clip. Raises ValueError for those that are missing or do not fit the components."""
        c = self.config
        with np.load(path) as arrays:
            missing = [n for n in self.NAMES if n not in arrays]
            if missing:
                raise ValueError(f"lacks {', '.join(missing)}")
            clip = {n: arrays[n] for n in self.NAMES}
        sizes = {"clip_features": c.clip_dim, "sync_features": c.sync_dim, "audio_features": c.audio_dim}
        wrong = [n for n, size in sizes.items() if clip[n].shape[-1] != size]
        if wrong or len(clip["codes"]) != c.n_codebooks:
            raise ValueError(f"{', '.join(wrong or ['codes'])}: made by other components; run train.prepare again")
        if clip["codes"].max(initial=0) >= c.codebook_size or not all(np.isfinite(clip[n]).all() for n in sizes):
            raise ValueError("holds codes that there are not, or features that are no numbers")
        return clip

    def frequencies(self) -> Tensor:
        """How often each code occurs [K, V]."""
        K, V = self.config.n_codebooks, self.config.codebook_size
        codes = np.concatenate([clip["codes"] for clip in self.clips], axis=1)
        return torch.from_numpy(np.stack([np.bincount(codes[k], minlength=V) for k in range(K)])).float()

    def crop(self, clip: dict[str, np.ndarray], start: int, n_tokens: int) -> dict[str, np.ndarray]:
        """n_tokens from sync feature `start` on; the other streams from the nearest place in time."""
        c = self.config
        seconds = start * c.sync_stride / c.sync_fps
        begin = {
            "codes": (round(seconds * c.sample_rate / c.hop_length), n_tokens),
            "clip_features": (round(seconds * c.clip_fps), c.n_clip(n_tokens)),
            "sync_features": (start, c.n_sync(n_tokens)),
            "audio_features": (round(seconds * c.audio_rate / c.audio_stride), self.n_audio(n_tokens)),
        }
        out = {}
        for name, (first, length) in begin.items():
            axis = 1 if name == "codes" else 0
            index = np.minimum(np.arange(first, first + length), clip[name].shape[axis] - 1)
            out[name] = clip[name].take(index, axis=axis)
        return out

    def n_audio(self, n_tokens: int) -> int:
        c = self.config
        return max(1, n_tokens * c.hop_length * c.audio_rate // (c.sample_rate * c.audio_stride))

    def batch(self, chosen: list[int], shares: list[float], n_tokens: int) -> Batch:
        """Crops of the chosen clips; a share in [0, 1) says where each crop lies."""
        c = self.config
        rows = []
        for i, share in zip(chosen, shares, strict=True):
            clip = self.clips[i]
            spare = max(0, clip["codes"].shape[1] - n_tokens) * c.hop_length * c.sync_fps
            rows.append(self.crop(clip, int(share * (spare // (c.sample_rate * c.sync_stride) + 1)), n_tokens))
        arrays = [np.stack([r[n] for r in rows]) for n in self.NAMES]
        codes, *features = arrays
        return Batch(torch.from_numpy(codes.astype(np.int64)), *(torch.from_numpy(f).float() for f in features))


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every weight at its nearest fp16 value, still in float32.

    Rounding at export instead moved a trained model's tokens by 2.5 % at equal uniforms (docs/log.md).
    """
    return {name: value.half().float() for name, value in state.items()}


class MaskVATTask:
    """See train.loop.Task."""

    def __init__(self, options: MaskVATOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        if options.size not in SIZES:
            raise RecipeError(f"unknown size {options.size!r}; choose from {', '.join(SIZES)}")
        self.device = find_device(options.device)
        system = Path(options.system)
        parts = {n: load(system, n) for n in COMPONENTS if n != "maskvat"}
        self.config = c = system_config(parts, design=options.design, **(SIZES[options.size] | options.model))
        self.train_clips = PreparedClips(Path(options.data), c)
        self.validation_clips = PreparedClips(Path(options.validation), c)
        torch.manual_seed(seed)
        model = MaskVAT(c)
        if options.start:
            model.load_state_dict(self._start_weights(Path(options.start)))
        else:
            model.load_embeddings(parts["codec"].embedding_table())
            model.load_frequencies(self.train_clips.frequencies())
        self.model = model
        self.auxiliary = AuxiliaryLosses(c.audio_dim, c.hidden_size, options.target_norm) if c.has_memory else None
        self.module = nn.ModuleDict({"maskvat": model})
        if self.auxiliary is not None:
            self.module["auxiliary"] = self.auxiliary
        self.module.to(self.device)
        self.steps = 0
        self.n_tokens = min(c.window_tokens, c.n_tokens(round(options.crop_seconds * c.sample_rate)))
        self.indices = self._indices(self.n_tokens)

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "MaskVATTask":
        return cls(options_from(MaskVATOptions, options), seed)

    def _start_weights(self, folder: Path) -> dict[str, Tensor]:
        start = load(folder, "maskvat")
        if start.config != self.config:
            raise RecipeError(f"the maskvat in {folder} has another configuration: {start.config}, not {self.config}")
        return start.state_dict()

    def _indices(self, n_tokens: int) -> dict[str, Tensor]:
        c = self.config
        n_clip, n_sync, n_audio = c.n_clip(n_tokens), c.n_sync(n_tokens), self.train_clips.n_audio(n_tokens)
        indices = condition_indices(c, n_tokens, n_clip, n_sync)
        beats = Grid(c.audio_rate, c.audio_stride, c.audio_stride // 2)
        indices["audio_index"] = adapter_index(beats, c.clip_grid, n_audio, n_clip, c.length_adapter)
        return {name: torch.from_numpy(index).long().to(self.device) for name, index in indices.items()}

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bfloat16)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        size = self.options.batch
        chosen = torch.randint(len(self.train_clips.clips), (size,), generator=generator).tolist()
        shares = torch.rand(size, generator=generator).tolist()
        batch = self.train_clips.batch(chosen, shares, self.n_tokens).to(self.device)
        corrupted, mask = corrupt(batch.codes, self.config.mask_token, generator)
        drop = drop_rows(size, self.options.condition_dropout, generator).to(self.device)
        with self.precision():
            logits, condition = self.model(corrupted, batch.clip, batch.sync, self.indices, drop)
        tokens = masked_cross_entropy(logits, batch.codes, mask)
        numbers = {"tokens": tokens.item()}
        total = tokens
        self.steps = step + 1
        if self.auxiliary is not None:
            first = 1 if self.config.cls_in_memory else 0  # the memory may begin with [CLS]
            sequence, cls = condition.memory[:, first:].float(), condition.cls.float()
            terms = self.auxiliary(sequence, cls, batch.audio, self.indices["audio_index"], ~drop)
            o = self.options
            total = total + o.mse_weight * terms["mse"] + o.contrastive_weight * terms["contrastive"]
            numbers |= {name: value.item() for name, value in terms.items()}
        return total, numbers

    def validate(self) -> dict[str, float]:
        """Cross-entropy and accuracy of masked tokens at fixed ratios, with and without the picture."""
        generator = torch.Generator().manual_seed(self.seed)
        clips = self.validation_clips
        count = min(len(clips.clips), 24)
        sums: dict[str, list[float]] = {"tokens": [], "accuracy": [], "tokens_null": []}
        for first in range(0, count, self.options.batch):
            chosen = list(range(first, min(first + self.options.batch, count)))
            batch = clips.batch(chosen, [0.5] * len(chosen), self.n_tokens).to(self.device)
            for ratio in VALIDATION_RATIOS:
                mask = (torch.rand(batch.codes.shape, generator=generator) < ratio).to(self.device)
                codes = torch.where(mask, self.config.mask_token, batch.codes)
                for name, dropped in (("tokens", False), ("tokens_null", True)):
                    drop = torch.full((len(chosen),), dropped, device=self.device)
                    with self.precision():
                        logits, _ = self.model(codes, batch.clip, batch.sync, self.indices, drop)
                    sums[name].append(masked_cross_entropy(logits, batch.codes, mask).item())
                    if not dropped:
                        hits = logits.argmax(dim=-1) == batch.codes
                        sums["accuracy"].append(hits[mask].float().mean().item())
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def finish(self, out: Path) -> None:
        name = f"MaskVAT {self.config.design}, {self.options.size}"
        provenance = self.options.provenance(name, clips=len(self.train_clips.clips), steps=self.steps)
        state = self.model.state_dict()
        if self.options.round_weights:
            state = rounded(state)
        save(Path(self.options.system), "maskvat", self.model, "maskvat", provenance, state)
