"""S3D, the sync encoder of the paper: a video network whose features show when things happen (Xie et al. 2018).

Layers, names and order are those of the trunk in SparseSync, so its state dict loads after its prefixes are removed.
The width is a parameter: 1.0 is the official network, 0.25 that of the bundled model.

A feature of mixed_4d covers 160 ms, and MaskVAT's length adapter only repeats features. The content of a feature would
have to say at which of its four frames something happened. With `frame_dim` the network has no stride in time and gives
a feature of that size for every frame, for a quarter more computation. The feature is computed at every place of the
picture, and each channel keeps its largest value, because a mean over the picture would hide small objects.

Axes: B batch, Y frames at 25 fps, S = ceil(Y / stride) features, D = dim.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.loading import fold_batch_norm, load_strict, read_config, read_state, select_prefix

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet; the official weights were trained with them
FEATURES = ("bridge", "mixed_4d")

# Mixed blocks by index in the trunk: input; then outputs of the 4 branches (1x1; 1x1-3x3; 1x1-3x3; pool-1x1)
MIXED = {
    5: (192, 64, 96, 128, 16, 32, 32),
    6: (256, 128, 128, 192, 32, 96, 64),
    8: (480, 192, 96, 208, 16, 48, 64),
    9: (512, 160, 112, 224, 24, 64, 64),
    10: (512, 128, 128, 256, 24, 64, 64),
    11: (512, 112, 144, 288, 32, 64, 64),
    12: (528, 256, 160, 320, 32, 128, 128),
    14: (832, 256, 160, 320, 32, 128, 128),
    15: (832, 384, 192, 384, 48, 128, 128),
}
MIXED_4D = 10  # index of the last block that mixed_4d uses


@dataclass(frozen=True)
class S3DConfig:
    width: float = 1.0  # multiplies every channel count
    feature: str = "bridge"  # bridge: after the whole trunk; mixed_4d: up to that block, at twice the time rate
    resize: int = 256  # short side, pixels
    size: int = 224  # centre crop, pixels
    frame_dim: int = 0  # size of a feature per frame, from mixed_4d without strides in time; 0: the official network

    def __post_init__(self) -> None:
        if self.feature not in FEATURES:
            raise ValueError(f"unknown feature {self.feature!r}; choose from {', '.join(FEATURES)}")
        if not self.width > 0:
            raise ValueError(f"width {self.width} must be positive")
        if self.frame_dim and self.feature != "mixed_4d":
            raise ValueError(f"frame_dim {self.frame_dim} needs feature mixed_4d, not {self.feature}")

    def channels(self, full: int) -> int:
        """Channels of a layer that has `full` channels at width 1."""
        return max(1, round(full * self.width))


BUNDLED = S3DConfig(width=0.25, feature="mixed_4d", resize=128, size=112, frame_dim=96)


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=1e-3)


class BasicConv(nn.Module):
    """1x1x1 convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1, bias=False)
        self.bn = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class SepConv(nn.Module):
    """Convolution over space, then over time, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int] = (1, 1)) -> None:
        """`stride` is the stride in time and in space."""
        super().__init__()
        k, (t, s), p = kernel, stride, kernel // 2
        self.conv_s = nn.Conv3d(inputs, outputs, (1, k, k), (1, s, s), (0, p, p), bias=False)
        self.bn_s = _norm(outputs)
        self.conv_t = nn.Conv3d(outputs, outputs, (k, 1, 1), (t, 1, 1), (p, 0, 0), bias=False)
        self.bn_t = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn_s(self.conv_s(x)))
        return torch.relu(self.bn_t(self.conv_t(x)))


class Stem(SepConv):
    """The first layer as two-dimensional convolutions, with the same weights and results.

    Half of the network's work is here, on few channels. ONNX Runtime's 2D kernels need 40 % of the time of 3D kernels.
    """

    def forward(self, x: Tensor) -> Tensor:
        batch, (space, time) = x.shape[0], (self.conv_s, self.conv_t)
        x = x.transpose(1, 2).flatten(0, 1)  # (B * Y, C, s, s)
        x = F.conv2d(x, space.weight.squeeze(2), space.bias, space.stride[1:], space.padding[1:])
        x = x.unflatten(0, (batch, -1)).transpose(1, 2)  # (B, C, Y, h, w)
        places = x.shape[3:]
        x = torch.relu(self.bn_s(x)).flatten(3)  # (B, C, Y, h * w)
        x = F.conv2d(x, time.weight.squeeze(4), time.bias, (time.stride[0], 1), (time.padding[0], 0))
        return torch.relu(self.bn_t(x.unflatten(3, places)))


class Mixed(nn.Module):
    """Inception block: four branches side by side."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs, one, reduce_a, a, reduce_b, b, pool = widths
        self.branch0 = nn.Sequential(BasicConv(inputs, one))
        self.branch1 = nn.Sequential(BasicConv(inputs, reduce_a), SepConv(reduce_a, a, 3))
        self.branch2 = nn.Sequential(BasicConv(inputs, reduce_b), SepConv(reduce_b, b, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), BasicConv(inputs, pool))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


