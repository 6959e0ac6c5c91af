"""The clip that `benchmarks.latency` makes: of a picture that makes sound, for a still one would measure silence."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BOUNCE = Path(__file__).resolve().parent.parent / "examples" / "bounce.mp4"
WIDTH, HEIGHT, RATE = 640, 360, 25
LONG = 60  # seconds; a longer clip is encoded quickly


def pictures() -> list[NDArray[np.uint8]]:
    """One round of the example, [360, 640, 3] at 25 fps: black beside it, where the encoders' centre crops end."""
    with av.open(str(BOUNCE)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        rate, wide = float(stream.average_rate), stream.width * HEIGHT // stream.height
        shown = [f.to_ndarray(format="rgb24", width=wide, height=HEIGHT) for f in container.decode(stream)]
    left = (WIDTH - wide) // 2
    sides = ((0, 0), (left, WIDTH - wide - left), (0, 0))
    return [np.pad(shown[int(n * rate / RATE)], sides) for n in range(int(len(shown) * RATE / rate))]


def make_clip(path: Path, seconds: float) -> None:
    """The example again and again, H.264, 640 x 360 at 25 fps."""
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
