"""Training SCAV alone on prepared examples, with both encoders frozen, as in its paper (arXiv 2407.05782).

`train.tasks.scav_joint` also trains the small audio encoder, from sound. Here `batch` is the effective batch size. All
other examples in it are negatives, for any number of processes and any size of parts (train.loop.gradient_cache).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engines.length_adapter import interpolation_matrix
from train import distributed
from train.checkpoint import PREPARED_ARRAYS, load, save, system_config
from train.data import sample_order
from train.data.batch import Batch
from train.data.dataset import Examples, open_source
from train.errors import RecipeError
from train.loop.gradient_cache import cached_loss
from train.models.scav import SCAV, SCAVConfig, contrastive_loss, distances, pooled, recalls
from train.recipe import COUNT, SHARE, ProvenanceOptions, Ranges, options_from
from train.tasks.precision import uses_bfloat16

POOLINGS = ("sequence", "mean")


@dataclass(frozen=True)
class ScavPreparedOptions(distributed.BatchSplit, ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("batch", "dim", "layers", "heads", "readers", "validation_count"), COUNT),
        "dropout": SHARE,
    }
    data: str  # prepared examples: a folder, or the folder or URL of shards
    validation: str
    system: str  # system folder with the encoders that made them; the trained component is saved there
    batch: int = 256
    dim: int = 512
    layers: int = 2
    heads: int = 8
    dropout: float = 0.1
    pooling: str = "sequence"  # "mean": the baseline that compares means over time; it is not saved in `system`
    device: str = "auto"
    bfloat16: bool = False  # matrix products in bfloat16, if the device has instructions for it
    readers: int = 4
    validation_count: int = 535

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; choose from {', '.join(POOLINGS)}")


class Embeddings(nn.Module):
    """Embeddings of a batch for the loss: video [B, A, H], sound [B, A, 8, H], temperature [B]."""

    def __init__(self, scav: SCAV) -> None:
        super().__init__()
        self.scav = scav

    def forward(self, batch: Batch, interpolation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        video, audio = self.scav(batch.clip, batch.audio, interpolation)
        return video.float(), audio.float(), self.scav.temperature().expand(len(video))


class ScavPreparedTask:
    """The task "scav-prepared" of train.fit. See train.loop.trainer.PartsTask."""

    def __init__(self, options: ScavPreparedOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        self.device = distributed.find_device(options.device, distributed.local_rank())
        self.own, self.part = options.split_batch(options.batch)
        self.config = c = system_config({name: load(options.system, name) for name in PREPARED_ARRAYS})
        self.train_examples = Examples(open_source(options.data, "train", c), c, options.readers)
        self.validation_examples = Examples(open_source(options.validation, "validation", c), c, options.readers)
        if min(len(self.train_examples), options.batch) < 2:
            raise RecipeError(
                "SCAV learns from the differences of examples; give at least 2 prepared examples and task.batch >= 2"
            )
        n_audio, n_clip = self.train_examples.n_audio(c.window_tokens), c.n_clip(c.window_tokens)
        self.interpolation = torch.from_numpy(interpolation_matrix(n_audio, n_clip)).to(self.device)
        o = options
        sizes = {"dim": o.dim, "layers": o.layers, "heads": o.heads, "dropout": o.dropout}
        torch.manual_seed(seed)
        self.scav = SCAV(SCAVConfig(clip_dim=c.clip_dim, audio_dim=c.audio_dim, bands=c.audio_bands, **sizes))
        self.module = Embeddings(self.scav)
        self.network = distributed.distribute(self.module, self.device, "ddp", ())
        self.bfloat16 = uses_bfloat16(options.bfloat16, self.device)
        self.facts = {"bfloat16": float(self.bfloat16)}
        self.steps = 0

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "ScavPreparedTask":
        return cls(options_from(ScavPreparedOptions, options), seed)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            rows: tuple[Tensor, Tensor, Tensor] = self.network(batch, self.interpolation)
        return rows

    def distances(self, video: Tensor, audio: Tensor) -> Tensor:
        return distances(*(pooled(video, audio) if self.options.pooling == "mean" else (video, audio)))

    def contrast(self, video: Tensor, audio: Tensor, temperature: Tensor) -> Tensor:
        return contrastive_loss(self.distances(video, audio), temperature.mean())

    def backward(self, step: int) -> dict[str, float]:
        """Compute gradients of a step's batch, averaged over processes; return the loss and the temperature."""
        o, T = self.options, self.config.window_tokens
        rows = sample_order.rows(self.seed, step, o.batch, len(self.train_examples), self.own)
        parts = [rows[i : i + self.part] for i in range(0, len(rows), self.part)]
        batches = [self.train_examples.validation_batch([r.sample for r in part], T).to(self.device) for part in parts]
        first = self.own.start // self.part  # parts are numbered over all processes, for the seeds of dropout
        if len(batches) == 1 and distributed.world_size() == 1:
            self._seed(step, first)
            loss = self.contrast(*self.embed(batches[0]))
            loss.backward()
            return self._numbers(loss.item(), step)
        embedded = []
        for i, batch in enumerate(batches):
            self._seed(step, first + i)
            with torch.no_grad():
                embedded.append(self.embed(batch))
        negatives = cached_loss(embedded, self.contrast)
        for i, batch in enumerate(batches):
            self._seed(step, first + i)  # repeat the dropout of the first pass
            with distributed.gradient_exchange(self.network, last=i == len(batches) - 1):
                (negatives.surrogate(i, self.embed(batch)) * distributed.world_size()).backward()
        return self._numbers(negatives.value, step)

    def _seed(self, step: int, part: int) -> None:
        torch.manual_seed((self.seed * 1_000_003 + step) * 4099 + part)

    def _numbers(self, loss: float, step: int) -> dict[str, float]:
        self.steps = step + 1
        return {"loss": loss, "temperature": self.scav.temperature().item()}

    def validate(self) -> dict[str, float]:
        """Recall of the right sound among all validation examples, and of the right video."""
        count = min(len(self.validation_examples), self.options.validation_count)
        found = []
        for first in range(0, count, self.part):
            chosen = list(range(first, min(first + self.part, count)))
            batch = self.validation_examples.validation_batch(chosen, self.config.window_tokens).to(self.device)
            found.append(self.embed(batch)[:2])
        video, audio = (torch.cat(column) for column in zip(*found, strict=True))
        return {"clips": float(count)} | recalls(self.distances(video, audio))

    def finish(self, out: Path) -> None:
        is_baseline = self.options.pooling == "mean"
        title = "SCAV, mean-pooled baseline, for comparison only" if is_baseline else "SCAV"
        provenance = self.options.provenance(title, clips=len(self.train_examples), steps=self.steps)
        if distributed.rank() == 0:
            save(out / "system" if is_baseline else Path(self.options.system), "scav", self.scav, "scav", provenance)
