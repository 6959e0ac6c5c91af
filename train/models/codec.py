"""A small codec of frames (86.13 Hz) whose codes are known in minutes, and whose decoder is cheap enough for two cores.

Its codes have the format of DAC 44.1 kHz: hop 512, nine residual codebooks of 1,024 rows. The encoder is not trained by
gradients: it takes log-mel levels of every frame and the levels of its quarters, moves them to their principal axes,
and quantises these with codebooks found by k-means, one after the other (`fit`). So a frame's first codes say how it
sounds, and later ones refine that. An encoder that was trained with the decoder kept less of it in the same time
(docs/log.md, 2026-11-29).

Only the decoder is trained. Its blocks are ConvNeXt (arXiv 2201.03545), and inverse STFTs with overlap-add give the
waveform, as in Vocos (arXiv 2306.00814). It writes a long spectrum for each frame and a short one for each quarter of a
frame. The sound is multiplied by a volume curve, which the network writes, too: a sound in a window rises no faster
than the window, and many attacks are faster. Each spectrum is the sum of two parts:

- a part whose phase the network writes. In the long spectrum it runs on from frame to frame. If it began anew in each
  frame, a sound that stays the same would repeat after each hop, so it could only have multiples of 86 Hz.
- noise: the network writes its level, and a fixed table gives its phase. Wind, water or applause cannot be written by a
  network that gives the same spectrum for the same level: half of what a recording means was lost without this part
  (docs/log.md, 2026-11-29). A frame's codes choose its row of the table, so equal codes always give equal sound.

Axes: B batch, T token frames, C channels, F = fft // 2 + 1 bins, N = fft samples, L samples, D principal axes,
K codebooks, V rows of a codebook. Frame t is centred on sample t * hop + hop / 2, the contract's token grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import pi
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import exact_div
from train.models.mel import codec_bank, mel_filters

LEVEL_FLOOR = 2e-5  # added to mel magnitudes before the logarithm: the rounding noise of 16 bits
BLOCK_WEIGHT = 0.6  # of the levels of quarters, against those of frames
MAX_LOG_MAGNITUDE = 7.0  # a full-scale sine has log(1024) = 6.93
MAX_LOG_GAIN = 2.0
OVERLAP_GAIN = 1.5  # sum of squared Hann windows at three quarters of overlap
PERIOD = 4  # frames after which the running phase of every bin is where it was


@dataclass(frozen=True)
class FrameCodecConfig:
    sample_rate: int = 44100  # Hz
    hop_length: int = 512  # samples per token frame
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 64  # principal axes of the levels
    bands: int = 128  # mel bands of a frame
    block_bands: int = 4  # mel bands of each quarter of a hop
    latent: int = 256  # width of every layer and of the summed codes' embedding
    decoder_blocks: int = 6
    decoder_mlp: int = 704
    decoder_groups: int = 8  # groups of the decoder's first convolution
    kernel: int = 7  # frames
    noise_rows: int = 256  # rows of the table of noise phases
    gains: int = 16  # points of a frame's volume curve; none up to the fifth bundle

    @property
    def fft(self) -> int:
        return 4 * self.hop_length  # 2048 samples: three quarters of overlap, so squared Hann windows add to 1.5

    @property
    def bins(self) -> int:
        return self.fft // 2 + 1

    @property
    def short_bins(self) -> int:
        return self.hop_length // 2 + 1  # windows of one hop, a quarter of a hop apart

    @property
    def levels(self) -> int:
        return self.bands + 4 * self.block_bands


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
    """|STFT|^2 [..., F] of frames [..., N], Hann window; a matrix product during export."""
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


def running_phase(frames: int, bins: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin [frames, bins] of 2 pi k t hop / fft = k t quarter turns: a bin's phase at the centre of frame t."""
    t = torch.arange(frames, dtype=torch.int32, device=device)
    k = torch.arange(bins, dtype=torch.int32, device=device)
    turns = ((t[:, None] * k[None, :]) % PERIOD).float() * (2 * pi / PERIOD)
    return torch.cos(turns), torch.sin(turns)


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


