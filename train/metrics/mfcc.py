"""Mel-frequency cepstral coefficients (MFCC), the embedding of FDM (paper, section 4).

The paper gives 44.1 kHz, window 2048, hop 512, 128 mel filters and 64 coefficients. The rest is our choice: librosa's
filters (Slaney's mel scale and area norm), natural logarithm of power + 1e-6, orthonormal DCT, first coefficient kept.
These choices scale the result: with decibels, for example, FDM would be 18.86 times as large. Compare only FDM values
of one definition.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from train.models.mel import MFCC, mel_filters

Floats = NDArray[np.float64]

RATE, WINDOW, BANDS = MFCC.rate, MFCC.fft, MFCC.bands
HOP, COEFFICIENTS = 512, 64
FLOOR = 1e-6  # added to the mel power


@cache
def cosines() -> Floats:
    """The matrix [COEFFICIENTS, BANDS] of the orthonormal DCT-II."""
    k, n = np.arange(COEFFICIENTS)[:, None], np.arange(BANDS)
    basis = np.sqrt(2 / BANDS) * np.cos(np.pi / BANDS * k * (n + 0.5))
    basis[0] /= np.sqrt(2)
    return basis


def mfcc(audio: NDArray[np.floating]) -> Floats:
    """MFCC [1 + L // 512, 64] of audio [L] at 44.1 kHz. Frame t is centred on sample 512 t; silence pads both ends."""
    padded = np.pad(np.asarray(audio, np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return np.log(power @ mel_filters(MFCC) + FLOOR) @ cosines().T
