"""Finds what a recording holds: single hits, single calls, the part that can be looped, and the pitch of a note."""

import numpy as np
from numpy.typing import NDArray

from train.synthetic.recordings import RATE, Floats

Cut = tuple[int, int]  # first sample, and the first one after it
STEP = RATE // 1000  # samples of a block, about 1 ms
LONGEST_HIT, LONGEST_CALL = 2 * RATE, 3 * RATE
PITCHES = (30.0, 4200.0)  # Hz
CLEAR = 0.6  # autocorrelation of a sound whose pitch can be heard


def block_peaks(samples: NDArray[np.generic], step: int = STEP) -> Floats:
    """The highest absolute value of every whole block of `step` samples, relative to the highest of all."""
    count = max(1, len(samples) // step)
    padded = np.zeros(count * step, np.float32)
    padded[: min(len(samples), len(padded))] = np.abs(samples[: len(padded)].astype(np.float32))
    peaks = padded.reshape(count, step).max(1)
    return peaks / max(1e-9, float(peaks.max()))


def hits_in(samples: NDArray[np.generic]) -> list[Cut]:
    """The single hits in a recording, each from its attack on to the next one, or until it has faded.

    An attack rises to a third of the recording's peak at least, and to three times the level before. A recording
    without an attack is one hit, which begins where it first reaches a quarter of its peak.
    """
    level = block_peaks(samples)
    sums = np.concatenate([[0.0], np.cumsum(level)])
    starts: list[int] = []
    for k in np.flatnonzero(level >= 1 / 3):
        before = (sums[max(0, k - 3)] - sums[max(0, k - 40)]) / max(1, max(0, k - 3) - max(0, k - 40))
        if level[k] > 3 * before and (not starts or k - starts[-1] > 100):
            starts.append(int(k))
    starts = starts or [int(np.argmax(level >= 0.25))]
    cuts = []
    for k, following in zip(starts, [*starts[1:], len(level)], strict=True):
        loudest = level[k : k + 50].max()
        attack = k + int(np.argmax(level[k : k + 50] >= loudest / 4))
        end = max(attack + 20, following - 8 if following < len(level) else following)
        audible = np.flatnonzero(level[attack:end] > loudest / 300)
        end = attack + int(audible[-1]) + 1 if len(audible) else end
        cuts.append((attack * STEP, min(end * STEP, attack * STEP + LONGEST_HIT, len(samples))))
    return cuts


def calls_in(samples: NDArray[np.generic]) -> list[Cut]:
    """The single calls in a recording: parts above -24 dB of its peak, with at least 0.12 s of less between them."""
    level = block_peaks(samples, 10 * STEP)
    loud = np.flatnonzero(level > 0.063)
    gaps = np.flatnonzero(np.diff(loud) > 12)
    firsts, lasts = loud[np.concatenate([[0], gaps + 1])], loud[np.concatenate([gaps, [len(loud) - 1]])]
    parts = [(int(a), int(b) + 1) for a, b in zip(firsts, lasts, strict=True) if b - a >= 3 or len(firsts) == 1]
    parts = parts or [(int(firsts[0]), int(lasts[-1]) + 1)]
    cuts = []
    for (first, last), following in zip(parts, [*(a for a, _ in parts[1:]), len(level)], strict=True):
        begin, end = first * 10 * STEP, min(last + 8, following) * 10 * STEP  # the decay belongs to it
        cuts.append((begin, min(end, begin + LONGEST_CALL, len(samples))))
    return cuts


def running_part(samples: NDArray[np.generic]) -> Cut:
    """The part of a recording between its fade-in and its fade-out: its blocks of 50 ms near the median level."""
    step = RATE // 20
    count = len(samples) // step
    if count < 4:
        return 0, len(samples)
    blocks = samples[: count * step].astype(np.float32).reshape(count, step)
    power = np.sqrt((blocks**2).mean(1))
    inside = np.flatnonzero(power >= 0.5 * np.median(power))
    return int(inside[0]) * step, int(inside[-1] + 1) * step


def pitch_of(samples: NDArray[np.generic]) -> float | None:
    """The pitch of a note as a MIDI number (69 is 440 Hz), by autocorrelation; None if no pitch is clear."""
    attack = hits_in(samples)[0][0]
    part = samples[attack + RATE // 20 :][:8192].astype(np.float32)
    if len(part) < 2048:
        part = samples[attack:][:8192].astype(np.float32)
    size = len(part)
    if size < 2048:
        return None
    part = (part - part.mean()) * np.hanning(size).astype(np.float32)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[:size]
    found = np.fft.irfft(np.abs(np.fft.rfft(part, 2 * size)) ** 2)[:size]
    shortest, longest = int(RATE / PITCHES[1]), min(int(RATE / PITCHES[0]), size // 2)
    likeness = found[: longest + 2] / np.maximum(window[: longest + 2], 1e-9) * (window[0] / max(found[0], 1e-9))
    below = np.flatnonzero(likeness[: longest + 1] < 0.5)  # beyond the first lobe, which belongs to lag 0
    shortest = max(shortest, int(below[0]) if len(below) else shortest)
    inside = likeness[shortest : longest + 1]
    if len(inside) < 3 or inside.max() < CLEAR:
        return None
    tops = np.flatnonzero(
        (inside[1:-1] >= inside[:-2]) & (inside[1:-1] > inside[2:]) & (inside[1:-1] >= 0.9 * inside.max())
    )
    if not len(tops):
        return None
    k = shortest + 1 + int(tops[0])
    a, b, c = likeness[k - 1 : k + 2]
    lag = k + 0.5 * (a - c) / min(-1e-9, a - 2 * b + c)
    return float(69 + 12 * np.log2(RATE / lag / 440))
