"""Corruption and losses of MaskVAT (paper, sections 3.2.2 and 3.2.4)."""

from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def corrupt(codes: Tensor, mask_token: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask codes (B, K, T): per example u ~ U[0, pi/2], each position with probability cos(u), independently.

    Returns the corrupted codes and the mask (B, K, T) bool. At least one position per example is masked.
    """
    B = codes.shape[0]
    ratio = torch.cos(torch.rand(B, 1, 1, generator=generator) * (pi / 2))
    noise = torch.rand(codes.shape, generator=generator)
    first = noise.flatten(1).argmin(dim=1)  # the guard against an empty mask
    mask = noise < ratio
    mask.view(B, -1)[torch.arange(B), first] = True
    mask = mask.to(codes.device)
    return torch.where(mask, mask_token, codes), mask


def masked_cross_entropy(logits: Tensor, codes: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, K, T, V) against codes (B, K, T) over the masked positions of the batch.

    The paper writes a sum inside an expectation; the mean over masked positions keeps its scale free of T and batch.
    """
    return F.cross_entropy(logits[mask].float(), codes[mask].long())


def drop_rows(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    """(B,) bool: examples whose condition is replaced by [NULL] (paper: 10 %)."""
    return torch.rand(batch, generator=generator) < probability


class AuxiliaryLosses(nn.Module):
    """MSE and contrastive terms on the encoder's output (Seq2Seq and Hybrid; paper, section 3.2.4).

    The target is Linear(BEATs(audio)), the bands averaged, brought to the encoder's length by the length adapter.
    `target_norm`: "layernorm" (default) compares both sides after a LayerNorm without affine, because the target's
    Linear is trained and would otherwise shrink to a constant; "none" is the paper's text taken literally.
    """

    def __init__(self, audio_dim: int, width: int, target_norm: str = "layernorm") -> None:
        super().__init__()
        if target_norm not in ("layernorm", "none"):
            raise ValueError(f"unknown target_norm {target_norm!r}; choose from layernorm, none")
        self.target_norm = target_norm
        self.projection = nn.Linear(audio_dim, width)
        self.log_temperature = nn.Parameter(torch.tensor(log(1 / 0.07)))

    def forward(
        self, sequence: Tensor, cls: Tensor, audio_features: Tensor, index: Tensor, keep: Tensor
    ) -> dict[str, Tensor]:
        """Encoder output (B, N, H) and [CLS] (B, H), audio features (B, A, 8, D), index (N,) int, keep (B,) bool.

        Rows that are not kept (dropped conditions) count in neither term.
        """
        target = self.projection(audio_features.mean(dim=2))  # (B, A, H)
        pooled = target.mean(dim=1)  # (B, H)
        target = target.index_select(1, index)  # (B, N, H)
        std = target.detach().flatten(0, 1).std(dim=0).mean()  # collapse shows here
        if self.target_norm == "layernorm":
            sequence, target = (F.layer_norm(x, x.shape[-1:]) for x in (sequence, target))
        error = (sequence - target).square().mean(dim=(1, 2))  # (B,)
        mse = (error * keep).sum() / keep.sum().clamp(min=1)
        return {"mse": mse, "contrastive": self.contrastive(cls[keep], pooled[keep]), "target_std": std}

    def contrastive(self, a: Tensor, b: Tensor) -> Tensor:
        """Symmetric InfoNCE (CLIP) between rows of a and b (B, H)."""
        if len(a) < 2:
            return a.sum() * 0
        scale = self.log_temperature.exp().clamp(max=100)
        logits = scale * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
        rows = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
