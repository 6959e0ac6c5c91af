"""ResNet-18 (He et al. 2016) on spectrograms, for Wav2CLIP and SparseSync: one input channel, no classifier.

Parameter names are torchvision's. The published width is 64.
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Residual block: two 3x3 convolutions with BatchNorm. If the shape changes, a 1x1 convolution adapts the input."""

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
    """Spectrogram [B, 1, F, T] -> maps [B, 8 * width, F / 32, T / 32], with sizes rounded up."""

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
    """ln(power + floor) [B, n_fft / 2 + 1, 1 + L / hop] of audio [B, L], with Hann windows and reflected ends.

    Raises ValueError if L is not above n_fft / 2.
    """
    if audio.shape[1] <= n_fft // 2:
        raise ValueError(f"{audio.shape[1]} samples are too few; at least {n_fft // 2 + 1} are needed")
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio, n_fft, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    return torch.log(spectrum.abs().square() + floor)
