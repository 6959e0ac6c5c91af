"""How much the picture changes over time: shown in plots, and the simplest guess at when something sounds."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.video import FrameGrid, Video
from train.metrics.onsets import FRAME_RATE

GRID = FrameGrid(25, 112, 112)  # 25 fps, 112 pixels


def frame_difference(path: Path, seconds: float) -> NDArray[np.float64]:
    """Mean absolute difference of successive frames of a video, as an envelope at 100 Hz of length `seconds`."""
    with Video(path) as video:
        grey = [frame.mean(axis=2) for _, frame in video.sample([GRID])]
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(grey)] or [0.0])
    times = (np.arange(len(change)) + 1) / GRID.fps
    return np.interp(np.arange(round(seconds * FRAME_RATE)) / FRAME_RATE, times, change)
