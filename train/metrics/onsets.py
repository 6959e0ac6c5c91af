"""Measures of synchronisation that need no weights: onsets by spectral flux, their F1 score, and the chance level.

The definitions are fixed, because published results depend on them. The sound is resampled to 16 kHz and analysed in
40 mel bands at 100 Hz. Onsets are matched one to one within a tolerance. The chance level is the mean score over
circular shifts. Average precision ranks the same onsets by their strength. Envelopes are compared by correlation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.metrics.sequences import pearson
from train.models.mel import ONSETS, mel_filters

Floats = NDArray[np.float64]

RATE, HOP, WINDOW = ONSETS.rate, 160, ONSETS.fft
FRAME_RATE = 100  # envelope values per second: RATE / HOP
FLOOR = 1e-4  # least power of a band, for a sound with peak 1
LAG = 3  # frames between the spectra that are compared
NEIGHBOURHOOD, APART = 10, 7  # frames: half width of a local maximum; two onsets are more than APART frames apart
ABOVE_MEAN, ABOVE_ZERO = 0.12, 0.15  # shares of the envelope's maximum that a peak must exceed
SHIFTS, SHIFT_MARGIN = 24, 0.7  # number of circular shifts for the chance level, and their least distance from 0 (s)
MAX_LAG = 50  # frames: the largest shift between two envelopes


def windows(audio: NDArray[np.floating]) -> Floats:
    """Windows [1 + L / 160, 1024] of audio [L] scaled to peak 1, centred on every 160th sample."""
    scaled = np.asarray(audio, np.float64) / (np.abs(audio).max(initial=0) + 1e-9)
    padded = np.pad(scaled, WINDOW // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]


def onset_strength(audio: NDArray[np.floating]) -> Floats:
    """Spectral flux [1 + L / 160] of audio [L] at 16 kHz: the rise of log10 power, averaged over the bands."""
    power = np.abs(np.fft.rfft(windows(audio) * np.hanning(WINDOW), axis=1)) ** 2
    level = np.log10(np.maximum(power @ mel_filters(ONSETS), FLOOR) / FLOOR)
    flux = np.maximum(level[LAG:] - level[:-LAG], 0).mean(axis=1)
    return np.pad(flux, (LAG - 1, 1))


def energy_envelope(audio: NDArray[np.floating]) -> Floats:
    """RMS level [1 + L / 160] of audio [L] at 16 kHz, scaled to peak 1, in windows of 64 ms."""
    return np.sqrt((windows(audio) ** 2).mean(axis=1))


def pick_onsets(strength: Floats) -> Floats:
    """Times (s) of the onsets: the peaks of an envelope at 100 Hz."""
    if strength.max(initial=0) <= 0:
        return np.zeros(0)
    width = 2 * NEIGHBOURHOOD + 1
    around = np.lib.stride_tricks.sliding_window_view(np.pad(strength, NEIGHBOURHOOD, mode="edge"), width)
    highest = strength.max()
    peaks = strength >= around.max(axis=1)
    peaks &= strength > around.mean(axis=1) + ABOVE_MEAN * highest
    peaks &= strength > ABOVE_ZERO * highest
    kept: list[int] = []
    for frame in np.flatnonzero(peaks):
        if not kept or frame - kept[-1] > APART:
            kept.append(int(frame))
    return np.array(kept, np.float64) / FRAME_RATE


@dataclass(frozen=True)
class Score:
    """F1 score of detected onsets, with precision and recall."""

    f1: float
    precision: float
    recall: float


def onset_f1(reference: Floats, detected: Floats, tolerance: float = 0.1) -> Score:
    """Match onset times (s) one to one and score them.

    Each reference onset, in order, is matched with the nearest unused detection within the tolerance (s).
    """
    free = list(detected)
    hits = 0
    for time in reference:
        near = [d for d in free if abs(d - time) <= tolerance]
        if near:
            free.remove(min(near, key=lambda d: abs(d - time)))
            hits += 1
    precision, recall = hits / max(len(detected), 1), hits / max(len(reference), 1)
    return Score(2 * precision * recall / max(precision + recall, 1e-9), precision, recall)


def chance_f1(reference: Floats, detected: Floats, seconds: float, tolerance: float = 0.1) -> float:
    """The chance level: the mean F1 of the same detections, shifted circularly within `seconds`."""
    shifts = np.linspace(SHIFT_MARGIN, seconds - SHIFT_MARGIN, SHIFTS)
    return float(np.mean([onset_f1(reference, np.sort((detected + s) % seconds), tolerance).f1 for s in shifts]))


def average_precision(reference: Floats, detected: Floats, strengths: Floats, tolerance: float = 0.1) -> float:
    """Average precision of detections ranked by strength.

    From the strongest on, each detection is matched with the nearest unused reference onset within the tolerance (s).
    The result is the mean, over all reference onsets, of the precision at which each was found; 0 for missed ones.
    """
    free, precisions = list(reference), []
    for rank, k in enumerate(np.argsort(-strengths, kind="stable"), start=1):
        near = [r for r in free if abs(r - detected[k]) <= tolerance]
        if near:
            free.remove(min(near, key=lambda r: abs(r - detected[k])))
            precisions.append((len(precisions) + 1) / rank)
    return sum(precisions) / max(len(reference), 1)


def best_lag(reference: Floats, detected: Floats) -> float:
    """The delay (s) of an envelope at 100 Hz at which it correlates most with the reference; NaN if one is constant.

    Both are standardised once; only the overlapping part is correlated.
    """
    if min(reference.std(), detected.std()) == 0:
        return float("nan")
    a, b = ((x - x.mean()) / x.std() for x in (reference, detected))
    n = len(a)
    lags = np.arange(-min(MAX_LAG, n - 1), min(MAX_LAG, n - 1) + 1)
    scores = [np.mean(a[max(0, -k) : n - max(0, k)] * b[max(0, k) : n - max(0, -k)]) for k in lags]
    return float(lags[int(np.argmax(scores))]) / FRAME_RATE


def onset_scores(reference: NDArray[np.floating], generated: NDArray[np.floating]) -> dict[str, float]:
    """All scores of a generated sound against the true one, both [L] at 16 kHz. The longer one is cut.

    f1, precision, recall, chance, ap, and lift = f1 - chance: 0 if one sound has no onsets.
    n_reference, n: number of onsets in the true and the generated sound.
    onset_r, energy_r: correlation of onset strengths and of RMS levels; NaN if an envelope is constant.
    lag: the delay (s) with the highest correlation of onset strengths; NaN if one is constant.
    """
    a, b = onset_strength(reference), onset_strength(generated)
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    true, made = pick_onsets(a), pick_onsets(b)
    score = onset_f1(true, made)
    return lift_of_onsets(true, made, n / FRAME_RATE) | {
        "precision": score.precision,
        "recall": score.recall,
        "ap": average_precision(true, made, b[np.rint(made * FRAME_RATE).astype(int)]),
        "n_reference": len(true),
        "onset_r": pearson(a, b),
        "lag": best_lag(a, b),
        "energy_r": pearson(energy_envelope(reference)[:n], energy_envelope(generated)[:n]),
    }


def lift_of_onsets(reference: Floats, detected: Floats, seconds: float) -> dict[str, float]:
    """f1, chance, lift = f1 - chance, and n, for known onset times (s)."""
    score, chance = onset_f1(reference, detected), chance_f1(reference, detected, seconds)
    return {"f1": score.f1, "chance": chance, "lift": score.f1 - chance, "n": len(detected)}