class ResidualQuantizer(nn.Module):
    """K codebooks [V, D]: each quantises what those before it left over, to the nearest row."""

    codebook: Tensor

    def __init__(self, c: FrameCodecConfig) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(c.n_codebooks, c.codebook_size, c.codebook_dim))
        self.out = nn.Linear(c.codebook_dim, c.latent, bias=False)

    def table(self) -> Tensor:
        """The contribution of every code to the latent: [K, V, C]."""
        return self.out(self.codebook)

    def encode(self, x: Tensor) -> Tensor:
        """[B, T, D] -> codes int32 [B, K, T]."""
        codes = []
        for rows in self.codebook:
            code = nearest(x, rows)
            x = x - F.embedding(code, rows)
            codes.append(code)
        return torch.stack(codes, dim=1).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, T] -> latent [B, T, C]."""
        K, V, _ = self.codebook.shape
        offset = torch.arange(K, dtype=codes.dtype, device=codes.device)[:, None] * V
        return self.out(F.embedding(codes + offset, self.codebook.flatten(0, 1)).sum(dim=1))


def nearest(x: Tensor, rows: Tensor) -> Tensor:
    """Index [...] of the row of [V, D] with the smallest distance to x [..., D]."""
    return (x @ rows.T - rows.square().sum(dim=-1) / 2).argmax(dim=-1)


def k_means(x: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """`count` rows [count, D] for points x [N, D]: `rounds` of Lloyd's algorithm. A row without points moves to one."""
    rows = x[torch.randperm(len(x), generator=generator)[:count]].clone()
    for _ in range(rounds):
        own = torch.cat([nearest(part, rows) for part in x.split(8192)])
        sizes = torch.bincount(own, minlength=count)
        sums = torch.zeros_like(rows).index_add_(0, own, x)
        others = x[torch.randint(len(x), (count,), generator=generator)]
        rows = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp_min(1), others)
    return rows


