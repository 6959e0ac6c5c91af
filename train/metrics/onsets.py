"""Weight-free measures of synchronisation: onsets by spectral flux, their F1 score, and what chance would score.

The definitions are fixed, because results are compared with other systems by them (docs/MINI.md): 40 mel bands at
100 Hz from 16 kHz sound, onsets matched one to one within a tolerance, chance as the mean over circular shifts.
Average precision ranks the same onsets by their strength; envelopes are compared by correlation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.metrics.sequences import pearson
from train.models.mel import ONSETS, mel_filters

Floats = NDArray[np.float64]

RATE, HOP, WINDOW = ONSETS.rate, 160, ONSETS.fft
FRAME_RATE = 100  # envelope values per second: RATE / HOP
FLOOR = 1e-4  # of a band's power, under a peak of 1
LAG = 3  # frames between the spectra that are compared
NEIGHBOURHOOD, APART = 10, 7  # frames: of a local maximum; least distance of two onsets, exclusive
ABOVE_MEAN, ABOVE_ZERO = 0.12, 0.15  # of the envelope's maximum
SHIFTS, SHIFT_MARGIN = 24, 0.7  # circular shifts of the chance level, and how far from zero they stay (s)
MAX_LAG = 50  # frames: how far envelopes are shifted against each other


def windows(audio: NDArray[np.floating]) -> Floats:
    """audio [L], brought to a peak of 1, in windows [1 + L / 160, 1024] centred on every 160th sample."""
    scaled = np.asarray(audio, np.float64) / (np.abs(audio).max(initial=0) + 1e-9)
    padded = np.pad(scaled, WINDOW // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]


def onset_strength(audio: NDArray[np.floating]) -> Floats:
    """audio [L] at 16 kHz -> spectral flux [1 + L / 160], mean rise of log10 power over the bands."""
    power = np.abs(np.fft.rfft(windows(audio) * np.hanning(WINDOW), axis=1)) ** 2
    level = np.log10(np.maximum(power @ mel_filters(ONSETS), FLOOR) / FLOOR)
    flux = np.maximum(level[LAG:] - level[:-LAG], 0).mean(axis=1)
    return np.pad(flux, (LAG - 1, 1))


def energy_envelope(audio: NDArray[np.floating]) -> Floats:
    """audio [L] at 16 kHz -> root mean square [1 + L / 160] of windows of 64 ms, under a peak of 1."""
    return np.sqrt((windows(audio) ** 2).mean(axis=1))


def pick_onsets(strength: Floats) -> Floats:
    """Times (s) of the peaks of an envelope at 100 Hz."""
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
    f1: float
    precision: float
    recall: float


def onset_f1(reference: Floats, detected: Floats, tolerance: float = 0.1) -> Score:
    """Each reference onset, in order, takes the nearest unused detection within the tolerance (s)."""
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
    """Mean F1 of the same detections, shifted circularly in time."""
    shifts = np.linspace(SHIFT_MARGIN, seconds - SHIFT_MARGIN, SHIFTS)
    return float(np.mean([onset_f1(reference, np.sort((detected + s) % seconds), tolerance).f1 for s in shifts]))


def average_precision(reference: Floats, detected: Floats, strengths: Floats, tolerance: float = 0.1) -> float:
    """From the strongest on, each detection takes the nearest unused reference onset within the tolerance (s).

    Mean over all reference onsets of the precision at the moment that one is found; 0 for one that never is.
    """
    free, precisions = list(reference), []
    for rank, k in enumerate(np.argsort(-strengths, kind="stable"), start=1):
        near = [r for r in free if abs(r - detected[k]) <= tolerance]
        if near:
            free.remove(min(near, key=lambda r: abs(r - detected[k])))
            precisions.append((len(precisions) + 1) / rank)
    return sum(precisions) / max(len(reference), 1)


def best_lag(reference: Floats, detected: Floats) -> float:
    """Seconds by which an envelope at 100 Hz comes after the reference: where they correlate most; NaN if constant.

    Both are brought to mean 0 and deviation 1 once; only what overlaps is correlated.
    """
    if min(reference.std(), detected.std()) == 0:
        return float("nan")
    a, b = ((x - x.mean()) / x.std() for x in (reference, detected))
    n = len(a)
    lags = np.arange(-min(MAX_LAG, n - 1), min(MAX_LAG, n - 1) + 1)
    scores = [np.mean(a[max(0, -k) : n - max(0, k)] * b[max(0, k) : n - max(0, -k)]) for k in lags]
    return float(lags[int(np.argmax(scores))]) / FRAME_RATE


def onset_scores(reference: NDArray[np.floating], generated: NDArray[np.floating]) -> dict[str, float]:
    """All scores of a generated sound against the true one, both [L] at 16 kHz; what is longer is cut.

    f1, precision, recall, chance, lift = f1 - chance, ap: 0 where one sound has no onsets; n_reference, n: how many.
    onset_r, lag (s), energy_r: correlation of onset strengths, where it is highest, correlation of energies; NaN where
    an envelope is constant.
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
    """f1, chance, lift = f1 - chance and n for onset times that are already known."""
    score, chance = onset_f1(reference, detected), chance_f1(reference, detected, seconds)
    return {"f1": score.f1, "chance": chance, "lift": score.f1 - chance, "n": len(detected)}