def _layers(config: S3DConfig) -> tuple[list[nn.Module], int]:
    """The layers of the trunk that `config.feature` uses, and the channels of the last one."""
    w, t = config.channels, 1 if config.frame_dim else 2
    layers: list[nn.Module] = [
        Stem(3, w(64), 7, stride=(t, 2)),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        BasicConv(w(64), w(64)),
        SepConv(w(64), w(192), 3),
        nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ]
    previous = w(192)
    last = MIXED_4D if config.feature == "mixed_4d" else max(MIXED)
    for index in range(5, last + 1):
        if index == 7:
            layers.append(nn.MaxPool3d(3, (t, 2, 2), 1))
        elif index == 13:
            layers.append(nn.MaxPool3d(2, 2))
        else:  # the actual input width: after rounding, a concatenation may differ from the rounded table value
            one, reduce_a, a, reduce_b, b, pool = (w(c) for c in MIXED[index][1:])
            layers.append(Mixed((previous, one, reduce_a, a, reduce_b, b, pool)))
            previous = one + a + b + pool
    return layers, previous


def _in_time(layer: nn.Module) -> tuple[int, int, int]:
    """Kernel, stride and padding in time of a layer of the trunk."""
    if isinstance(layer, SepConv):
        return layer.conv_t.kernel_size[0], layer.conv_t.stride[0], int(layer.conv_t.padding[0])
    if isinstance(layer, nn.MaxPool3d):
        kernel, stride, padding = (
            x if isinstance(x, int) else x[0] for x in (layer.kernel_size, layer.stride, layer.padding)
        )
        return kernel, stride, padding
    return (3, 1, 1) if isinstance(layer, Mixed) else (1, 1, 0)


class S3D(nn.Module):
    """frames uint8 [B, Y, size, size, 3] -> features [B, S, dim]; feature j is centred on frame offset + stride * j.

    With `frame_dim` there is one feature for every frame (stride 1).
    """

    fps = 25

    def __init__(self, config: S3DConfig) -> None:
        super().__init__()
        self.config = config
        self.resize, self.size = config.resize, config.size
        self.stride, self.offset = {"bridge": (8, 2), "mixed_4d": (4, 0)}[config.feature]

        layers, previous = _layers(config)
        self.base = nn.Sequential(*layers)
        self.bridge = nn.Sequential()
        if config.feature == "bridge":
            self.bridge = nn.Sequential(nn.Conv3d(previous, config.channels(512), 1), nn.GELU())
            previous = config.channels(512)
        self.frames = None
        if config.frame_dim:
            self.frames = nn.Linear(previous, config.frame_dim)
            previous, self.stride = config.frame_dim, 1
        self.dim = previous
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def grid(self) -> int:
        """Number of places along a side of the picture."""
        return -(-self.size // 16) if self.config.feature == "mixed_4d" else -(-self.size // 32)

    @property
    def context(self) -> int:
        """Frames on each side, a multiple of the stride, that make encoding in pieces equal to encoding at once.

        10 with a feature per frame, 24 for mixed_4d, 48 for bridge. No layer pools over all of time.
        """
        before = after = 0  # frames that feature j needs, counted from frame stride * j
        step = 1
        for kernel, stride, padding in map(_in_time, self.base):
            before += padding * step
            after += (kernel - 1 - padding) * step
            step *= stride
        return -(-max(before, after - step + 1) // step) * step

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "S3D":
        return cls(read_config(S3DConfig, values))

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 [B, Y, s, s, 3] -> float [B, 3, Y, s, s] normalised with ImageNet's statistics."""
        return ((frames.permute(0, 1, 4, 2, 3).float() - self.mean) / self.std).transpose(1, 2)  # Stem transposes back

    def maps(self, x: Tensor) -> Tensor:
        """Normalised frames [B, 3, Y, s, s] -> feature maps [B, D, S, h, w] of the official network."""
        return self.bridge(self.base(x))

    def places(self, x: Tensor) -> Tensor:
        """Normalised frames [B, 3, Y, s, s] -> features at every place [B, Y, grid, grid, dim]. Needs `frame_dim`."""
        assert self.frames is not None
        return F.gelu(self.frames(self.base(x).permute(0, 2, 3, 4, 1)))

    def trunk(self, x: Tensor) -> Tensor:
        """Normalised frames [B, 3, Y, s, s] -> features [B, S, dim]: mean over space, or maximum with `frame_dim`."""
        if self.frames is None:
            return self.maps(x).mean(dim=(3, 4)).transpose(1, 2)
        return self.places(x).amax(dim=(2, 3))

    def forward(self, frames: Tensor) -> Tensor:
        return self.trunk(self.normalise(frames))

    def fold_bn(self) -> "S3D":
        """A copy for export, with BatchNorms folded into the convolutions."""
        return fold_batch_norm(self)

    def load_sparsesync(self, path: str | Path, sha256: str | None = None) -> None:
        """Load the weights of SparseSync's visual stream (MIT; prefixes vfeat_extractor, v_bridge).

        Files of the trunk alone (prefix base) fit feature mixed_4d. Layers that `config.feature` does not use are
        dropped.
        """
        state = read_state(path, sha256)
        prefixes = {"vfeat_extractor.base.": "base.", "base.": "base.", "v_bridge.bridge.": "bridge."}
        renamed = select_prefix(state, prefixes)
        wanted = len(self.base)
        cut = {k: v for k, v in renamed.items() if not k.startswith("base.") or int(k.split(".")[1]) < wanted}
        if self.config.feature != "bridge":
            cut = {k: v for k, v in cut.items() if not k.startswith("bridge.")}
        cut |= {
            k: v for k, v in self.state_dict().items() if k.startswith("frames.")
        }  # our own layer, which those files do not have
        load_strict(self, cut, path)
