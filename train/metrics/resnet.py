"""ResNet-18 on spectrograms (He et al. 2016), as Wav2CLIP and SparseSync have it: one input channel, no classifier.

Names are torchvision's. The width is a parameter: 64 is the published one.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the input; where the shape changes, to a 1x1 convolution of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """spectrogram [B, 1, F, T] -> maps [B, 8 width, F / 32, T / 32], sizes rounded up."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, stride in enumerate((1, 2, 2, 2)):
            outputs = width * 2**i
            setattr(self, f"layer{i + 1}", nn.Sequential(Block(inputs, outputs, stride), Block(outputs, outputs, 1)))
            inputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def log_spectrogram(audio: Tensor, hop: int, floor: float, n_fft: int = 512) -> Tensor:
    """audio [B, L], L above n_fft / 2 -> ln(power + floor) [B, n_fft / 2 + 1, 1 + L / hop]; Hann, ends mirrored."""
    if audio.shape[1] <= n_fft // 2:
        raise ValueError(f"{audio.shape[1]} samples are too few; at least {n_fft // 2 + 1} are needed")
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio, n_fft, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    return torch.log(spectrum.abs().square() + floor)
