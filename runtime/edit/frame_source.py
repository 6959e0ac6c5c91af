"""Frames with time stamps in place of a video file, for hosts that decode themselves."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from math import isfinite
from numbers import Real

import numpy as np
from av.video.frame import VideoFrame

from runtime.audio import MAX_DURATION, check_length
from runtime.edit.fingerprint import Fingerprint
from runtime.edit.timecode import exact_rate
from runtime.errors import OptionError
from runtime.media.clock import DEFAULT_PERIOD
from runtime.media.frame_grid import FrameGrid, Image, Scaler, sample_frames

TimedFrame = tuple[Image, float | Fraction]


class FrameSource:
    """Pictures for `Pipeline.generate` in place of a file.

    `frames` gives (frame uint8 [height, width, 3] RGB, upright; time stamp in seconds), in order. It is read once and
    one frame at a time. The sound begins with the first frame. It lasts `duration` seconds if that is given; else it
    ends with the last frame, which is shown for 1 / `rate` seconds, or without a rate as long as the one before it.

    `name` appears in reports. `digest` is any text that names the content: a take refuses to go on with another one.
    Raises OptionError for what is not a frame, or a time stamp that goes back.
    """

    def __init__(
        self,
        frames: Iterable[TimedFrame],
        *,
        rate: float | Fraction | None = None,
        duration: float | Fraction | None = None,
        name: str = "frames",
        digest: str = "",
    ) -> None:
        self.rate = None if rate is None else exact_rate(rate)
        self.name, self.fingerprint = name, Fingerprint(name, 0, digest)
        self.warnings: list[str] = []
        self._given = None if duration is None else _seconds("duration", duration)
        if self._given is not None and self._given <= 0:
            raise OptionError(f"duration is {duration}; it must be above 0 seconds")
        self.expected_duration = None if self._given is None else float(self._given)
        self.max_duration: float = MAX_DURATION
        self._frames = iter(frames)
        self._first: tuple[Fraction, VideoFrame] | None = None
        self._end: Fraction | None = None

    def open(self, max_duration: float) -> None:
        """Read the first frame. Raises OptionError if there is none, MediaError if the frames last too long."""
        self.max_duration = max_duration
        check_length(self.name, self._given or 0, max_duration)
        self._first = next(self._timed(), None)
        if self._first is None:
            raise OptionError(f"{self.name} has no frame left; give a new FrameSource with one frame or more")

    @property
    def start(self) -> Fraction:
        """Time stamp of the first frame, seconds."""
        if self._first is None:
            raise ValueError("the first frame has not been read yet")
        return self._first[0]

    @property
    def duration(self) -> Fraction:
        """Seconds; known once the frames are exhausted, or if it was given."""
        if self._given is not None:
            return self._given
        if self._end is None:
            raise ValueError("the duration is known once all frames have been read; finish `sample` first")
        return self._end

    def sample(self, grids: Sequence[FrameGrid], begin: int = 0) -> Iterator[tuple[int, Image]]:
        """As `Video.sample`, once."""
        assert self._first is not None, "open it first"
        frames = self._until_end(chain([self._first], self._timed()))
        return sample_frames(frames, lambda: self.duration, grids, Scaler(self.name).image, begin)

    def _until_end(self, frames: Iterator[tuple[Fraction, VideoFrame]]) -> Iterator[tuple[Fraction, VideoFrame]]:
        """(seconds after the first frame, frame)."""
        start, last, gap = self.start, Fraction(0), Fraction(0)
        for stamp, frame in frames:
            time = stamp - start
            if time < last:
                raise OptionError(f"{self.name}: the time stamp {float(stamp)} s goes back; give the frames in order")
            if self._given is not None and time >= self._given:
                break
            check_length(self.name, time, self.max_duration)
            last, gap = time, time - last
            yield time, frame
        self._end = last + (1 / self.rate if self.rate else gap or DEFAULT_PERIOD)

    def _timed(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        for image, stamp in self._frames:
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
                raise OptionError(f"{self.name}: a frame must be a uint8 array [height, width, 3]; got {got}")
            yield _seconds("a time stamp", stamp), VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def _seconds(name: str, value: object) -> Fraction:
    if isinstance(value, Fraction):
        return value
    if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(float(value)):
        raise OptionError(f"{name} is {value!r}; it must be a number of seconds")
    return Fraction(float(value)).limit_denominator(1_000_000)