class FrameCodec(nn.Module):
    """Waveform <-> codes. `encode` and `decode` are exported; `fit` and `forward` are for training."""

    ENCODING: ClassVar[tuple[str, ...]] = ("mean", "axes", "quantizer.codebook")  # all that codes depend on
    DECODING: ClassVar[tuple[str, ...]] = ("gains",)  # configuration that they do not depend on
    mean: Tensor
    axes: Tensor

    def __init__(self, config: FrameCodecConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or FrameCodecConfig()
        exact_div(c.latent, c.decoder_groups)
        if c.gains:
            exact_div(c.hop_length, c.gains)
        self.register_buffer("mean", torch.zeros(c.levels))
        self.register_buffer("axes", torch.randn(c.levels, c.codebook_dim) * c.levels**-0.5)
        self.quantizer = ResidualQuantizer(c)
        self.start = nn.Conv1d(c.latent, c.latent, c.kernel, padding=c.kernel // 2, groups=c.decoder_groups)
        self.decoder = nn.Sequential(
            nn.LayerNorm(c.latent),
            *(ConvNeXtBlock(c.latent, c.decoder_mlp, c.kernel, 1 / c.decoder_blocks) for _ in range(c.decoder_blocks)),
            nn.LayerNorm(c.latent),
        )
        self.head_sizes = 3 * [c.bins] + 3 * [4 * c.short_bins]  # log magnitude, phase and noise level; long, short
        if c.gains:
            self.head_sizes.append(c.gains)
        self.head = nn.Linear(c.latent, sum(self.head_sizes))
        with torch.no_grad():
            for quiet in (0, 2, 3, 5):
                self.head.bias.split(self.head_sizes)[quiet].fill_(-2.0)
            if c.gains:  # a volume of 1, so that a codec without gains goes on where it was
                self.head.weight[-c.gains :] = 0.0
                self.head.bias[-c.gains :] = 0.0
        phases = torch.randint(256, (c.noise_rows, 4 * c.short_bins), generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", phases.to(torch.uint8))  # of 256 steps of a turn; both spectra use them

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "FrameCodec":
        unknown = sorted(set(values) - {f.name for f in fields(FrameCodecConfig)})
        if unknown:
            raise ValueError(f"unknown configuration keys of the frame codec: {', '.join(unknown)}")
        return cls(FrameCodecConfig(**({"gains": 0} | values)))  # older configurations do not say it

    @property
    def context(self) -> int:
        """Token frames that a chunk needs on each side so that its middle equals decoding the whole.

        A multiple of PERIOD, so that a chunk that begins so far before another multiple has the phases of the whole.
        """
        c = self.config
        needed = (c.decoder_blocks + 1) * (c.kernel // 2) + 2  # 2: frames that overlap a token's samples
        return -(-needed // PERIOD) * PERIOD

    def embedding_table(self) -> Tensor:
        """Rows of all codebooks: [K, V, C]. The sum of a frame's rows is the decoder's input."""
        return self.quantizer.table()

    # ------------------------------------------------------------ encoder
    def levels(self, audio: Tensor) -> Tensor:
        """[B, L] -> log levels [B, ceil(L / hop), levels]; the end is padded with silence to a whole frame."""
        c = self.config
        hop, side = c.hop_length, exact_div(3 * c.hop_length, 2)  # frame 0 begins here before sample 0
        blocks = F.pad(audio, (side, side + hop - 1))
        blocks = blocks[:, : blocks.shape[1] // hop * hop].unflatten(1, (-1, hop))  # [B, T + 3, hop]
        n = blocks.shape[1] - 3
        frames = torch.cat([blocks[:, i : i + n] for i in range(4)], dim=-1)  # [B, T, fft]
        quarter = hop // 4
        first = c.fft // 2 - 5 * quarter // 2  # quarters are windows of two quarters of a hop
        parts = [frames[..., first + i * quarter : first + (i + 2) * quarter] for i in range(4)]
        of_frame = self._log_mel(frames, c.bands)
        of_quarters = self._log_mel(torch.stack(parts, dim=-2), c.block_bands).flatten(-2)
        return torch.cat([of_frame, BLOCK_WEIGHT * of_quarters], dim=-1)

    def _log_mel(self, frames: Tensor, bands: int) -> Tensor:
        """log10 of mel magnitudes [..., bands] of frames [..., N]."""
        bank = codec_bank(self.config.sample_rate, frames.shape[-1], bands)
        if torch.compiler.is_exporting():  # computed by the graph, as the Fourier basis is
            filters = mel_filters(bank, torch, "float32", device=frames.device)
        else:
            filters = torch.from_numpy(mel_filters(bank)).to(frames)
        return torch.log10((power_spectrum(frames) + 1e-18).sqrt() @ filters + LEVEL_FLOOR)

    def projected(self, audio: Tensor) -> Tensor:
        """[B, L] -> levels on their principal axes [B, T, D], before quantisation."""
        return (self.levels(audio) - self.mean) @ self.axes

    @torch.no_grad()
    def fit(self, levels: Tensor, rounds: int, generator: torch.Generator) -> list[float]:
        """Find axes and codebooks for levels [N, levels] of recordings, N at least the codebook's size.

        Returns the mean absolute error of a level after each codebook. Values are rounded to fp16, as in a bundle.
        Raises ValueError if there are fewer frames than rows of a codebook.
        """
        c = self.config
        if len(levels) < c.codebook_size:
            raise ValueError(
                f"{len(levels)} frames cannot fill codebooks of {c.codebook_size} rows; give at least as many"
            )
        self.mean.copy_(levels.mean(dim=0).half())
        centred = levels - self.mean
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        self.axes.copy_(vectors.flip(1)[:, : c.codebook_dim].half())
        rest, errors = centred @ self.axes, []
        for rows in self.quantizer.codebook:
            rows.copy_(k_means(rest, len(rows), rounds, generator).half())
            own = torch.cat([nearest(part, rows) for part in rest.split(8192)])
            rest = rest - rows[own]
            errors.append(float((rest @ self.axes.T)[:, : c.bands].abs().mean()))
        return errors

    # ------------------------------------------------------------ decoder
    def rows_of(self, codes: Tensor) -> Tensor:
        """The row of the noise table for each frame of codes [B, K, T]: int64 [B, T]. Another code gives another row.

        The frame's number modulo PERIOD takes part, so that codes that stay do not repeat after each hop.
        """
        _, K, T = codes.shape
        factors = 2 * torch.arange(50, 50 + K, device=codes.device) + 1  # odd, so each code moves the row
        turns = torch.arange(T, device=codes.device) % PERIOD
        return ((codes * factors[:, None]).sum(dim=1) + 97 * turns) % self.config.noise_rows

    def spectra(self, latent: Tensor) -> tuple[Tensor, ...]:
        """[B, T, C] -> log magnitude, phase and noise level of the long spectra, each [B, T + 2 PERIOD, F].

        Then the same of the short ones, each [B, T + 2 PERIOD, 4 * short bins], and, if the codec has a volume curve,
        its log gains [B, T + 2 PERIOD, gains]. The extra frames past each end make the windows add up there.
        """
        x = self.start(F.pad(latent, (0, 0, PERIOD, PERIOD)).transpose(1, 2)).transpose(1, 2)
        return self.head(self.decoder(x)).float().split(self.head_sizes, dim=-1)

    def synthesise(self, spectra: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """Spectra of `spectra` and rows of the noise table [B, T] -> [B, T * hop]."""
        hop, (level, phase, noise, short_level, short_phase, short_noise, *gains) = self.config.hop_length, spectra
        angle = self.noise[F.pad(rows, (PERIOD, PERIOD))].float() * (2 * pi / 256)  # [B, T + 8, 4 * short bins]
        cos, sin = torch.cos(angle), torch.sin(angle)
        run = running_phase(level.shape[1], level.shape[2], level.device)
        bins = self.config.bins
        real, imag = polar(level, torch.cos(phase), torch.sin(phase))
        real, imag = real * run[0] - imag * run[1], real * run[1] + imag * run[0]
        noise_real, noise_imag = polar(noise, cos[..., :bins], sin[..., :bins])
        long = _waveform(real + noise_real, imag + noise_imag, hop)
        real, imag = polar(short_level, torch.cos(short_phase), torch.sin(short_phase))
        noise_real, noise_imag = polar(short_noise, cos, sin)
        quarters = (part.unflatten(-1, (4, -1)).flatten(1, 2) for part in (real + noise_real, imag + noise_imag))
        sound = long + _waveform(*quarters, hop // 4)
        if gains:
            sound = sound * volume(gains[0], hop)
        return sound[:, PERIOD * hop : -PERIOD * hop]

    def encode(self, audio: Tensor) -> Tensor:
        """Audio float32 [B, L] in [-1, 1] -> codes int32 [B, K, ceil(L / hop)]."""
        return self.quantizer.encode(self.projected(audio))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes int32 [B, K, T] -> audio [B, T * hop]."""
        return self.synthesise(self.spectra(self.quantizer.decode(codes)), self.rows_of(codes))

    def forward(self, audio: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
        """Audio [B, L] through all codebooks, once for each of `rows` [B, T] of the noise table, modulo its size.

        L is a multiple of the hop.
        """
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):  # codes need float32
            codes = self.encode(audio)
        spectra = self.spectra(self.quantizer.decode(codes))
        return [self.synthesise(spectra, own % self.config.noise_rows) for own in rows]


def volume(gains: Tensor, hop: int) -> Tensor:
    """Log gains [B, T, G], evenly spaced from each frame's first sample -> gains [B, T * hop], linear in between."""
    spacing = exact_div(hop, gains.shape[-1])
    points = torch.exp(gains.clamp(max=MAX_LOG_GAIN)).flatten(1)
    following = torch.cat([points[:, 1:], points[:, -1:]], dim=1)
    share = torch.arange(spacing, dtype=torch.float32, device=gains.device) / spacing
    return (points[..., None] * (1 - share) + following[..., None] * share).flatten(1)


def polar(level: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of a spectrum with these log magnitudes."""
    magnitude = torch.exp(level.clamp(max=MAX_LOG_MAGNITUDE))
    return magnitude * cos, magnitude * sin


def _waveform(real: Tensor, imag: Tensor, hop: int) -> Tensor:
    """Spectra [B, T, F] of windows of four hops -> [B, T * hop]; window t is centred on t * hop + hop / 2."""
    side = exact_div(3 * hop, 2)
    return overlap_add(inverse_spectrum(real, imag) / OVERLAP_GAIN, hop)[:, side:-side]
