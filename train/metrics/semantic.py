"""Semantic lift: is a generated sound closer in meaning to its own video's true sound than to other true sounds?

Meaning is what an embedding network of sound effects sees (train.metrics.aisfx). This module has the parts that need
NumPy only: the spectrogram that the network reads, and the scores that follow from embeddings. The definitions are
fixed, because published results depend on them.

The mean embedding of all true sounds is subtracted from every embedding. The semantic lift of a sound is then its
cosine similarity to its own true sound, minus the mean similarity to the other true sounds. It is 0 by chance. The rank
of the own true sound among all n is 1 at best, and (n + 1) / 2 by chance.
"""

import numpy as np
from numpy.typing import NDArray

from train.models.mel import AISFX, mel_filters

Floats = NDArray[np.floating]

RATE, FFT, BANDS = AISFX.rate, AISFX.fft, AISFX.bands
HOP = 1024  # samples
BLOCK, BLOCK_HOP = 100, 50  # frames that the network embeds at once, and from one block to the next
SILENT = 1e-4  # peak; a quieter sound is not scaled to peak 1
GAIN, UNIT = 1e4, 9.457798957824707  # of the logarithm; the network was trained on spectrograms divided by UNIT


def spectrogram(audio: Floats) -> NDArray[np.float64]:
    """Levels [frames, 96] of audio [L] at 44.1 kHz, scaled to peak 1. Zeros are appended to make at least one block."""
    peak = np.abs(audio).max(initial=0)
    scaled = np.asarray(audio, np.float64) / (peak if peak > SILENT else 1)
    padded = np.pad(scaled, (0, max(0, FFT + BLOCK * HOP - len(scaled))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)))
    return np.asarray(np.log10(1 + GAIN * (power @ mel_filters(AISFX))) / UNIT)


def blocks(levels: Floats) -> Floats:
    """Overlapping blocks [n, 100, 96] of a spectrogram [frames, 96]. Frames that do not fill a block are dropped."""
    views = np.lib.stride_tricks.sliding_window_view(levels, BLOCK, axis=0)[::BLOCK_HOP]
    return np.asarray(views.transpose(0, 2, 1))


def similarities(sounds: Floats, truth: Floats) -> NDArray[np.float64]:
    """Cosines [m, n] of embeddings [m, D] to those of the true sounds [n, D], after subtracting the latter's mean."""
    mean = truth.mean(axis=0)
    units = [(e - mean) / (np.linalg.norm(e - mean, axis=-1, keepdims=True) + 1e-12) for e in (sounds, truth)]
    return np.asarray(units[0] @ units[1].T, np.float64)


def semantic_lift(cosines: Floats, own: int) -> float:
    """Semantic lift of a sound with cosines [n] to the n true sounds, 2 or more; `own` is the index of its own."""
    return float(cosines[own] - (cosines.sum() - cosines[own]) / (len(cosines) - 1))


def own_rank(cosines: Floats, own: int) -> int:
    """Rank of the own true sound among all, by similarity: 1 is the best."""
    return 1 + int((cosines > cosines[own]).sum())
