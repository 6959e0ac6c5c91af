"""Wav2CLIP (arXiv 2110.11499): sound into the space of CLIP ViT-B/32, for WaveCLIP and CycleCLIP."""

from pathlib import Path

from torch import Tensor, nn

from train.metrics.resnet import ResNet18, log_spectrogram
from train.models.loading import WeightsError, load_strict, read_state, select_prefix

RATE = 16000  # Hz
HOP, FLOOR = 353, 1e-7  # of the spectrogram


class Wav2CLIP(nn.Module):
    """audio [1, L] at 16 kHz -> embedding [1, 8 width], not normalised. One clip at a time, see `forward`."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        dim = 8 * width
        self.encoder = ResNet18(width)
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(0.1), nn.Linear(dim, dim))

    def forward(self, audio: Tensor) -> Tensor:
        x = log_spectrogram(audio, HOP, FLOOR)
        # over everything, as the original does, over a batch too: that would mix clips
        x = (x - x.mean()) / (x.std() + 1e-9)
        return self.transform(self.encoder(x[:, None]).mean(dim=(2, 3)))

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "Wav2CLIP":
        """The official `Wav2CLIP.pt` (MIT), in eval mode; what it holds besides the sound's encoder is dropped."""
        names = {"audio_encoder.": "encoder.", "audio_transform.sequential.": "transform."}
        state = select_prefix(read_state(path, sha256), names)
        state.pop("encoder.spectrogram.window", None)
        if "encoder.conv1.weight" not in state:
            raise WeightsError(f"{path} has no audio_encoder.conv1.weight; the official Wav2CLIP.pt has")
        network = cls(len(state["encoder.conv1.weight"]))
        load_strict(network, state, path)
        return network.eval()
