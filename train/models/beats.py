"""BEATs, the audio encoder (arXiv 2212.09058): waveform in, sequence of features out. SCAV and MaskVAT's auxiliary
losses use it.

The Kaldi filter bank is part of the module. Names are those of the official state dict. Sizes are parameters: one class
serves the official weights and the narrow network of the bundled model.

Axes: B batch, L samples at 16 kHz, A steps of 0.16 s, 8 frequency patches, D width.
"""

from dataclasses import dataclass
from math import log, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.loading import WeightsError, fold_weight_norm, load_strict, read_config, read_file, read_state
from train.models.mel import BEATS, mel_filters

RATE, FFT = BEATS.rate, BEATS.fft
FRAME, HOP = 400, 160  # samples
PREEMPHASIS = 0.97
FLOOR = 1.1920929e-07  # float32 epsilon, as Kaldi floors energies
MEAN, STD = 15.41663, 6.55582  # log energies of AudioSet; the official code divides by twice STD
PATCH, BANDS = 16, 8  # 128 mel bins / 16


def fourier_kernel(device: torch.device) -> Tensor:
    """Povey's window times a DFT of one frame [512, 400]: cosines of bins 0 to 255, then their sines.

    It is computed from integers, so an exported file need not store it.
    """
    n = torch.arange(FRAME, device=device)
    window = (0.5 - 0.5 * torch.cos(n * (2 * pi / (FRAME - 1)))) ** 0.85
    phase = (torch.arange(FFT // 2, device=device)[:, None] * n % FFT) * (2 * pi / FFT)  # exact: integers modulo 512
    return torch.cat([torch.cos(phase), torch.sin(phase)]) * window


def fbank(audio: Tensor) -> Tensor:
    """Log mel energies as in Kaldi: audio [B, L] in [-1, 1] at 16 kHz -> [B, 1 + (L - 400) // 160, 128].

    Kaldi subtracts each frame's mean m and then applies y[n] = x[n] - 0.97 x[n-1]. This equals pre-emphasis of the
    whole signal minus 0.03 m. The first sample of a frame has no predecessor, but the window is 0 there. The mean of
    the whole signal is subtracted first, which only reduces rounding errors.
    """
    audio = (audio - audio.mean(dim=1, keepdim=True)) * 2.0**15
    emphasised = audio - PREEMPHASIS * F.pad(audio[:, :-1], (1, 0))
    kernel = fourier_kernel(audio.device)
    means = F.avg_pool1d(audio[:, None], FRAME, HOP)  # (B, 1, frames)
    spectrum = F.conv1d(emphasised[:, None], kernel[:, None], stride=HOP)  # (B, 512, frames)
    spectrum = spectrum - (1 - PREEMPHASIS) * kernel.sum(dim=1)[:, None] * means
    real, imaginary = spectrum.chunk(2, dim=1)
    energies = (real * real + imaginary * imaginary).transpose(1, 2)
    # made with torch, so that an exported file need not store the bank
    mel = energies @ mel_filters(BEATS, torch, "float32", device=audio.device)
    return torch.log(mel.clamp(min=FLOOR))


@dataclass(frozen=True)
class BEATsConfig:
    embed_dim: int = 512  # width of a patch embedding
    dim: int = 768
    layers: int = 12
    heads: int = 12
    ffn_dim: int = 3072
    conv_pos: int = 128  # taps of the positional convolution
    conv_pos_groups: int = 16
    num_buckets: int = 320  # buckets of the relative position bias
    max_distance: int = 800


OFFICIAL = {  # name in an official file's cfg -> ours
    "embed_dim": "embed_dim",
    "encoder_embed_dim": "dim",
    "encoder_layers": "layers",
    "encoder_attention_heads": "heads",
    "encoder_ffn_embed_dim": "ffn_dim",
    "conv_pos": "conv_pos",
    "conv_pos_groups": "conv_pos_groups",
    "num_buckets": "num_buckets",
    "max_distance": "max_distance",
}
BUILT = {  # fields of an official cfg that this class supports with one value only
    "layer_norm_first": False,
    "deep_norm": True,
    "gru_rel_pos": True,
    "relative_position_embedding": True,
    "input_patch_size": PATCH,
}
BUNDLED = BEATsConfig(embed_dim=64, dim=96, layers=2, heads=4, ffn_dim=384, conv_pos=32)


def position_buckets(n: int, config: BEATsConfig, device: torch.device) -> Tensor:
    """Bucket ids [n, n] of key - query: exact for near positions, then logarithmic; positive ones in the upper half."""
    position = torch.arange(n, device=device)
    distance = position[None, :] - position[:, None]
    half = config.num_buckets // 2
    exact = half // 2
    size = distance.abs()
    # clamp before the log, because this branch is computed for near positions too
    ratio = torch.log(size.clamp(min=exact).float() / exact) / log(config.max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + half * (distance > 0).long()


class SelfAttention(nn.Module):
    """Attention whose relative position bias is gated by the query (gated relative position bias of WavLM)."""

    def __init__(self, config: BEATsConfig, owns_bias: bool) -> None:
        super().__init__()
        self.heads = config.heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(config.dim, config.dim))
        self.grep_linear = nn.Linear(config.dim // config.heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, config.heads, 1, 1))
        if owns_bias:  # in layer 0 only; all layers share it
            self.relative_attention_bias = nn.Embedding(config.num_buckets, config.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))  # (B, heads, n, d)
        gates = torch.sigmoid(self.grep_linear(q).unflatten(-1, (2, 4)).sum(-1))  # (B, heads, n, 2), of the unscaled q
        gate = gates[..., :1] * (gates[..., 1:] * self.grep_a - 1.0) + 2.0
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + gate * bias
        y = logits.softmax(dim=-1) @ v
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Post-norm Transformer layer; residuals are scaled up by DeepNorm's alpha."""

    def __init__(self, config: BEATsConfig, owns_bias: bool) -> None:
        super().__init__()
        self.alpha = (2 * config.layers) ** 0.25
        self.self_attn = SelfAttention(config, owns_bias)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim)
        self.final_layer_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x * self.alpha + self.self_attn(x, bias))
        return self.final_layer_norm(x * self.alpha + self.fc2(F.gelu(self.fc1(x))))


