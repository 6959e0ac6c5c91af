"""MaskVAT with its training losses (paper, section 3.2.2), as one module.

DDP and FSDP need all work to pass through `forward`, so network("logits", ...) calls the method `logits`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.models.losses import AuxiliaryLosses, codebook_weights, masked_cross_entropy
from train.models.maskvat import Condition, MaskVAT
from train.tasks.distillation import Teacher


@dataclass(frozen=True)
class Terms:
    """Sums over one part of a batch; sums of parts can be added."""

    tokens: Tensor  # cross-entropy against the codes, or the teacher's prediction, summed over masked positions
    mse: Tensor | None = None  # summed over rows with both conditions
    target_std: Tensor | None = None  # near 0 if the target collapses
    rows: tuple[Tensor, ...] = ()  # arguments of contrastive_loss


class Objective(nn.Module):
    weights: Tensor

    def __init__(
        self,
        maskvat: MaskVAT,
        target_norm: str = "layernorm",
        codebook_decay: float = 1.0,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        c = maskvat.config
        self.maskvat, self.teacher = maskvat, teacher
        self.register_buffer("weights", codebook_weights(c.n_codebooks, codebook_decay), persistent=False)
        if c.has_memory:
            self.auxiliary = AuxiliaryLosses(c.audio_dim, c.hidden_size, target_norm)

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self, method)(*args)

    def logits(self, batch: Batch, indices: dict[str, Tensor]) -> tuple[Tensor, Condition]:
        """Logits (B, K, T, V) of a batch whose masked positions hold [MASK]."""
        return self.maskvat(self._masked(batch), batch.frame, batch.sync, indices, batch.drop)

    def _masked(self, batch: Batch) -> Tensor:
        return torch.where(batch.mask, self.maskvat.config.mask_token, batch.codes)

    def embeddings(self, batch: Batch, indices: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """[CLS] (B, H), the target's mean (B, H), temperature (B,), keep (B,): the arguments of contrastive_loss."""
        condition = self.maskvat.condition(batch.frame, batch.sync, indices, batch.drop)
        return self._rows(condition, self.auxiliary.target(batch.audio).float(), batch)

    def terms(self, batch: Batch, indices: dict[str, Tensor]) -> Terms:
        logits, condition = self.logits(batch, indices)
        target = batch.codes if self.teacher is None else self.teacher(self._masked(batch), batch, indices)
        tokens = masked_cross_entropy(logits, target, batch.mask, "sum", self.weights)
        if not self.maskvat.config.has_memory:
            return Terms(tokens)
        first = 1 if self.maskvat.config.cls_in_memory else 0  # the memory may begin with [CLS]
        audio = self.auxiliary.target(batch.audio).float()  # (B, A, H)
        frames = audio.index_select(1, indices["audio_index"])  # (B, N, H)
        errors = self.auxiliary.errors(condition.memory[:, first:].float(), frames)  # (B,)
        std = frames.detach().flatten(0, 1).std(dim=0).mean()
        return Terms(tokens, (errors * batch.kept).sum(), std, self._rows(condition, audio, batch))

    def _rows(self, condition: Condition, target: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        # a copy, because FSDP frees the memory of a view after forward
        temperature = self.auxiliary.log_temperature.expand(len(batch.drop)).clone()
        return condition.cls.float(), target.mean(dim=1), temperature, batch.kept
