"""Sounds as pictures for TensorBoard, uint8 [height, width, 3]: spectrograms and onset strips. NumPy only."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Sound = NDArray[np.float32]

WINDOW, HOP = 1024, 512
RANGE = 80.0  # dB shown below the loudest cell
ROWS = 128  # rows of a spectrogram: four frequency bins each
STRIP = 24  # rows of an onset strip
GAP = 4  # rows between pictures
COLOURS = np.array([[0, 0, 4], [80, 18, 123], [182, 54, 121], [251, 136, 97], [252, 253, 191]])  # quiet to loud


def spectrogram(audio: Sound) -> Picture:
    """Power of audio [L] in dB below its maximum; low frequencies at the bottom, HOP samples per column."""
    padded = np.pad(np.asarray(audio, np.float32), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)[:, 1:]) ** 2  # (frames, WINDOW / 2)
    level = power.reshape(len(power), ROWS, -1).mean(axis=2).T[::-1]
    decibels = 10 * np.log10(np.maximum(level, 1e-10) / max(level.max(), 1e-10))
    return coloured(1 + decibels / RANGE)


def onset_strip(strength: Sound, onsets: NDArray[np.integer]) -> Picture:
    """Onset strength [frames] in grey, one frame per column, with a red line at every onset (frame number)."""
    grey = 255 * (1 - strength / max(strength.max(), 1e-9))
    strip = np.repeat(np.repeat(grey[None, :, None], STRIP, axis=0), 3, axis=2)
    strip[:, onsets] = (220, 30, 30)
    return strip.astype(np.uint8)


def stacked(pictures: list[Picture]) -> Picture:
    """Pictures above each other, cut to the width of the narrowest."""
    width = min(picture.shape[1] for picture in pictures)
    gap = np.full((GAP, width, 3), 255, np.uint8)
    rows = [row for picture in pictures for row in (picture[:, :width], gap)]
    return np.concatenate(rows[:-1])


def coloured(values: NDArray[np.floating]) -> Picture:
    """Map values to colours; values outside [0, 1] are clipped."""
    places = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, places, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)
