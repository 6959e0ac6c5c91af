"""Frames of any video file, sampled by time stamp on several grids in one streaming pass.

    with Video("video.mp4") as video:
        for grid, frame in video.sample([FrameGrid(fps=8, resize=224, size=224)]):
            ...

Times are exact fractions of a second. At most one decoded frame and its successor are held at a time.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from runtime.audio import MAX_DURATION, PathLike, check_length, open_media
from runtime.deliver.describe import stream_lines
from runtime.errors import MediaError, OptionError
from runtime.media.clock import JUMP_AHEAD, MAY_JUMP, NO_TIMESTAMPS, Clock, FrameSlots, frame_rate, header_duration
from runtime.media.file_kind import NO_DRM, check_encryption, no_decoder, protection, undecodable
from runtime.media.packets import read_packets

Image = NDArray[np.uint8]  # [height, width, 3] RGB

NOT_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails
SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT  # the same pixels on every machine
)
YUV_UNSPECIFIED = 2  # libav's AVCOL_SPC_UNSPECIFIED
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
    protected = protection(container, stream)
    if protected:
        raise MediaError(f"{path} is {protected}; {NO_DRM}")
    if stream.codec_context is None:
        raise MediaError(no_decoder(path, stream_lines(container)[stream.index]))
    return stream


class Video:
    """One video file, open for sampling. Use it as a context manager.

    path, width and height (upright, in pixels), average_rate (frames per second, or None), start (seconds: absolute
    time stamp of the first frame), has_audio, expected_duration (seconds the file claims its picture lasts, or None),
    and warnings, one line each, complete once the frames are exhausted.

    `max_duration` bounds the picture's length in seconds: a file that claims more is refused before any frame is
    decoded, and one that turns out to be longer when the limit is reached. `check_cancelled` is called for every packet
    and may raise.

    Raises MediaError with advice when the file cannot be read or no frame of its picture can be decoded.
    """

    _container: InputContainer
    _stream: VideoStream
    _clock: Clock
    _frames: Generator[tuple[Fraction, VideoFrame], None, None]
    _first: VideoFrame | None  # until it is sampled
    _exhausted: bool

    def __init__(
        self,
        path: PathLike,
        max_duration: float = MAX_DURATION,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = Path(path)
        self.max_duration, self._check_cancelled = max_duration, check_cancelled
        self.warnings: list[str] = []
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}
        self.start, frame = self._open()
        turned = _orientation(frame)[0]
        self.width, self.height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        self.average_rate = None if self._clock.period is None else float(1 / self._clock.period)
        self.has_audio = any(s.codec_context is not None for s in self._container.streams.audio)
        claimed = header_duration(self._container, self._stream)
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
                raise MediaError(undecodable(self.path, self._container, self._stream.codec_context.name))
        except BaseException:
            self.close()
            raise
        self._first = first[1]
        return first

    def _decode(self) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """(time stamp, frame) in order. Frames that cannot be decoded are skipped, counted and named in `warnings`."""
        self._container = open_media(self.path)
        stream = self._stream = picture_stream(self._container, self.path)
        guessed = self._container.format.flags & MAY_JUMP  # from the time stamps, which count for nothing here
        claimed = None if guessed else header_duration(self._container, stream)
        check_length(self.path, claimed or 0, self.max_duration)
        rate = frame_rate(self._container, stream)
        clock = self._clock = Clock(1 / rate if rate else None, stream.time_base or Fraction(0), claimed)
        slots = FrameSlots() if self._container.format.name == "avi" else None
        untimed = self._container.format.flags & NO_TIMESTAMPS  # libav's guesses fail at repeated fields
        stream.thread_type = "SLICE"  # frame threads would be faster, but lose good frames around a damaged one
        broken = 0
        for packet in self._packets(stream):
            if slots and packet is not None:
                slots.add(packet)
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                frames, broken = [], broken + 1
                if slots:
                    slots.take()
                if untimed and packet is not None:
                    clock.lose(packet.duration)
            for frame in frames:
                pts = slots.take() if slots else None if untimed else frame.pts
                if frame.is_corrupt:
                    broken += 1
                    if untimed:
                        clock.lose(frame.duration)
                else:
                    time = clock.time(pts, frame.duration)
                    check_length(self.path, clock.end - (clock.start or 0), self.max_duration)
                    yield time, frame
        self._exhausted = True
        self._report(broken)

    def _packets(self, stream: VideoStream) -> Iterator["Packet[Any] | None"]:
        """The stream's packets up to where the file breaks off, then None, which empties the decoder."""
        packets = read_packets(self._container, stream)
        while True:
            self._check_cancelled()
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the rest of the file cannot be read
                packet = None
            if packet is not None and packet.size == 0:
                continue  # a dropped frame, which a decoder would take for the end
            if packet is not None and self._clock.start is None:
                check_encryption(self.path, packet)
            yield packet
            if packet is None:
                break

    def _report(self, broken: int) -> None:
        if broken:
            self.warnings.append(f"{self.path}: {broken} damaged frame{'s' * (broken > 1)} skipped")
        claimed, clock = header_duration(self._container, self._stream), self._clock
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
        for _, i in merge(*(_due_times(g.fps, i, done[i], due[i]) for i, g in enumerate(grids))):
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


def _due_times(fps: int, grid: int, first: int, end: int) -> Iterator[tuple[Fraction, int]]:
    """(time, grid number) of samples first..end of a grid, one at a time: a frame may last for hours."""
    return ((Fraction(2 * k + 1, 2 * fps), grid) for k in range(first, end))


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
