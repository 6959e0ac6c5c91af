"""The silence gate: parts in which nothing should sound become digital silence, with short fades.

A level in dB judges the sound itself. "auto" judges what the generation knew (runtime.edit.activity).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.contract import FloatArray
from runtime.edit.activity import FRAME, frame_count
from runtime.errors import OptionError

Silence = Literal["off", "auto"] | float
LOWEST = -120.0  # dBFS
SHORTEST = 3  # frames of a silent part; shorter ones stay as they are
FADE = 0.02  # seconds, inside of the silent part
STILL = 1e-5  # motion below this counts as this: noise of the picture's compression

# The score CONFIDENCE * confidence + MOTION * log10(motion) is high where something should sound. The three numbers are
# what `python -m benchmarks.silence VIDEOS` chose with the fifth bundle, on one half of 60 simulated videos. On the
# other half this gate found 15 % of the silent frames and silenced 1.2 % of the sounding ones (AUC 0.75): by the rule,
# the default stays off.
CONFIDENCE, MOTION = -1.0, 0.456
THRESHOLD = -0.895


def read_silence(value: object) -> Silence:
    """Read "off", "auto", or a level in dBFS. Raises OptionError."""
    if value in ("off", "auto"):
        return "auto" if value == "auto" else "off"
    try:
        level = float(value) if isinstance(value, str | float | int) and not isinstance(value, bool) else None
    except ValueError:
        level = None
    if level is None or not LOWEST <= level <= 0:
        raise OptionError(f"silence is {value!r}; give off, auto, or a level from {LOWEST:g} to 0 dB, such as -50")
    return level


def levels(audio: FloatArray, rate: int) -> FloatArray:
    """RMS level of each frame of audio [L], in dBFS, at least -120."""
    count, size = frame_count(len(audio) / rate), round(FRAME * rate)
    padded = np.pad(audio.astype(np.float64), (0, max(0, count * size - len(audio))))[: count * size]
    power = np.square(padded).reshape(count, size).sum(axis=1)
    lengths = np.clip(len(audio) - np.arange(count) * size, 1, size)
    return np.asarray(np.maximum(10 * np.log10(power / lengths + 1e-18), LOWEST), np.float32)


def scores_of(activity: FloatArray) -> FloatArray:
    """The score [F] of confidence and motion [2, F]: high where something should sound; nan where nothing is known."""
    confidence, motion = activity.astype(np.float64)
    return np.asarray(CONFIDENCE * confidence + MOTION * np.log10(np.maximum(motion, STILL)), np.float32)


@dataclass(frozen=True)
class Gate:
    """The frames of a sound, and which of them the gate silences."""

    silence: Silence
    threshold: float
    scores: FloatArray  # [F]: levels in dBFS, or scores of what the generation knew
    silent: NDArray[np.bool_]  # [F]

    @classmethod
    def of(cls, silence: Silence, audio: FloatArray, rate: int, activity: FloatArray | None) -> "Gate":
        """Judge a sound [L]. Raises OptionError for "auto" without activity."""
        if silence == "auto":
            if activity is None:
                raise OptionError("the take does not say what moved; give --silence -50 in place of auto")
            count = frame_count(len(audio) / rate)
            scores, threshold = scores_of(activity)[:count], THRESHOLD
            scores = np.pad(scores, (0, count - len(scores)), mode="edge")
        else:
            assert silence != "off"
            scores, threshold = levels(audio, rate), silence
        return cls(silence, threshold, scores, long_runs(scores < threshold))  # nan is not silent

    def apply(self, audio: FloatArray, rate: int) -> FloatArray:
        """The sound [L] with silence in the silent parts."""
        if not self.silent.any():
            return audio
        gain = np.ones(len(audio), np.float32)
        for begin, end in self.parts():
            first, last = round(begin * FRAME * rate), min(len(audio), round(end * FRAME * rate))
            gain[first:last] = 0
            n = min(round(FADE * rate), (last - first) // 2)
            ramp = np.float32(0.5) + np.float32(0.5) * np.cos(
                np.pi * (np.arange(n, dtype=np.float32) + np.float32(0.5)) / max(n, 1)
            )
            if first > 0:
                gain[first : first + n] = ramp
            if last < len(audio):
                gain[last - n : last] = ramp[::-1]
        return np.asarray(audio * gain, np.float32)

    def parts(self) -> list[tuple[int, int]]:
        """The silent parts, [begin, end) in frames."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.silent, [False]]).astype(np.int8)))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

    def facts(self) -> dict[str, Any]:
        """What a report says, as JSON values."""
        return {
            "set": self.silence,
            "threshold": self.threshold,
            "frame": FRAME,
            "scores": [round(float(x), 2) if np.isfinite(x) else None for x in self.scores],
            "silent": [[round(a * FRAME, 3), round(b * FRAME, 3)] for a, b in self.parts()],
        }


def long_runs(quiet: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`quiet` [F] without runs shorter than SHORTEST, except those that touch an end of the sound."""
    out = quiet.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        if end - begin < SHORTEST and begin > 0 and end < len(quiet):
            out[begin:end] = False
    return out
