"""How much a picture moves: the plainest guess at when something sounds, and what the plots show of the picture."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.video import FrameGrid, Video
from train.metrics.onsets import FRAME_RATE

GRID = FrameGrid(25, 112, 112)  # of the frame difference


def frame_difference(path: Path, seconds: float) -> NDArray[np.float64]:
    """Mean absolute difference of successive frames at 25 fps, as an envelope at 100 Hz."""
    with Video(path) as video:
        grey = [frame.mean(axis=2) for _, frame in video.sample([GRID])]
    change = np.array([np.abs(b - a).mean() for a, b in pairwise(grey)] or [0.0])
    times = (np.arange(len(change)) + 1) / GRID.fps
    return np.interp(np.arange(round(seconds * FRAME_RATE)) / FRAME_RATE, times, change)
