"""Sharpness of attacks: rise time, and energy before the attack (pre-echo)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LEAD = 0.1  # seconds of silence to add before a recording, so that pre-echo can be measured
SMOOTH = 0.001  # seconds, window of the envelope
SLACK = 0.03  # seconds around the original attack in which the decoded attack is searched
LONGEST = 0.05  # seconds; a slower rise does not count as an attack
BEFORE = 0.02  # seconds before an attack that are checked for pre-echo
GAP = 0.002  # seconds just before the attack that are left out, because of the width of the envelope
QUIET = 1e-6  # -60 dB: power before an attack, relative to the attack, that counts as silence


@dataclass(frozen=True)
class Attack:
    """The samples where the envelope passes 10 % and where it peaks, and the rise time from 10 to 90 % in seconds."""

    start: int
    peak: int
    seconds: float


def envelope(audio: Floats, rate: int) -> Floats:
    """RMS level in a short sliding window: [L] -> [L]."""
    width = max(1, round(SMOOTH * rate))
    power = np.convolve(np.square(audio, dtype=np.float64), np.ones(width) / width, "same")
    return np.sqrt(np.maximum(power, 0))


def rise(level: Floats, peak: int, rate: int) -> Attack:
    """The last rise from 10 % to 90 % of the level at `peak`, before that peak."""
    high = level[peak]
    low = np.flatnonzero(level[: peak + 1] < 0.1 * high)
    start = int(low[-1]) + 1 if len(low) else 0
    top = start + int(np.argmax(level[start : peak + 1] >= 0.9 * high))
    return Attack(start, peak, max(top - start, 1) / rate)


def attack(audio: Floats, rate: int) -> Attack | None:
    """The attack of the loudest moment; None if the sound is silent or rises more slowly than LONGEST."""
    level = envelope(audio, rate)
    if level.max(initial=0) < 1e-4:
        return None
    found = rise(level, int(np.argmax(level)), rate)
    return found if found.seconds <= LONGEST and found.start >= round(BEFORE * rate) else None


def rise_time(audio: Floats, original: Attack, rate: int) -> float:
    """Rise time in seconds of the same attack in a decoded sound."""
    level, slack = envelope(audio, rate), round(SLACK * rate)
    first = max(0, original.start - slack)
    peak = first + int(np.argmax(level[first : original.peak + slack]))
    return rise(level, peak, rate).seconds


def pre_echo(audio: Floats, original: Floats, found: Attack, rate: int) -> float:
    """Power of the decoded sound in the 20 ms before the attack, in dB over the original.

    Both powers are limited to at least 60 dB below the attack.
    """
    end = found.start - round(GAP * rate)
    before = slice(max(0, end - round(BEFORE * rate)), end)
    after = np.mean(np.square(original[found.start : found.start + round(BEFORE * rate)], dtype=np.float64))
    made, true = (np.mean(np.square(x[before], dtype=np.float64)) + QUIET * after for x in (audio, original))
    return float(10 * np.log10(made / true))
