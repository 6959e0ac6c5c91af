"""The video that benchmarks.latency measures. It repeats the example video, because a still image gives silence."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.common.machine import ROOT

BOUNCE = ROOT / "examples" / "bounce.mp4"
WIDTH, HEIGHT, RATE = 640, 360, 25
LONG = 60  # seconds; longer videos use a faster preset


def pictures() -> list[NDArray[np.uint8]]:
    """All frames [360, 640, 3] of the example at 25 fps, with black bars outside of the encoders' centre crops."""
    with av.open(str(BOUNCE)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        rate, width = float(stream.average_rate), stream.width * HEIGHT // stream.height
        frames = [f.to_ndarray(format="rgb24", width=width, height=HEIGHT) for f in container.decode(stream)]
    left = (WIDTH - width) // 2
    sides = ((0, 0), (left, WIDTH - width - left), (0, 0))
    return [np.pad(frames[int(n * rate / RATE)], sides) for n in range(int(len(frames) * RATE / rate))]


def write_video(path: Path, seconds: float) -> None:
    """Write the example in a loop: H.264, 640 x 360 at 25 fps."""
    options = {"crf": "23", "preset": "medium" if seconds <= LONG else "veryfast"}
    images = pictures()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(round(seconds * RATE)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(images[n % len(images)], format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
