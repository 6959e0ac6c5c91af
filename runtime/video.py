"""Frames of any video file, sampled by time stamp on several grids in one streaming pass.

    with Video("clip.mp4") as video:
        for grid, frame in video.sample([FrameGrid(fps=8, resize=224, size=224)]):
            ...

Times are exact fractions of a second. At most one decoded frame and its successor are held at a time.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from runtime.audio import PathLike, open_media
from runtime.errors import MediaError, OptionError

Image = NDArray[np.uint8]  # [height, width, 3] RGB

DEFAULT_PERIOD = Fraction(1, 25)  # seconds a frame lasts when the file says nothing
JUMP_BACK = 1  # seconds: a time stamp that falls back further is a new clock, not a frame out of order
JUMP_AHEAD = 60  # seconds: so is one that runs ahead further, and beyond the end that the file claims
NOT_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails
SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT  # the same pixels on every machine
)
YUV_UNSPECIFIED, NO_TIMESTAMPS, MAY_JUMP = 2, 0x80, 0x200  # libav's AVCOL_SPC_, AVFMT_, AVFMT_TS_DISCONT
SHORT_SECONDS, SHORT_SHARE = Fraction(1, 4), Fraction(1, 50)  # a picture shorter than claimed by more is told


@dataclass(frozen=True)
class FrameGrid:
    """Frames at `fps` per second, scaled so that the short side is `resize` pixels, cropped to a square of `size`."""

    fps: int
    resize: int
    size: int

    def __post_init__(self) -> None:
        if min(self.fps, self.resize, self.size) < 1:
            raise OptionError(f"a frame grid needs fps, resize and size of at least 1; got {self}")


def picture_stream(container: InputContainer, path: PathLike) -> VideoStream:
    """The stream to show: the best one that is not attached cover art. Raises MediaError when there is none."""
    pictures = [s for s in container.streams.video if not s.disposition & NOT_PICTURE]
    if not pictures:
        sound = bool(container.streams.audio)
        raise MediaError(f"{path} has {'sound but ' if sound else ''}no picture; give a file with a video track")
    best = container.streams.best("video")
    stream = next((s for s in pictures if s is best), pictures[0])
    if stream.codec_context is None:
        raise MediaError(f"{path}: no decoder for its picture; convert it, for example to H.264, with ffmpeg")
    return stream


class Clock:
    """Time stamps of frames or packets in seconds, made monotonic, with what the file leaves out filled in."""

    def __init__(self, stream: VideoStream, claimed: Fraction | None = None) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.period = 1 / rate if rate else None
        self.unit = stream.time_base or Fraction(0)
        self.start: Fraction | None = None
        self.last: Fraction | None = None
        self.end = Fraction(0)  # of the last frame
        self.jumps, self.held = 0, Fraction(0)  # new clocks that began far ahead; the longest time between two frames
        self._claimed, self._shift = claimed, Fraction(0)  # how long the stream lasts by what the file says, if it does

    def time(self, pts: int | None, duration: int | None) -> Fraction:
        """The next frame's time stamp; a missing one follows from the average rate."""
        unit, previous, period = self.unit, self.last, self.period or DEFAULT_PERIOD
        if pts is not None and unit:
            now = pts * unit + self._shift
            beyond = self._claimed is None or now - (self.start or 0) > self._claimed
            ahead = previous is not None and beyond and now - previous > JUMP_AHEAD
            if previous is not None and (ahead or now < previous):  # out of order, as B-frames in AVI, or a new clock
                if ahead or previous - now > JUMP_BACK:
                    self._shift += previous + period - now
                self.jumps += ahead
                now = previous + period
        else:
            now = Fraction(0) if previous is None else previous + period
        gap = None if previous is None else now - previous
        self.held = max(self.held, gap or Fraction(0))
        self.end = now + ((duration or 0) * unit or self.period or gap or DEFAULT_PERIOD)
        self.start, self.last = now if self.start is None else self.start, now
        return now


