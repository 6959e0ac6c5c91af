"""The frame rates of made-up films, and writing their pictures as an mp4 that has the same bytes every time."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATES = {25: 0.35, 30: 0.25, 24: 0.15, 15: 0.05, 20: 0.05, 50: 0.05, 60: 0.05, 48: 0.05}  # frames/s: how often


def write_mp4(path: Path, pictures: Iterator[NDArray[np.uint8]], fps: int, crf: int = 23) -> None:
    """Pictures [H, W, 3], both sides even, as h264 (more loss with a larger crf). ValueError if there are none."""
    with av.open(str(path), "w", format="mp4") as media:
        # with the macroblock tree, x264 gives other bytes from run to run
        options = {"crf": str(crf), "preset": "veryfast", "x264-params": "threads=1:mbtree=0"}
        stream = media.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
        k = -1
        for k, picture in enumerate(pictures):
            if not k:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            media.mux(stream.encode(frame))
        if k < 0:
            raise ValueError(f"{path}: a film needs at least one picture")
        media.mux(stream.encode(None))
