"""How sharp an attack is: its rise time, and what sounds before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LEAD = 0.1  # seconds of silence put before a recording, so that there is a time before its attack
SMOOTH = 0.001  # seconds of the envelope's window
SLACK = 0.03  # seconds around the original's attack in which the decoded one is looked for
LONGEST = 0.05  # a slower rise is no attack
BEFORE = 0.02  # seconds before an attack in which a pre-echo counts
GAP = 0.002  # of them nearest to the attack do not count: the envelope's own width
QUIET = 1e-6  # power, relative to the attack's, below which what comes before it counts as silence: -60 dB


@dataclass(frozen=True)
class Attack:
    """Samples at which the envelope passes 10 % and reaches its peak, and the 10 to 90 % time in seconds."""

    start: int
    peak: int
    seconds: float


def envelope(audio: Floats, rate: int) -> Floats:
    """RMS in a short sliding window [L]."""
    width = max(1, round(SMOOTH * rate))
    power = np.convolve(np.square(audio, dtype=np.float64), np.ones(width) / width, "same")
    return np.sqrt(np.maximum(power, 0))


def rise(level: Floats, peak: int, rate: int) -> Attack:
    """The last rise from 10 % to 90 % of the level at `peak`, seen from there."""
    high = level[peak]
    low = np.flatnonzero(level[: peak + 1] < 0.1 * high)
    start = int(low[-1]) + 1 if len(low) else 0
    top = start + int(np.argmax(level[start : peak + 1] >= 0.9 * high))
    return Attack(start, peak, max(top - start, 1) / rate)


def attack(audio: Floats, rate: int) -> Attack | None:
    """The attack of the loudest moment; None where the sound swells slower than LONGEST, or is silent."""
    level = envelope(audio, rate)
    if level.max(initial=0) < 1e-4:
        return None
    found = rise(level, int(np.argmax(level)), rate)
    return found if found.seconds <= LONGEST and found.start >= round(BEFORE * rate) else None


def rise_time(audio: Floats, original: Attack, rate: int) -> float:
    """Seconds that a decoded sound takes for the same attack."""
    level, slack = envelope(audio, rate), round(SLACK * rate)
    first = max(0, original.start - slack)
    peak = first + int(np.argmax(level[first : original.peak + slack]))
    return rise(level, peak, rate).seconds


def pre_echo(audio: Floats, original: Floats, found: Attack, rate: int) -> float:
    """dB of decoded over original power in the 20 ms before the attack, both at least 60 dB under the attack."""
    end = found.start - round(GAP * rate)
    before = slice(max(0, end - round(BEFORE * rate)), end)
    after = np.mean(np.square(original[found.start : found.start + round(BEFORE * rate)], dtype=np.float64))
    made, true = (np.mean(np.square(x[before], dtype=np.float64)) + QUIET * after for x in (audio, original))
    return float(10 * np.log10(made / true))
