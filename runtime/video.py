"""Frames of any video file, sampled by time stamp on several grids in one streaming pass.

    with Video("video.mp4") as video:
        for grid, frame in video.sample([FrameGrid(fps=8, resize=224, size=224)]):
            ...

Times are exact fractions of a second. At most one decoded frame and its successor are held at a time.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from runtime.audio import MAX_DURATION, PathLike, check_length, open_media
from runtime.deliver.describe import stream_lines
from runtime.errors import MediaError
from runtime.media.clock import JUMP_AHEAD, MAY_JUMP, NO_TIMESTAMPS, Clock, FrameSlots, frame_rate, header_duration
from runtime.media.file_kind import NO_DRM, PLAYLISTS, check_encryption, no_decoder, protection, undecodable
from runtime.media.frame_grid import FrameGrid, Image, Scaler, orientation, sample_frames
from runtime.media.frame_threads import DamagedError, FrameThreads
from runtime.media.packets import read_packets
from runtime.media.seek import seek_before

__all__ = ["NOT_PICTURE", "FrameGrid", "Image", "Part", "Video", "picture_stream"]

NOT_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails
SHORT_SECONDS, SHORT_SHARE = Fraction(1, 4), Fraction(1, 50)  # a picture shorter than claimed by more is told


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


@dataclass(frozen=True)
class Part:
    """A part of a video. Frames outside of it are not shown."""

    origin: Fraction  # where it begins: seconds on the file's clock, as `Video.start`
    duration: Fraction  # seconds
    rate: Fraction | None = None  # frames per second; None if they vary
    seekable: bool = False  # time stamps are in order, so that a pass may begin in the middle of the file

    @property
    def end(self) -> Fraction:
        """The first time stamp after it. Those of a steady video may be half a frame early or late."""
        return self.origin + self.duration - (1 / (2 * self.rate) if self.rate else 0)


class Video:
    """One video file, open for sampling. Use it as a context manager.

    path, name (the path as text), width and height (upright, in pixels), average_rate (frames per second, or None),
    start (seconds: absolute time stamp of the first frame, or where `part` begins), has_audio, is_playlist (its
    pictures are in other files), expected_duration (seconds the file claims its picture lasts, or None), and warnings,
    one line each, complete once the frames are exhausted.

    `max_duration` bounds the picture's length in seconds: a file that claims more is refused before any frame is
    decoded, and one that turns out to be longer when the limit is reached. `check_cancelled` is called for every packet
    and may raise. With a `part`, only that part is sampled, as if it were a file of its own, and `max_duration` bounds
    its length alone.

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
        part: Part | None = None,
    ) -> None:
        self.path, self.name, self.part = Path(path), str(path), part
        self.max_duration, self._check_cancelled = max_duration, check_cancelled
        if part is not None:
            check_length(path, part.duration, max_duration)
            self.max_duration = inf
        self.warnings: list[str] = []
        self._scaler = Scaler(self.path)
        self.start, frame = self._open()
        turned = orientation(frame)[0]
        self.width, self.height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        self.average_rate = None if self._clock.period is None else float(1 / self._clock.period)
        self.is_playlist = self._container.format.name in PLAYLISTS
        self.has_audio = any(s.codec_context is not None for s in self._container.streams.audio)
        claimed = header_duration(self._container, self._stream)
        self.expected_duration = None if claimed is None else float(claimed)
        if part is not None:
            self.start, self.expected_duration = part.origin, float(part.duration)

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
        """Seconds from the start of the first frame to the end of the last; known once the frames are exhausted.

        That of a part is known at once.
        """
        if self.part is not None:
            return self.part.duration
        if not self._exhausted:
            raise ValueError("the duration is known once all frames have been read; finish `sample` first")
        return self._clock.end - self.start

    def sample(self, grids: Sequence[FrameGrid], begin: int = 0) -> Iterator[tuple[int, Image]]:
        """One pass over the file: yields (grid number, frame uint8 [size, size, 3] RGB), every grid in time order.

        Sample k of a grid lies at k / fps after the first frame and shows the last frame whose time stamp is not
        after k / fps + 1 / (2 fps). k runs while k / fps < duration; every grid has at least one sample. Grids are
        interleaved in the order of k / fps + 1 / (2 fps). An array may be yielded more than once: do not write to it.

        Samples before second `begin` are left out. If the file allows it, reading begins shortly before the first one.
        """
        if self._first is None or self.part is not None or begin:  # another pass
            self.close()
            self.warnings.clear()
            near = self.start + begin if self.part is not None and self.part.seekable else None
            if near is not None and self._open(near)[0] > near:  # the frames before are damaged: look further back
                self.close()
                near = None
            if near is None:
                self._open()
        frames = chain([(self._clock.start or Fraction(0), cast(VideoFrame, self._first))], self._frames)
        self._first = None
        yield from sample_frames(self._within(frames), lambda: self.duration, grids, self._image, begin)

    def _within(self, frames: Iterator[tuple[Fraction, VideoFrame]]) -> Iterator[tuple[Fraction, VideoFrame]]:
        """(seconds after the beginning, frame), up to the end of the part."""
        for time, frame in frames:
            if self.part is not None and time >= self.part.end:
                break
            self._begin_part(time)
            yield time - self.start, frame
        if self.part is not None:
            self._report_part()

    def _begin_part(self, time: Fraction) -> None:
        """Forget the damage before the beginning: it does not count."""
        if time <= self.start:
            self._broken = 0

    def _open(self, near: Fraction | None = None) -> tuple[Fraction, VideoFrame]:
        """Start a pass: the first frame and its time stamp. It begins before `near`, if that is given."""
        self._exhausted, self._frames = False, self._decode(near)
        try:
            first = next(self._frames, None)
            if first is None:
                raise MediaError(undecodable(self.path, self._container, self._stream.codec_context.name))
        except BaseException:
            self.close()
            raise
        self._first = first[1]
        return first

    def _decode(self, near: Fraction | None) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """(time stamp, frame) in order. Frames that cannot be decoded are skipped, counted and named in `warnings`.

        They are decoded side by side. Where damage shows, the pass begins again without, and goes on from there.
        """
        given = 0
        try:
            for item in self._decode_pass(near, side_by_side=True):
                given += 1
                yield item
            return
        except DamagedError:
            self._container.close()
        for number, item in enumerate(self._decode_pass(near, side_by_side=False)):
            if number >= given:
                yield item
            else:
                self._begin_part(item[0])

    def _decode_pass(
        self, near: Fraction | None, side_by_side: bool
    ) -> Generator[tuple[Fraction, VideoFrame], None, None]:
        """One pass of `_decode`. With `side_by_side`, raises DamagedError."""
        stream = self._open_stream()
        clock = self._clock
        slots = FrameSlots() if self._container.format.name == "avi" else None
        untimed = self._container.format.flags & NO_TIMESTAMPS  # libav's guesses fail at repeated fields
        threads = FrameThreads(stream, side_by_side and not slots and not untimed)
        self._broken = 0
        if near is not None:
            seek_before(self.path, self._container, stream, near)
        for packet in self._packets(stream):
            if slots and packet is not None:
                slots.add(packet)
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                threads.damaged()
                frames, self._broken = [], self._broken + 1
                if slots:
                    slots.take()
                if untimed and packet is not None:
                    clock.lose(packet.duration)
            for frame in threads.settled(packet, frames):
                pts = slots.take() if slots else None if untimed else frame.pts
                if frame.is_corrupt:
                    self._broken += 1
                    if untimed:
                        clock.lose(frame.duration)
                else:
                    time = clock.time(pts, frame.duration)
                    check_length(self.path, clock.end - (clock.start or 0), self.max_duration)
                    yield time, frame
        self._exhausted = True
        if self.part is None:
            self._report()

    def _open_stream(self) -> VideoStream:
        self._container = open_media(self.path)
        stream = self._stream = picture_stream(self._container, self.path)
        guessed = self._container.format.flags & MAY_JUMP  # from the time stamps, which count for nothing here
        claimed = None if guessed else header_duration(self._container, stream)
        check_length(self.path, claimed or 0, self.max_duration)
        rate = frame_rate(self._container, stream)
        self._clock = Clock(1 / rate if rate else None, stream.time_base or Fraction(0), claimed)
        return stream

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

    def _report_broken(self) -> None:
        if self._broken:
            self.warnings.append(f"{self.path}: {self._broken} damaged frame{'s' * (self._broken > 1)} skipped")

    def _report_part(self) -> None:
        self._report_broken()
        missing = (self.start + self.duration) - self._clock.end
        if missing > max(SHORT_SECONDS, SHORT_SHARE * self.duration):
            self.warnings.append(f"{self.path}: the last {float(missing):.1f} s of the range have no picture")

    def _report(self) -> None:
        self._report_broken()
        claimed, clock = header_duration(self._container, self._stream), self._clock
        decoded = clock.end - (clock.start or 0)
        if clock.held > JUMP_AHEAD:
            self.warnings.append(f"{self.path}: one frame lasts {float(clock.held):.0f} s, as the file says")
        if clock.jumps:  # which the claim may count
            self.warnings.append(f"{self.path}: time stamps jump ahead by over {JUMP_AHEAD} s; the gap is left out")
        elif claimed is not None and claimed - decoded > max(SHORT_SECONDS, SHORT_SHARE * claimed):
            self.warnings.append(f"{self.path}: decoded {float(decoded):.1f} s of {float(claimed):.1f} s")

    def _image(self, frame: VideoFrame, resize: int, size: int) -> Image:
        return self._scaler.image(frame, resize, size)
