"""Mel filter banks: one function, and one set of parameters for each use.

Every bank is a row of overlapping triangles, equally spaced on a mel scale. Banks differ in the scale, in what the
sides of a triangle are straight in, and in its height. This module needs NumPy only, so that metrics can use it without
PyTorch. A network whose filter bank must be computed inside an exported graph passes `torch` instead.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class MelBank:
    """The parameters of one filter bank."""

    rate: int  # sample rate, Hz
    fft: int  # samples
    bands: int
    low: float  # Hz, left end of the first triangle
    high: float  # Hz, right end of the last triangle
    # "htk": 1127 log(1 + f / 700), also Kaldi's. "slaney": linear below 1 kHz, logarithmic above, also librosa's
    scale: Literal["htk", "slaney"]
    straight_in: Literal["hz", "mel"] = "hz"  # what the sides of a triangle are linear in
    unit_area: bool = False  # area 1 in Hz (height 2 / width) instead of height 1
    nyquist: bool = True  # whether the bin at rate / 2 is included


def codec_bank(rate: int, fft: int, bands: int) -> MelBank:
    """The bank of the codec's mel loss and mel distance, from 0 Hz to half the rate."""
    return MelBank(rate, fft, bands, 0, rate / 2, "slaney", unit_area=True)


MFCC = codec_bank(44100, 2048, 128)  # Frechet distance of MFCCs: the filters of librosa
AISFX = codec_bank(44100, 2048, 96)  # the embedding of semantic lift
VGGISH = MelBank(16000, 512, 64, 125, 7500, "htk", straight_in="mel")
BEATS = MelBank(16000, 512, 128, 20, 8000, "htk", straight_in="mel", nyquist=False)  # as Kaldi computes it
ONSETS = MelBank(16000, 1024, 40, 50, 7600, "htk")

KNEE, HZ_PER_MEL, LOG_STEP = 1000.0, 200 / 3, float(np.log(6.4)) / 27  # of Slaney's scale


def hz_to_mel(frequency: Any, scale: str, xp: Any = np) -> Any:
    """Mel of frequencies in Hz."""
    if scale == "htk":
        return 1127 * xp.log(1 + frequency / 700)
    logarithmic = KNEE / HZ_PER_MEL + xp.log(xp.clip(frequency, KNEE, None) / KNEE) / LOG_STEP
    return xp.where(frequency < KNEE, frequency / HZ_PER_MEL, logarithmic)


def mel_to_hz(mel: Any, scale: str, xp: Any = np) -> Any:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700 * (xp.exp(mel / 1127) - 1)
    knee = KNEE / HZ_PER_MEL
    return xp.where(mel < knee, mel * HZ_PER_MEL, KNEE * xp.exp(LOG_STEP * (mel - knee)))


def mel_filters(bank: MelBank, xp: Any = np, dtype: str = "float64", **where: Any) -> Any:
    """Filters [bins, bands] with bins = fft // 2 + 1, or fft // 2 without the Nyquist bin.

    `xp` is `numpy` or `torch`, `where` goes to its `arange` (torch: device=...).
    """
    number = {"dtype": getattr(xp, dtype), **where}
    bins = xp.arange(bank.fft // 2 + bank.nyquist, **number)[:, None] * (bank.rate / bank.fft)  # Hz
    low, high = (float(hz_to_mel(np.float64(f), bank.scale)) for f in (bank.low, bank.high))
    step = (high - low) / (bank.bands + 1)  # half the width of a triangle, in mel
    if bank.straight_in == "mel":
        position = (hz_to_mel(bins, bank.scale, xp) - low) / step
        return xp.clip(1 - xp.abs(position - xp.arange(1, bank.bands + 1, **number)), 0, None)
    edges = mel_to_hz(low + step * xp.arange(bank.bands + 2, **number), bank.scale, xp)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    filters = xp.clip(xp.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)), 0, None)
    return filters * (2 / (right - left)) if bank.unit_area else filters
