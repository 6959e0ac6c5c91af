"""Cut a video of any length into the windows that the transformer was trained on, in one streaming pass.

Windows start at whole seconds, so that every frame grid starts on a frame. They advance by window - overlap. The last
one is moved back until it is as full as possible, because the model was trained on full windows. Only frames that the
next window may still need are kept. A `Stretch` says which part of the tokens is to be filled, if not all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.contract import ModelConfig
from runtime.video import FrameGrid, Image

Frames = NDArray[np.uint8]


class PictureFacts(Protocol):
    """What is known of pictures besides themselves."""

    @property
    def name(self) -> str:
        """What reports call them."""

    @property
    def expected_duration(self) -> float | None:
        """Seconds that they claim to last; None if they do not say."""

    @property
    def warnings(self) -> list[str]:
        """Complete once the frames are exhausted."""

    @property
    def start(self) -> Fraction:
        """Time stamp of its first picture, seconds on the source's clock."""

    @property
    def duration(self) -> Fraction:
        """Seconds, known once the frames are exhausted."""


class PictureSource(PictureFacts, Protocol):
    """Pictures to make a sound for: a `Video`, or a `FrameSource` of a host that decodes itself."""

    def sample(self, grids: Sequence[FrameGrid], begin: int = 0) -> Iterator[tuple[int, Image]]:
        """As `Video.sample`."""


@dataclass(frozen=True)
class Stretch:
    """Which tokens are filled. By default all of them."""

    begin: int = 0  # second of the first frame that windows may use
    first: int = 0  # second at which the first window begins
    known: int = 0  # token from which on there is something to fill
    end: int | None = None  # token after the last window; None: the end of the video


ALL = Stretch()


@dataclass(frozen=True)
class Window:
    """Tokens [start, start + length) of the video, and the frames to encode for them."""

    number: int
    start: int  # token
    length: int  # tokens
    frames: Frames  # [N, size, size, 3]
    sync_frames: Frames  # [Y, size, size, 3]


def grids(config: ModelConfig) -> tuple[FrameGrid, FrameGrid]:
    """The frame grids of the frame encoder and of the sync encoder."""
    frame = FrameGrid(config.frame_fps, config.frame_resize, config.frame_size)
    return frame, FrameGrid(config.sync_fps, config.sync_resize, config.sync_size)


def total_samples(config: ModelConfig, video: PictureFacts) -> int:
    """Length of the sound in samples: that of the picture, rounded. Known once all frames have been read."""
    return max(1, round(video.duration * config.sample_rate))


class _Buffer:
    """Frames of one grid, from frame number `first` on."""

    def __init__(self, fps: int, begin: int) -> None:
        self.fps = fps
        self.first = begin * fps
        self.frames: list[Frames] = []

    def drop_before(self, second: int) -> None:
        n = second * self.fps - self.first
        if n > 0:
            del self.frames[:n]
            self.first += n

    def take(self, second: int, n: int) -> Frames:
        """n frames from a second on. The last frame is repeated if the video ends earlier."""
        begin = second * self.fps - self.first
        frames = self.frames[begin : begin + n] or self.frames[-1:]
        return np.stack(frames + frames[-1:] * (n - len(frames)))


def windows(
    config: ModelConfig, video: PictureSource, on_frame: Callable[[], None] | None = None, stretch: Stretch = ALL
) -> Iterator[Window]:
    """Yield the windows of a video in order; the last one ends with the picture, or with the stretch.

    `on_frame()` is called after every sampled frame, and may raise to stop.
    """
    buffers = [_Buffer(g.fps, stretch.begin) for g in grids(config)]
    hop = config.window_seconds - config.overlap_seconds
    full = config.window_tokens
    number, second, end = 0, stretch.first, stretch.known
    enough = None if stretch.end is None else stretch.end * config.hop_length / config.sample_rate + 0.5  # seconds

    for grid, frame in video.sample(grids(config), stretch.begin):
        if on_frame is not None:
            on_frame()
        buffer = buffers[grid]
        buffer.frames.append(frame)
        # both grids are half a second past the window: the video continues, so this window is full and not the last
        seconds = min((b.first + len(b.frames) - 1) / b.fps for b in buffers)
        if enough is not None and seconds > enough:
            break
        if seconds > second + config.window_seconds + 0.5:
            yield _cut(config, buffers, number, second, full)
            for b in buffers:
                b.drop_before(second)
            end = start_token(config, second) + full
            number, second = number + 1, second + hop
    total = config.n_tokens(total_samples(config, video)) if stretch.end is None else stretch.end
    while end < total:
        rest = total - full
        last = max(0, -(-rest * config.hop_length // config.sample_rate))  # the first second from which the rest fits
        begin = min(second, max(last, stretch.begin))
        length = min(full, total - start_token(config, begin))
        yield _cut(config, buffers, number, begin, length)
        end = start_token(config, begin) + length
        number, second = number + 1, second + hop


def _cut(config: ModelConfig, buffers: list[_Buffer], number: int, second: int, length: int) -> Window:
    n = (config.n_frames(length), config.n_sync_frames(length))
    frames, sync_frames = (b.take(second, n[i]) for i, b in enumerate(buffers))
    return Window(number, start_token(config, second), length, frames, sync_frames)


def start_token(config: ModelConfig, second: int) -> int:
    """The token nearest to a whole second: at most half a token (6 ms) away. The error does not accumulate."""
    return round(second * config.sample_rate / config.hop_length)


def start_second(config: ModelConfig, token: int) -> int:
    """The whole second at which a window begins that begins with a token."""
    return round(token * config.hop_length / config.sample_rate)
