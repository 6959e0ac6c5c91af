"""MaskVAT with the losses that it is trained by (paper, section 3.2.4), as one module.

All work passes through `forward`, so that DDP and FSDP see it: network("logits", ...) calls the method `logits`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.models.losses import AuxiliaryLosses, masked_cross_entropy
from train.models.maskvat import Condition, MaskVAT


@dataclass(frozen=True)
class Terms:
    """Of one part of a batch, so that parts can be added up."""

    tokens: Tensor  # sum of the cross-entropy over masked positions
    mse: Tensor | None = None  # sum over rows that were not dropped
    target_std: Tensor | None = None  # a collapse of the target shows here
    rows: tuple[Tensor, ...] = ()  # what the contrastive loss is made of


class Objective(nn.Module):
    def __init__(self, maskvat: MaskVAT, auxiliary: AuxiliaryLosses | None) -> None:
        super().__init__()
        self.maskvat = maskvat
        if auxiliary is not None:
            self.auxiliary = auxiliary

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self, method)(*args)

    def logits(self, batch: Batch, indices: dict[str, Tensor]) -> tuple[Tensor, Condition]:
        """Logits (B, K, T, V) of a batch, its masked positions hidden."""
        codes = torch.where(batch.mask, self.maskvat.config.mask_token, batch.codes)
        return self.maskvat(codes, batch.clip, batch.sync, indices, batch.drop)

    def embeddings(self, batch: Batch, indices: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """[CLS] (B, H), the target's mean (B, H), temperature (B,), keep (B,): what the contrastive loss is made of."""
        condition = self.maskvat.condition(batch.clip, batch.sync, indices, batch.drop)
        return self._rows(condition, self.auxiliary.target(batch.audio).float(), batch)

    def terms(self, batch: Batch, indices: dict[str, Tensor]) -> Terms:
        logits, condition = self.logits(batch, indices)
        tokens = masked_cross_entropy(logits, batch.codes, batch.mask, reduction="sum")
        if not self.maskvat.config.has_memory:
            return Terms(tokens)
        first = 1 if self.maskvat.config.cls_in_memory else 0  # the memory may begin with [CLS]
        target = self.auxiliary.target(batch.audio).float()  # (B, A, H)
        frames = target.index_select(1, indices["audio_index"])  # (B, N, H)
        errors = self.auxiliary.errors(condition.memory[:, first:].float(), frames)  # (B,)
        std = frames.detach().flatten(0, 1).std(dim=0).mean()
        return Terms(tokens, (errors * ~batch.drop).sum(), std, self._rows(condition, target, batch))

    def _rows(self, condition: Condition, target: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        # a copy, for under FSDP what a view looks at is freed after forward
        temperature = self.auxiliary.log_temperature.expand(len(batch.drop)).clone()
        return condition.cls.float(), target.mean(dim=1), temperature, ~batch.drop
