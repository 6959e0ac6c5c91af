"""A small neural codec whose layers all run at the frame rate (86.13 Hz): cheap enough to train on two cores.

Its codes have the format of DAC 44.1 kHz: hop 512, nine factorised cosine codebooks of 1,024 rows with 8 dimensions.
Fixed spectral bases take the place of DAC's strided convolutions, as in Vocos (arXiv 2306.00814). The encoder reads a
log-magnitude spectrum and the raw samples of every frame. The decoder writes magnitude and phase, and an inverse STFT
with overlap-add gives the waveform. Blocks are ConvNeXt (arXiv 2201.03545); quantisers are as in DAC (arXiv 2306.06546,
section 3.2).

Axes: B batch, T token frames, C channels, F = fft // 2 + 1 bins, N = fft samples, K codebooks. Frame t is centred on
sample t * hop + hop / 2, the contract's token grid.
"""

from dataclasses import dataclass, fields
from math import pi
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import exact_div

MAGNITUDE_FLOOR = 2e-4  # floor of the encoder's log spectrum: the rounding noise of 16 bits, so that quiet tails count
LEVEL_FLOOR = 1e-3  # floor in the normalisation of the encoder's samples: -60 dBFS
MAX_LOG_MAGNITUDE = 7.0  # a full-scale sine has log(1024) = 6.93
OVERLAP_GAIN = 1.5  # sum of squared Hann windows at three quarters of overlap


@dataclass(frozen=True)
class FrameCodecConfig:
    sample_rate: int = 44100  # Hz
    hop_length: int = 512  # samples per token frame
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 8
    latent: int = 256  # width of every layer and of the summed RVQ embedding
    encoder_blocks: int = 3
    encoder_mlp: int = 512
    decoder_blocks: int = 6
    decoder_mlp: int = 704
    decoder_groups: int = 8  # groups of the decoder's first convolution
    kernel: int = 7  # frames

    @property
    def fft(self) -> int:
        return 4 * self.hop_length  # 2048 samples: three quarters of overlap, so squared Hann windows add to 1.5

    @property
    def bins(self) -> int:
        return self.fft // 2 + 1


# ---------------------------------------------------------------- fixed bases, computed where they are used
def hann(size: int, device: torch.device | None = None) -> Tensor:
    """Periodic Hann window [size]."""
    return 0.5 - 0.5 * torch.cos(torch.arange(size, dtype=torch.float32, device=device) * (2 * pi / size))


