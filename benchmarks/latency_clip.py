"""The clip that `benchmarks.latency` makes, so that it needs no file of anyone's."""

from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, RATE = 640, 360, 25
LONG = 60  # seconds; a longer clip is encoded quickly


def make_clip(path: Path, seconds: float) -> None:
    """A square that moves over noise, H.264, 640 x 360 at 25 fps."""
    options = {"crf": "23", "preset": "medium" if seconds <= LONG else "veryfast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        noise = np.random.Generator(np.random.Philox(0)).integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for n in range(round(seconds * RATE)):
            image = noise.copy()
            x = (n * 7) % (WIDTH - 80)
            image[140:220, x : x + 80] = 230
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
