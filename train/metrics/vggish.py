"""VGGish (arXiv 1609.09430), the embedding of FAD: 128 numbers for each 0.96 s of sound, without overlap.

Like common FAD tools, it uses no PCA, no ReLU after the last layer, and no loudness normalisation.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from train.models.loading import WeightsError, load_strict, read_state
from train.models.mel import VGGISH, mel_filters

RATE, FFT, BANDS = VGGISH.rate, VGGISH.fft, VGGISH.bands
FRAME, HOP = 400, 160  # samples
FLOOR = 0.01  # added to the mel magnitudes
EXAMPLE = 96  # frames
CONVOLUTIONS = ((1,), (2,), (4, 4), (8, 8))  # output channels in units of the width; a 2x2 pool after each group


def examples(audio: Tensor) -> Tensor:
    """Log mel magnitudes [n, 96, 64] of audio [L] at 16 kHz. Only whole examples count: 10 for 10 s."""
    if len(audio) < FRAME:
        return audio.new_zeros(0, EXAMPLE, BANDS)
    frames = audio.unfold(0, FRAME, HOP) * torch.hann_window(FRAME, device=audio.device)
    filters = torch.from_numpy(mel_filters(VGGISH)).float().to(audio.device)
    level = torch.log(torch.fft.rfft(frames, FFT).abs() @ filters + FLOOR)  # (frames, 64)
    n = len(level) // EXAMPLE
    return level[: n * EXAMPLE].reshape(n, EXAMPLE, BANDS)


class VGGish(nn.Module):
    """Audio [L] at 16 kHz in [-1, 1] -> embeddings [L / 15360, 128]. Parameter names are those of torchvggish."""

    def __init__(self, width: int = 64, hidden: int = 4096, dim: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for group in CONVOLUTIONS:
            for outputs in (width * c for c in group):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        flat = inputs * (EXAMPLE // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, audio: Tensor) -> Tensor:
        x = self.features(examples(audio)[:, None])  # (n, channels, time, frequency)
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))  # TensorFlow's order: channels last

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "VGGish":
        """Load `vggish-10086976.pth` of torchvggish (Apache-2.0), in eval mode. Raises WeightsError."""
        state = read_state(path, sha256)
        names = ("features.0.weight", "embeddings.0.weight", "embeddings.4.weight")
        if absent := [name for name in names if name not in state]:
            raise WeightsError(f"{path} has no {', '.join(absent)}; give vggish-10086976.pth of torchvggish")
        network = cls(*(len(state[name]) for name in names))
        load_strict(network, state, path)
        return network.eval()