def fourier_basis(size: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin [size, F] of 2 pi k (n - size / 2) / size: phase is measured at the frame's centre.

    The integer product is reduced modulo `size` first, so float32 angles stay exact. Exported files do not store it.
    """
    n = torch.arange(size, dtype=torch.int32, device=device) + size // 2  # - size / 2 modulo size
    k = torch.arange(size // 2 + 1, dtype=torch.int32, device=device)
    angle = ((n[:, None] * k[None, :]) % size).float() * (2 * pi / size)
    return torch.cos(angle), torch.sin(angle)


def power_spectrum(frames: Tensor) -> Tensor:
    """|STFT|^2 [B, T, F] of frames [B, T, N], Hann window; a matrix product during export."""
    size, device = frames.shape[-1], frames.device
    frames = frames * hann(size, device)
    if torch.compiler.is_exporting():
        cos, sin = fourier_basis(size, device)
        return (frames @ cos).square() + (frames @ sin).square()
    spectrum = torch.fft.rfft(frames)
    return spectrum.real.square() + spectrum.imag.square()


def inverse_spectrum(real: Tensor, imag: Tensor) -> Tensor:
    """Real frames [B, T, N] of a half spectrum [B, T, F] whose phase is measured at the frame's centre, windowed."""
    size, device = 2 * (real.shape[-1] - 1), real.device
    k = torch.arange(size // 2 + 1, dtype=torch.int32, device=device)
    if torch.compiler.is_exporting():
        cos, sin = fourier_basis(size, device)
        weight = 2.0 - (k % (size // 2) == 0).float()  # bins 0 and N / 2 have no mirror image
        frames = (real * weight) @ cos.T - (imag * weight) @ sin.T
        return frames * (hann(size, device) / size)
    sign = 1.0 - 2.0 * (k % 2).float()  # moves the time origin to the centre of the frame
    return torch.fft.irfft(torch.complex(real * sign, imag * sign), n=size) * hann(size, device)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """[B, T, 4 hop] -> [B, (T + 3) hop]: shifted sums of the four quarters (no scatter, no transposed convolution)."""
    quarters = [F.pad(q, (0, 0, i, 3 - i)) for i, q in enumerate(frames.split(hop, dim=-1))]
    return (quarters[0] + quarters[1] + quarters[2] + quarters[3]).flatten(1)


# ---------------------------------------------------------------- layers
class ConvNeXtBlock(nn.Module):
    """x + scale * MLP(LayerNorm(depthwise convolution(x))), channels last: [B, T, C] -> [B, T, C]."""

    def __init__(self, width: int, hidden: int, kernel: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return x + self.scale * self.down(F.gelu(self.up(h)))


class Quantized(NamedTuple):
    """The output of the residual quantiser in training."""

    latent: Tensor  # [B, T, C], with the straight-through gradient
    codes: Tensor  # int64 [B, K, T]
    projected: Tensor  # [B, K, T, 8] before quantisation, detached
    codebook_loss: Tensor  # moves rows to encodings
    commitment_loss: Tensor  # moves encodings to rows


class ResidualQuantizer(nn.Module):
    """K factorised quantisers: project to 8-d, take the row of largest cosine, project back, continue with the rest."""

    usage: Tensor

    def __init__(self, c: FrameCodecConfig) -> None:
        super().__init__()
        K, D, C = c.n_codebooks, c.codebook_dim, c.latent
        self.in_weight = nn.Parameter(torch.randn(K, C, D) * C**-0.5)
        self.in_bias = nn.Parameter(torch.zeros(K, D))
        self.codebook = nn.Parameter(torch.randn(K, c.codebook_size, D))
        self.out_weight = nn.Parameter(torch.randn(K, D, C) * D**-0.5)
        self.out_bias = nn.Parameter(torch.zeros(K, C))
        self.register_buffer(
            "usage", torch.zeros(K, c.codebook_size)
        )  # moving average of each row's share of use, for `revive`

    def table(self) -> Tensor:
        """The contribution of every code to the latent: [K, V, C]."""
        return self.codebook @ self.out_weight + self.out_bias[:, None]

    def nearest(self, k: int, e: Tensor) -> Tensor:
        """Index [B, T] of the row with the largest cosine to e [B, T, 8]; the length of e does not matter."""
        return (e @ F.normalize(self.codebook[k], dim=-1).T).argmax(-1)

    def project_out(self, k: int, p: Tensor) -> Tensor:
        return p @ self.out_weight[k] + self.out_bias[k]

    def encode(self, z: Tensor) -> Tensor:
        """[B, T, C] -> codes int32 [B, K, T]."""
        codes = []
        for k in range(len(self.codebook)):
            code = self.nearest(k, z @ self.in_weight[k] + self.in_bias[k])
            z = z - self.project_out(k, F.embedding(code, self.codebook[k]))
            codes.append(code)
        return torch.stack(codes, dim=1).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, T] -> latent [B, T, C]."""
        K, V, _ = self.codebook.shape
        offset = torch.arange(K, dtype=codes.dtype, device=codes.device)[:, None] * V
        rows = F.embedding(codes + offset, self.codebook.flatten(0, 1))  # [B, K, T, 8]
        rows = rows.transpose(1, 2).flatten(2)  # [B, T, K * 8]
        return rows @ self.out_weight.flatten(0, 1) + self.out_bias.sum(0)

    def forward(self, z: Tensor, levels: Tensor) -> Quantized:
        """Quantise z [B, T, C] with the first levels[b] codebooks (quantiser dropout; DAC, section 3.2)."""
        residual, total = z, torch.zeros_like(z)
        codes, projected = [], []
        codebook_loss = commitment_loss = z.new_zeros(())
        for k in range(len(self.codebook)):
            used = (levels > k).to(z.dtype)[:, None, None]  # [B, 1, 1]
            e = residual @ self.in_weight[k] + self.in_bias[k]
            code = self.nearest(k, e.detach())
            p = F.embedding(code, self.codebook[k])
            commitment_loss = commitment_loss + (used * (e - p.detach()).square()).mean()
            codebook_loss = codebook_loss + (used * (p - e.detach()).square()).mean()
            q = self.project_out(k, e + (p - e).detach())
            total = total + used * q
            residual = residual - q
            codes.append(code)
            projected.append(e.detach())
        return Quantized(total, torch.stack(codes, 1), torch.stack(projected, 1), codebook_loss, commitment_loss)

    @torch.no_grad()
    def revive(self, batch: Quantized, generator: torch.Generator, threshold: float, decay: float = 0.99) -> int:
        """Count the use of each row; move rows used less than `threshold` of a fair share to encodings of the batch.

        The first call moves every row. Returns the number of rows moved.
        """
        K, V, D = self.codebook.shape
        first, moved = not bool(self.usage.any()), 0
        for k in range(K):
            share = torch.bincount(batch.codes[:, k].flatten(), minlength=V).float()
            share = share * (V / share.sum())
            self.usage[k] = torch.ones_like(share) if first else decay * self.usage[k] + (1 - decay) * share
            dead = torch.arange(V, device=share.device) if first else (self.usage[k] < threshold).nonzero().flatten()
            if len(dead):
                points = batch.projected[:, k].reshape(-1, D)
                picked = points[torch.randint(len(points), (len(dead),), generator=generator).to(points.device)]
                noise = torch.randn(picked.shape, generator=generator).to(points.device) * (0.05 * points.std())
                self.codebook[k, dead] = picked.float() + noise
                self.usage[k, dead] = 1.0
                moved += len(dead)
        return moved


class FrameCodec(nn.Module):
    """Waveform <-> codes. `encode` and `decode` are exported; `forward` is for training."""

    def __init__(self, config: FrameCodecConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or FrameCodecConfig()
        exact_div(c.latent, c.decoder_groups)
        self.input = nn.Linear(c.bins + c.fft // 2, c.latent)
        self.encoder = nn.Sequential(
            *(ConvNeXtBlock(c.latent, c.encoder_mlp, c.kernel, 1 / c.encoder_blocks) for _ in range(c.encoder_blocks)),
            nn.LayerNorm(c.latent),
        )
        self.quantizer = ResidualQuantizer(c)
        self.start = nn.Conv1d(c.latent, c.latent, c.kernel, padding=c.kernel // 2, groups=c.decoder_groups)
        self.decoder = nn.Sequential(
            nn.LayerNorm(c.latent),
            *(ConvNeXtBlock(c.latent, c.decoder_mlp, c.kernel, 1 / c.decoder_blocks) for _ in range(c.decoder_blocks)),
            nn.LayerNorm(c.latent),
        )
        self.head = nn.Linear(c.latent, 2 * c.bins)
        with torch.no_grad():
            self.head.bias[: c.bins].fill_(-1.0)  # a quiet start

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "FrameCodec":
        unknown = sorted(set(values) - {f.name for f in fields(FrameCodecConfig)})
        if unknown:
            raise ValueError(f"unknown configuration keys of the frame codec: {', '.join(unknown)}")
        return cls(FrameCodecConfig(**values))

    @property
    def context(self) -> int:
        """Token frames that a chunk needs on each side so that its middle equals decoding the whole."""
        c = self.config
        return (c.decoder_blocks + 1) * (c.kernel // 2) + 2  # 2: frames that overlap a token's samples

    def embedding_table(self) -> Tensor:
        """Rows of all codebooks: [K, V, C]. The sum of a frame's rows is the decoder's input."""
        return self.quantizer.table()

    def latent(self, audio: Tensor) -> Tensor:
        """[B, L] -> [B, ceil(L / hop), C] before quantisation; the end is padded with silence to a whole frame."""
        hop = self.config.hop_length
        side = exact_div(3 * hop, 2)  # frame 0 begins here before sample 0
        blocks = F.pad(audio, (side, side + hop - 1))
        blocks = blocks[:, : blocks.shape[1] // hop * hop].unflatten(1, (-1, hop))  # [B, T + 3, hop]
        n = blocks.shape[1] - 3
        frames = torch.cat([blocks[:, i : i + n] for i in range(4)], dim=-1)  # [B, T, fft]
        spectrum = 0.5 * torch.log10(power_spectrum(frames) + MAGNITUDE_FLOOR**2)  # [B, T, bins]
        samples = frames[..., hop : 3 * hop]
        samples = samples * torch.rsqrt(samples.square().mean(-1, keepdim=True) + LEVEL_FLOOR**2)
        return self.encoder(self.input(torch.cat([spectrum, samples], dim=-1)))

    def waveform(self, latent: Tensor) -> Tensor:
        """[B, T, C] -> [B, T * hop]. Two extra frames past each end make the windows add up there."""
        c = self.config
        side = exact_div(3 * c.hop_length, 2) + 2 * c.hop_length
        x = self.start(F.pad(latent, (0, 0, 2, 2)).transpose(1, 2)).transpose(1, 2)  # [B, T + 4, C]
        magnitude, phase = self.head(self.decoder(x)).float().split(c.bins, dim=-1)  # [B, T + 4, bins]
        magnitude = torch.exp(magnitude.clamp(max=MAX_LOG_MAGNITUDE))
        frames = inverse_spectrum(magnitude * torch.cos(phase), magnitude * torch.sin(phase)) / OVERLAP_GAIN
        return overlap_add(frames, c.hop_length)[:, side:-side]

    def encode(self, audio: Tensor) -> Tensor:
        """Audio float32 [B, L] in [-1, 1] -> codes int32 [B, K, ceil(L / hop)]."""
        return self.quantizer.encode(self.latent(audio))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes int32 [B, K, T] -> audio [B, T * hop]."""
        return self.waveform(self.quantizer.decode(codes))

    def forward(self, audio: Tensor, levels: Tensor) -> tuple[Tensor, Quantized]:
        """Audio [B, L] through the first levels[b] codebooks; L is a multiple of the hop."""
        latent = self.latent(audio)
        with torch.autocast(latent.device.type, enabled=False):  # look-ups and their losses need float32
            quantized = self.quantizer(latent.float(), levels)
        return self.waveform(quantized.latent), quantized
