"""Losses of MaskVAT (paper, section 3.2.2)."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TARGET_NORMS = ("layernorm", "none")


def masked_cross_entropy(
    logits: Tensor, target: Tensor, mask: Tensor, reduction: str = "mean", weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of logits (B, K, T, V) over the masked positions of the batch.

    `target` is codes (B, K, T), or a teacher's logits (B, K, T, V), whose probabilities are then the target. The paper
    writes a sum inside an expectation. The mean over masked positions does not depend on T or the batch size. `weights`
    (K,) multiply the values of each codebook.
    """
    wanted = target[mask].long() if target.ndim == mask.ndim else target[mask].float().softmax(dim=-1)
    values = F.cross_entropy(logits[mask].float(), wanted, reduction="none")
    if weights is not None:
        values = values * weights[:, None].expand(mask.shape)[mask]
    return values.sum() if reduction == "sum" else values.mean()


def codebook_weights(count: int, decay: float) -> Tensor:
    """Weights [count] of codebooks in the loss, with mean 1: each has `decay` times that of the one before it."""
    weights = decay ** torch.arange(count, dtype=torch.float32)
    return weights / weights.mean()


class AuxiliaryLosses(nn.Module):
    """MSE and contrastive terms on the encoder's output (Seq2Seq and Hybrid; paper, section 3.2.2).

    The target is Linear(BEATs(audio)), averaged over bands and brought to the encoder's length by the length adapter.
    `target_norm` "layernorm" (default) compares both sides after a LayerNorm without affine: the target's Linear is
    trained and could otherwise shrink to a constant. "none" follows the paper's text literally.
    """

    def __init__(self, audio_dim: int, width: int, target_norm: str = "layernorm") -> None:
        super().__init__()
        if target_norm not in TARGET_NORMS:
            raise ValueError(f"unknown target_norm {target_norm!r}; choose from {', '.join(TARGET_NORMS)}")
        self.target_norm = target_norm
        self.projection = nn.Linear(audio_dim, width)
        self.log_temperature = nn.Parameter(torch.full((1,), log(1 / 0.07)))
        self.register_load_state_dict_pre_hook(_one_temperature)

    def target(self, audio_features: Tensor) -> Tensor:
        """Audio features (B, A, 8, D) -> (B, A, H)."""
        return self.projection(audio_features.mean(dim=2))

    def errors(self, sequence: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of each example (B,): encoder output (B, N, H), target of the same length."""
        if self.target_norm == "layernorm":
            sequence, target = (F.layer_norm(x, x.shape[-1:]) for x in (sequence, target))
        return (sequence - target).square().mean(dim=(1, 2))


def contrastive_loss(a: Tensor, b: Tensor, log_temperature: Tensor, keep: Tensor) -> Tensor:
    """Symmetric InfoNCE (CLIP) between the kept rows of a and b (B, H): [CLS] and the target's mean over time.

    `log_temperature` (B,) repeats one number in every row, so that its gradient comes with the rows' gradients. `keep`
    (B,) is False for rows that lack a condition.
    """
    a, b, scale = a[keep], b[keep], log_temperature.mean().exp().clamp(max=100)
    if len(a) < 2:
        return (a.sum() + b.sum() + scale) * 0
    logits = scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    rows = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


def _one_temperature(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Load older states, whose temperature has no axis; FSDP cannot shard such a tensor."""
    name = f"{prefix}log_temperature"
    if name in state and state[name].ndim == 0:
        state[name] = state[name][None]
