"""Discriminators of the codec's adversarial stage: small versions of DAC's (arXiv 2306.06546, section 3.3).

Period discriminators see the waveform folded to [L / p, p] (HiFi-GAN). Scale discriminators see complex spectra of
several window lengths. Losses are least squares with feature matching, as in DAC.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

PERIODS = (2, 5, 11)
FFT_SIZES = (512, 1024, 2048)


def _stack(channels: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> nn.ModuleList:
    """Strided convolutions through `channels`, then one to a single channel; LeakyReLU is applied between them."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    pairs = pairwise(channels)
    layers: list[nn.Module] = [nn.Conv2d(a, b, kernel, stride, padding) for a, b in pairs]
    return nn.ModuleList([*layers, nn.Conv2d(channels[-1], 1, 3, padding=1)])


@dataclass(frozen=True)
class Adversary:
    """Losses of the codec against the discriminators, and of the discriminators."""

    generator: Tensor
    features: Tensor
    discriminator: Tensor


class Discriminators(nn.Module):
    """Audio [B, L] -> outputs of all layers of each discriminator; the last one is its verdict."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.periods = nn.ModuleList(
            _stack((1, width, 3 * width, 8 * width, 8 * width), (5, 1), (3, 1)) for _ in PERIODS
        )
        self.scales = nn.ModuleList(_stack((2, width, 2 * width, 2 * width), (3, 9), (1, 2)) for _ in FFT_SIZES)

    def views(self, audio: Tensor) -> list[Tensor]:
        """Input of every discriminator: [B, C, H, W]."""
        out = [F.pad(audio, (0, -audio.shape[-1] % p)).unflatten(-1, (-1, p))[:, None] for p in PERIODS]
        for size in FFT_SIZES:
            window = torch.hann_window(size, device=audio.device)
            spectrum = torch.stft(audio, size, size // 4, window=window, return_complex=True)  # (B, F, frames)
            power = spectrum.real.square() + spectrum.imag.square()
            spectrum = spectrum * (power + 1e-6) ** -0.25  # square root of magnitudes, so that quiet partials count
            out.append(torch.view_as_real(spectrum).permute(0, 3, 2, 1))  # (B, 2, frames, F)
        return out

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        out = []
        for stack, x in zip([*self.periods, *self.scales], self.views(audio), strict=True):
            outputs = []
            for i, layer in enumerate(stack):
                x = layer(x if i == 0 else F.leaky_relu(x, 0.1))
                outputs.append(x)
            out.append(outputs)
        return out

    def losses(self, decoded: Tensor, target: Tensor) -> Adversary:
        """Losses of both sides, for one optimiser.

        The codec's terms give no gradient to the discriminators, and the discriminators' term none to the codec.
        """
        fixed = {name: value.detach() for name, value in self.named_parameters()}
        judged = functional_call(self, fixed, (decoded,))
        real, fake = self(target), self(decoded.detach())
        zero = decoded.new_zeros(())
        generator = sum(((1 - j[-1].float()).square().mean() for j in judged), start=zero)
        verdicts = (
            (1 - r[-1].float()).square().mean() + f[-1].float().square().mean() for r, f in zip(real, fake, strict=True)
        )
        features = zero
        for one, other in zip(judged, real, strict=True):
            for x, y in zip(one[:-1], other[:-1], strict=True):
                y = y.detach().float()
                features = features + (x.float() - y).abs().mean() / (y.abs().mean() + 1e-3) / len(one)
        n = len(real)
        return Adversary(generator / n, features / n, sum(verdicts, start=zero) / n)
