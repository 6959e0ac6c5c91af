"""Wav2CLIP (arXiv 2110.11499), for WC and CC: embeds sound into the space of CLIP ViT-B/32."""

from pathlib import Path

from torch import Tensor, nn

from train.metrics.resnet import ResNet18, log_spectrogram
from train.models.loading import WeightsError, load_strict, read_state, select_prefix

RATE = 16000  # Hz
HOP, FLOOR = 353, 1e-7  # of the spectrogram: hop in samples, added to the power


class Wav2CLIP(nn.Module):
    """Audio [1, L] at 16 kHz -> embedding [1, 8 * width], not normalised. It takes one clip at a time."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        dim = 8 * width
        self.encoder = ResNet18(width)
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, audio: Tensor) -> Tensor:
        x = log_spectrogram(audio, HOP, FLOOR)
        # The original standardises over the whole tensor. A larger batch would therefore mix its clips.
        x = (x - x.mean()) / (x.std() + 1e-9)
        return self.transform(self.encoder(x[:, None]).mean(dim=(2, 3)))

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "Wav2CLIP":
        """Load the audio encoder of the official `Wav2CLIP.pt` (MIT), in eval mode. Raises WeightsError."""
        names = {"audio_encoder.": "encoder.", "audio_transform.sequential.": "transform."}
        state = select_prefix(read_state(path, sha256), names)
        state.pop("encoder.spectrogram.window", None)
        if "encoder.conv1.weight" not in state:
            raise WeightsError(f"{path} has no audio_encoder.conv1.weight; give the official Wav2CLIP.pt")
        network = cls(len(state["encoder.conv1.weight"]))
        load_strict(network, state, path)
        return network.eval()
