"""SCAV, the sequential contrastive audio-visual model that picks the best of several candidates (arXiv 2407.05782).

Its code and weights are not public, so this is our own version of the description: two Transformers over frozen
encoders, brought to a common number of steps and compared step by step. MaskVAT's section 3.2.4 describes its use.

Axes: B batch, N frames, A audio steps, 8 frequency patches, H width.
"""

from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.loading import read_config


@dataclass(frozen=True)
class SCAVConfig:
    frame_dim: int = 512
    audio_dim: int = 768
    bands: int = 8
    dim: int = 512
    layers: int = 2
    heads: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(f"dim {self.dim} must be even and a multiple of heads {self.heads}")


BUNDLED = SCAVConfig(frame_dim=1280, audio_dim=96, dim=64, heads=4)


def sinusoids(n: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoidal positions [n, dim]: sines of dim / 2 frequencies, then their cosines."""
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=device, dtype=torch.float32) * (-log(10000.0) / half))
    angle = torch.arange(n, device=device, dtype=torch.float32)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Block(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, config: SCAVConfig) -> None:
        super().__init__()
        self.heads, dim = config.heads, config.dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1) @ v  # (B, heads, n, d)
        x = x + self.dropout(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class SCAV(nn.Module):
    """Embeds video and audio features as two sequences of equal length; a small distance means that they match."""

    def __init__(self, config: SCAVConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        self.video_in = nn.Linear(config.frame_dim, config.dim)
        self.audio_in = nn.Linear(config.audio_dim, config.dim)
        self.band_position = nn.Parameter(torch.randn(config.bands, config.dim) * 0.02)
        self.video_blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.audio_blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.log_temperature = nn.Parameter(torch.tensor(log(0.1)))

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "SCAV":
        return cls(read_config(SCAVConfig, values))

    def normalise(self, x: Tensor) -> Tensor:
        """LayerNorm without weights. It bounds distances, so that large embeddings are no advantage."""
        return F.layer_norm(x, (self.dim,))

    def video(self, frame_features: Tensor, interpolation: Tensor) -> Tensor:
        """frame_features [B, N, frame_dim], interpolation [A, N] -> [B, A, H]; row a of the matrix weights frames."""
        frames = frame_features * self.config.frame_dim**0.5  # features have length 1: positions would dominate
        x = self.video_in(frames) + sinusoids(frame_features.shape[1], self.dim, frame_features.device)
        return self.normalise(interpolation @ self.video_blocks(x))

    def audio(self, audio_features: Tensor) -> Tensor:
        """audio_features [B, A, 8, audio_dim] -> [B, A, 8, H]; attention runs over all A * 8 patches."""
        time = sinusoids(audio_features.shape[1], self.dim, audio_features.device)[:, None]  # (A, 1, H)
        x = self.audio_in(audio_features) + time + self.band_position
        return self.normalise(self.audio_blocks(x.flatten(1, 2)).unflatten(1, (-1, self.config.bands)))

    def forward(self, frame_features: Tensor, audio_features: Tensor, interpolation: Tensor) -> tuple[Tensor, Tensor]:
        return self.video(frame_features, interpolation), self.audio(audio_features)

    def temperature(self) -> Tensor:
        return self.log_temperature.exp().clamp(min=0.01)


def distances(video: Tensor, audio: Tensor) -> Tensor:
    """Distance [Bv, Ba] of every video [Bv, A, H] to every audio [Ba, A, 8, H].

    sqrt(mean over steps and bands of |v - a|^2 / H): the root of the MSE in MaskVAT's section 3.2.4, with the video
    repeated over the bands. Expanded as |v|^2 + |a|^2 - 2 v a, so that no tensor [Bv, Ba, A, 8, H] is needed.
    """
    v2 = video.square().mean(dim=(1, 2))[:, None]
    a2 = audio.square().mean(dim=(1, 2, 3))
    va = video.flatten(1) @ audio.mean(dim=2).flatten(1).T / (video.shape[1] * video.shape[2])
    return (v2 + a2 - 2 * va).clamp(min=0).add(1e-8).sqrt()


def pooled(video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Replace both sequences by their means over time, [Bv, 1, H] and [Ba, 1, 8, H], and normalise again.

    SCAV is compared with this baseline: the same networks, but a distance that does not depend on the order in time.
    """
    means = (video.mean(dim=1, keepdim=True), audio.mean(dim=1, keepdim=True))
    return F.layer_norm(means[0], means[0].shape[-1:]), F.layer_norm(means[1], means[1].shape[-1:])


def contrastive_loss(distance: Tensor, temperature: Tensor) -> Tensor:
    """Symmetric cross-entropy over rows and columns of -distance / temperature; video i matches audio i."""
    logits = -distance / temperature
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def recalls(distance: Tensor) -> dict[str, float]:
    """Recall at 1, 5 and 10: of the right sound for a video (sound_r1, ...) and of the right video for a sound."""
    numbers = {}
    for name, table in (("sound", distance), ("video", distance.T)):
        rank = (table < table.diagonal()[:, None]).sum(dim=1)
        numbers |= {f"{name}_r{k}": (rank < k).float().mean().item() for k in (1, 5, 10)}
    return numbers
