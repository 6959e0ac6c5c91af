"""Mel-frequency cepstral coefficients (MFCC), the embedding of FDM (paper, section 4.2).

The paper gives 44.1 kHz, window 2048, hop 512, 128 mel filters and 64 coefficients. The rest is our choice: librosa's
filters (Slaney's mel scale and area norm), natural logarithm of power + 1e-6, orthonormal DCT, first coefficient kept.
These choices scale the result: with decibels, for example, FDM would be 18.86 times as large. Compare only FDM values
of one definition.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATE, WINDOW, HOP, BANDS, COEFFICIENTS = 44100, 2048, 512, 128, 64
FLOOR = 1e-6  # added to the mel power
LINEAR_TO, HZ_PER_MEL, LOG_STEP = 1000.0, 200 / 3, np.log(6.4) / 27  # Slaney: linear below 1 kHz, then logarithmic


def mel_to_hz(mel: Floats) -> Floats:
    """Frequencies in Hz of values on Slaney's mel scale."""
    linear_to = LINEAR_TO / HZ_PER_MEL  # in mel
    return np.where(mel < linear_to, mel * HZ_PER_MEL, LINEAR_TO * np.exp(LOG_STEP * (mel - linear_to)))


@cache
def mel_filters() -> Floats:
    """Triangular filters [BANDS, WINDOW / 2 + 1] from 0 Hz to RATE / 2, each with area 1 in Hz (height 2 / width)."""
    top = LINEAR_TO / HZ_PER_MEL + np.log(RATE / 2 / LINEAR_TO) / LOG_STEP
    edges = mel_to_hz(np.linspace(0, top, BANDS + 2))
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return np.maximum(np.minimum(rising, falling), 0) * (2 / (right - left))


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
    return np.log(power @ mel_filters().T + FLOOR) @ cosines().T
