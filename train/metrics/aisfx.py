"""aiSFX (Ma and Lerch, ISMIR 2022), an embedding of sound effects: 512 numbers for every 2.3 s of sound.

Its weights are in the Python package `aisfx` 0.1.2 under CC BY 4.0. They are for evaluation only: never use this
embedding to train, to choose among candidates, or to decide when a training stops.
"""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from train.metrics.inputs import Sound
from train.metrics.registry import MissingWeights
from train.metrics.semantic import RATE, blocks, spectrogram
from train.models.loading import WeightsError, file_sha256, load_strict, load_tensors, select_prefix

PACKAGE, FILE = "aisfx", "models/checkpoint.pth"
FILE_SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
INSTALL = "pip install --no-deps aisfx==0.1.2"
POOLED = (True, True, True, False)  # whether a block halves time and frequency


class Block(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class AiSFX(nn.Module):
    """Blocks of spectrograms [n, 100, 96] -> embeddings [n, 8 * width]. Parameter names are those of the package."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        sizes = [1, *(width * 2**k for k in range(len(POOLED)))]
        for k, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            self.add_module(f"conv_block{k}", Block(inputs, outputs))

    def forward(self, levels: Tensor) -> Tensor:
        x = levels[:, None]
        for block, pooled in zip(self.children(), POOLED, strict=True):
            x = block(x)
            x = F.max_pool2d(x, 2) if pooled else x
        return x.mean(dim=3).amax(dim=2)  # over frequency, then over time

    @classmethod
    def load(cls, path: Path | None = None) -> "AiSFX":
        """Load the network, in eval mode, from the package's checkpoint; by default from the installed package.

        Raises MissingWeights if the package is not installed, WeightsError for another file.
        """
        path = path or installed_checkpoint()
        if file_sha256(path) != FILE_SHA256:
            raise WeightsError(f"{path} is not the checkpoint of aisfx 0.1.2; install it with: {INSTALL}")
        state, _ = load_tensors(path)  # the second entry names the data sets
        network = cls()
        load_strict(network, select_prefix(state, {"embedding_net.": ""}), path)
        return network.eval()


def installed_checkpoint() -> Path:
    """The checkpoint inside the installed package, which is not imported. Raises MissingWeights."""
    spec = find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise MissingWeights(f"the package {PACKAGE} is not installed; install it with: {INSTALL} (for evaluation only)")


@torch.inference_mode()
def embed(network: AiSFX, sound: Sound) -> NDArray[np.float64]:
    """Embedding [512] of a sound: the mean over its blocks."""
    levels = torch.from_numpy(np.asarray(blocks(spectrogram(sound.at(RATE))), np.float32))
    return np.asarray(network(levels).mean(dim=0).double().numpy())
