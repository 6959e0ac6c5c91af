"""What a generation knows about whether something sounds: how sure the model was of its tokens, and what moved.

Both are means over half a second around each frame of 100 ms. They cost no engine call.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engines.contract import FloatArray, ModelConfig
from runtime.windows import Window, start_second

FRAME = 0.1  # seconds
WIDTH = 0.5  # seconds over which values are averaged
EVERY = 4  # pixels: motion compares every fourth one in both directions


def frame_count(seconds: float) -> int:
    """Frames of a sound of this length; the last one may be shorter."""
    return max(1, int(np.ceil(round(seconds / FRAME, 6))))


def frames_of(values: NDArray[np.float64], rate: float, count: int) -> FloatArray:
    """Means [count] of the values [N] around each frame. Value n lies at (n + 1/2) / rate; nan is no value."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    centres = (np.arange(count) + 0.5) * FRAME
    begin, end = (
        np.clip(np.ceil((centres + x) * rate - 0.5), 0, len(values)).astype(int) for x in (-WIDTH / 2, WIDTH / 2)
    )
    number = counts[end] - counts[begin]
    return np.where(number > 0, (sums[end] - sums[begin]) / np.maximum(number, 1), np.nan).astype(np.float32)


def changes(window: Window) -> NDArray[np.float64]:
    """Mean difference between each sync frame of a window and the one before it, 0 to 1."""
    pictures = window.sync_frames[:, ::EVERY, ::EVERY].astype(np.int16)
    means: NDArray[np.float64] = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    return means / 255


@dataclass
class Motion:
    """The changes of a video, at the rate of the sync encoder; nan where none is known."""

    config: ModelConfig
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, window: Window, found: NDArray[np.float64]) -> None:
        """Add the `changes` of a window. Windows may overlap."""
        first = start_second(self.config, window.start) * self.config.sync_fps + 1
        end = first + len(found)
        if end > len(self.values):
            self.values = np.pad(self.values, (0, end - len(self.values)), constant_values=np.nan)
        self.values[first:end] = found


def activity(
    config: ModelConfig, confidence: FloatArray, motion: Motion, seconds: float, earlier: FloatArray | None = None
) -> FloatArray:
    """Confidence and motion [2, F] of a sound. `confidence` [T]: mean log-probability of the tokens drawn at each token
    frame, nan where none was. Where nothing is known, the values are those of the `earlier` take, or nan.
    """
    count = frame_count(seconds)
    rate = config.sample_rate / config.hop_length
    made = np.stack(
        [
            frames_of(confidence.astype(np.float64), rate, count),
            frames_of(motion.values, config.sync_fps, count),
        ]
    )
    if earlier is not None:
        before = np.full_like(made, np.nan)
        n = min(count, earlier.shape[1])
        before[:, :n] = earlier[:, :n]
        made = np.where(np.isfinite(made), made, before)
    return np.asarray(made, np.float32)
