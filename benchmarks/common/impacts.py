"""Which videos are impacts: a rule on the true sound alone.

The rule was fixed on 2026-11-29, before any bundle was measured with it, and no bundle's score was used to choose its
numbers. Do not change them: published results depend on them.

An onset is sharp if the level rises by RISE dB or more within 20 ms, and falls by FALL dB or more below the peak within
200 ms. A video is an impact if it has at least LEAST onsets, and SHARE of them are sharp.
"""

import numpy as np

from train.metrics.onsets import RATE, Floats

STEP = RATE // 200  # samples of a level: 5 ms
BEFORE, AFTER = 8, 10  # steps around an onset in which its peak is: the onset's own time is exact to about 30 ms
ATTACK, DECAY = 4, 40  # steps: 20 ms and 200 ms
RISE, FALL = 12.0, 12.0  # dB
LEAST, SHARE = 2, 0.5
FLOOR = 1e-10  # mean square, -100 dBFS


def levels(audio: Floats) -> Floats:
    """RMS levels in dB of audio [L] at 16 kHz, one for each 5 ms."""
    whole = np.asarray(audio, np.float64)[: len(audio) // STEP * STEP].reshape(-1, STEP)
    return np.asarray(10 * np.log10(np.square(whole).mean(axis=1) + FLOOR))


def is_sharp(level: Floats, onset: float) -> bool:
    """Whether an onset (s) is sharp. `level`: see `levels`."""
    centre = round(onset * RATE / STEP)
    start = max(0, centre - BEFORE)
    near = level[start : centre + AFTER + 1]
    if not len(near):
        return False
    peak = start + int(np.argmax(near))
    rise = level[peak] - level[max(0, peak - ATTACK) : peak + 1].min()
    fall = level[peak] - level[peak : peak + DECAY + 1].min()
    return bool(rise >= RISE and fall >= FALL)


def sharp_share(audio: Floats, onsets: Floats) -> float:
    """Share of the onsets (s) of audio [L] at 16 kHz that are sharp; 0 if there are fewer than LEAST onsets."""
    level = levels(audio)
    return float(np.mean([is_sharp(level, onset) for onset in onsets])) if len(onsets) >= LEAST else 0.0


def is_impact(audio: Floats, onsets: Floats) -> bool:
    """Whether a video is one of impacts, by its true sound [L] at 16 kHz and the onsets (s) of that sound."""
    return sharp_share(audio, onsets) >= SHARE
