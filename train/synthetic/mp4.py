"""Writes pictures as an mp4 file with reproducible bytes, and lists the frame rates of synthetic clips."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FRAME_RATES = {
    25: 0.35,
    30: 0.25,
    24: 0.15,
    15: 0.05,
    20: 0.05,
    50: 0.05,
    60: 0.05,
    48: 0.05,
}  # -> probability


def write_mp4(path: Path, pictures: Iterator[NDArray[np.uint8]], fps: int, crf: int = 23) -> None:
    """Write pictures [H, W, 3] as H.264; both sides must be even, and a larger `crf` loses more detail.

    Raises ValueError if there are no pictures.
    """
    with av.open(str(path), "w", format="mp4") as media:
        # With its macroblock tree, x264 writes different bytes in every run.
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
            raise ValueError(f"{path}: a video needs at least one picture")
        media.mux(stream.encode(None))