class Video:
    """One video file, open for sampling. Use it as a context manager.

    path, width and height (upright, in pixels), average_rate (frames per second, or None), start (seconds: absolute
    time stamp of the first frame), has_audio, expected_duration (seconds the file claims its picture lasts, or None),
    and warnings, one line each, complete once the frames are exhausted.

    Raises MediaError with advice when the file cannot be read or no frame of its picture can be decoded.
    """

    _container: InputContainer
    _stream: VideoStream
    _clock: Clock
    _frames: Generator[tuple[Fraction, VideoFrame], None, None]
    _first: VideoFrame | None  # until it is sampled
    _exhausted: bool

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}
        self.start, frame = self._open()
        turned = _orientation(frame)[0]
        self.width, self.height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        self.average_rate = None if self._clock.period is None else float(1 / self._clock.period)
        self.has_audio = any(s.codec_context is not None for s in self._container.streams.audio)
        claimed = _header_duration(self._container, self._stream)
        self.expected_duration = None if claimed is None else float(claimed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._frames.close()
        if hasattr(self, "_container"):
            self._container.close()

    @property
    def duration(self) -> Fraction:
        """Seconds from the start of the first frame to the end of the last; known once the frames are exhausted."""
        if not self._exhausted:
            raise ValueError("the duration is known once all frames have been read; finish `sample` first")
        return self._clock.end - self.start

    def sample(self, grids: Sequence[FrameGrid]) -> Iterator[tuple[int, Image]]:
        """One pass over the file: yields (grid number, frame uint8 [size, size, 3] RGB), every grid in time order.

        Sample k of a grid lies at k / fps after the first frame and shows the last frame whose time stamp is not
        after k / fps + 1 / (2 fps). k runs while k / fps < duration; every grid has at least one sample. Grids are
        interleaved in the order of k / fps + 1 / (2 fps). An array may be yielded more than once: do not write to it.
        """
        if self._first is None:  # a second pass
            self.close()
            self.warnings.clear()
            self._open()
        current, self._first = cast(VideoFrame, self._first), None
        done = [0] * len(grids)
        for time, frame in self._frames:
            # sample k is due before `time` when (2 k + 1) / (2 fps) < time
            due = [max(0, ceil((time - self.start) * g.fps - Fraction(1, 2))) for g in grids]
            yield from self._show(current, grids, done, due)
            current = frame
        yield from self._show(current, grids, done, [max(1, ceil(self.duration * g.fps)) for g in grids])

    def _open(self) -> tuple[Fraction, VideoFrame]:
        """Start a pass: the first frame and its time stamp."""
        self._exhausted, self._frames = False, self._decode()
        try:
            first = next(self._frames, None)
            if first is None:
                raise MediaError(
                    f"{self.path}: no frame of its picture ({self._stream.codec_context.name}) can be decoded; "
                    "the file is damaged or incomplete: copy it again, or convert it with ffmpeg"
                )
        except BaseException:
            self.close()
            raise
        self._first = first[1]
        return first

    def _decode(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """(time stamp, frame) in order. What cannot be decoded is skipped, counted and told in `warnings`."""
        self._container = open_media(self.path)
        stream = self._stream = picture_stream(self._container, self.path)
        guessed = self._container.format.flags & MAY_JUMP  # from the time stamps, which count for nothing here
        clock = self._clock = Clock(stream, None if guessed else _header_duration(self._container, stream))
        stream.thread_type = "SLICE"  # frame threads would be faster, but lose good frames around a damaged one
        packets, packet, broken = self._container.demux(stream), None, 0
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the rest of the file cannot be read
                packet = None
            if packet is not None and packet.size == 0:
                continue  # a dropped frame, which a decoder would take for the end
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                frames, broken = [], broken + 1
            for frame in frames:
                if frame.is_corrupt:
                    broken += 1
                else:
                    yield clock.time(frame.pts, frame.duration), frame
            if packet is None:
                break
        self._exhausted = True
        self._report(broken)

    def _report(self, broken: int) -> None:
        if broken:
            self.warnings.append(f"{self.path}: {broken} damaged frame{'s' * (broken > 1)} skipped")
        claimed, clock = _header_duration(self._container, self._stream), self._clock
        decoded = clock.end - (clock.start or 0)
        if clock.held > JUMP_AHEAD:
            self.warnings.append(f"{self.path}: one frame lasts {float(clock.held):.0f} s, as the file says")
        if clock.jumps:  # which the claim may count
            self.warnings.append(f"{self.path}: time stamps jump ahead by over {JUMP_AHEAD} s; the gap is left out")
        elif claimed is not None and claimed - decoded > max(SHORT_SECONDS, SHORT_SHARE * claimed):
            self.warnings.append(f"{self.path}: decoded {float(decoded):.1f} s of {float(claimed):.1f} s")

    def _show(
        self, frame: VideoFrame, grids: Sequence[FrameGrid], done: list[int], due: Sequence[int]
    ) -> Iterator[tuple[int, Image]]:
        """Samples done..due of every grid, all of which show `frame`; it is scaled once per size, if at all."""
        images: dict[tuple[int, int], Image] = {}
        samples = sorted(
            (Fraction(2 * k + 1, 2 * g.fps), i) for i, g in enumerate(grids) for k in range(done[i], due[i])
        )
        for _, i in samples:
            key = (grids[i].resize, grids[i].size)
            if key not in images:
                images[key] = self._image(frame, *key)
            yield i, images[key]
        done[:] = map(max, done, due)

    def _image(self, frame: VideoFrame, resize: int, size: int) -> Image:
        """Upright RGB square of `size` from the centre of the frame scaled to short side `resize`."""
        short = min(frame.width, frame.height)
        width, height = (max(size, (2 * n * resize + short) // (2 * short)) for n in (frame.width, frame.height))
        scaler = self._scalers.setdefault((resize, size), VideoReformatter())
        matrix = None
        if frame.colorspace == YUV_UNSPECIFIED and not frame.format.is_rgb:  # as players do: by size
            matrix = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
        try:
            scaled = scaler.reformat(
                frame, width, height, "rgb24", src_colorspace=matrix, interpolation=SCALING, threads=1
            )
        except (av.FFmpegError, MemoryError) as error:
            raise MediaError(
                f"{self.path}: a frame of {frame.width} x {frame.height} cannot be scaled to {width} x {height} pixels "
                f"({error}); make the picture smaller or less elongated, for example with ffmpeg"
            ) from error
        image = cast(Image, scaled.to_ndarray())
        turned, flip_x, flip_y = _orientation(frame)
        image = image.transpose(1, 0, 2) if turned else image
        image = image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        return np.ascontiguousarray(image[top : top + size, left : left + size])


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then mirror left-right, then upside down) that shows a frame upright.

    The display matrix ((a b u) (c d v) (x y w)) sends the point (p, q) to (a p + c q + x, b p + d q + y); angles
    between quarter turns count as the nearest one.
    """
    side_data = cast(Mapping[SideDataType, Any], frame.side_data).get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return False, False, False
    a, b, c, d = np.frombuffer(side_data, np.int32)[[0, 1, 3, 4]].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _header_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the file's header says the picture lasts; None when it does not say, or only guesses."""
    if container.format.flags & NO_TIMESTAMPS:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    start = (stream.start_time or 0) * (stream.time_base or 0)  # what follows counts from zero
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag:
        hours, minutes, seconds = tag.groups()
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - start
    alone = all(s.type not in ("audio", "subtitle") for s in container.streams)
    return Fraction(container.duration, av.time_base) - start if alone and container.duration else None