class Encoder(nn.Module):
    """Positional convolution, then the layers."""

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        self.config, taps = config, config.conv_pos
        conv = nn.Conv1d(config.dim, config.dim, taps, padding=taps // 2, groups=config.conv_pos_groups)
        self.pos_conv = nn.Sequential(conv)  # the even kernel gives one step too many, which forward drops
        self.layer_norm = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(Layer(config, owns_bias=i == 0) for i in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        position = F.gelu(self.pos_conv(x.transpose(1, 2))[:, :, :n]).transpose(1, 2)
        x = self.layer_norm(x + position)
        embedding = self.layers[0].self_attn.relative_attention_bias
        bias = embedding(position_buckets(n, self.config, x.device)).permute(2, 0, 1)  # (heads, n, n)
        for layer in self.layers:
            x = layer(x, bias)
        return x


class BEATs(nn.Module):
    """audio [B, L] at 16 kHz in [-1, 1] -> features [B, A, 8, D]; A = (1 + (L - 400) // 160) // 16: 62 for 10 s."""

    rate = RATE
    bands = BANDS

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        self.config, self.dim = config, config.dim
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, PATCH, PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Identity()
        if config.embed_dim != config.dim:
            self.post_extract_proj = nn.Linear(config.embed_dim, config.dim)
        self.encoder = Encoder(config)

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "BEATs":
        return cls(read_config(BEATsConfig, values))

    def forward(self, audio: Tensor) -> Tensor:
        return self.encode(fbank(audio))

    def encode(self, log_mel: Tensor) -> Tensor:
        """Output of `fbank` [B, frames, 128] -> features [B, frames // 16, 8, D]."""
        x = (log_mel - MEAN) / (2 * STD)
        x = self.patch_embedding(x[:, None]).flatten(2).transpose(1, 2)  # (B, A * 8, embed), time-major
        x = self.encoder(self.post_extract_proj(self.layer_norm(x)))
        return x.unflatten(1, (-1, BANDS))  # (B, A, 8, D)

    def load_official(self, path: str | Path, sha256: str | None = None) -> None:
        """Load the weights of an official BEATs file ({"cfg", "model"}, MIT) that has this module's sizes."""
        load_strict(self, convert_official(read_state(path, sha256)), path)

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "BEATs":
        """Build a network, in eval mode, with the sizes and weights of an official BEATs file.

        Raises WeightsError for a file of another kind.
        """
        cfg = read_file(path).get("cfg", {})
        if other := [f"{name} {cfg[name]}" for name, value in BUILT.items() if cfg.get(name, value) != value]:
            raise WeightsError(
                f"{path} holds another kind of BEATs ({', '.join(other)}); give a published file, such as "
                "BEATs_iter3_plus_AS2M.pt"
            )
        network = cls(BEATsConfig(**{ours: cfg[theirs] for theirs, ours in OFFICIAL.items() if theirs in cfg}))
        network.load_official(path, sha256)
        return network.eval()


def convert_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert an official state dict: fold weight norm, drop the classifier and the copies of the shared bias."""
    shared = "self_attn.relative_attention_bias.weight"
    own = f"encoder.layers.0.{shared}"
    out = fold_weight_norm(state, axis=2)
    for name in list(out):
        if name.endswith(shared) and name != own:
            if own in out and not torch.equal(out[name], out[own]):
                raise WeightsError(f"{name} differs from {own}: layers with a bias of their own are not supported")
            del out[name]
        elif name.startswith("predictor."):
            del out[name]
    return out
