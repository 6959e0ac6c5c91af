"""How a video counts its frames: rate, start timecode, and the first picture, without decoding."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from runtime.audio import PathLike, open_media
from runtime.edit.timecode import RATE_LIMIT, Span, Timecode, TimeRange, exact_rate
from runtime.errors import OptionError
from runtime.media.clock import DEFAULT_PERIOD, NO_TIMESTAMPS, frame_rate
from runtime.media.packets import read_packets
from runtime.video import Part, picture_stream

MOV, DISCARDED = "mov,mp4,m4a,3gp,3g2,mj2", 2  # libav's name of the format; its AVINDEX_DISCARD_FRAME
JITTER = Fraction(1, 4)  # share of a frame by which a picture may be early or late in a video of constant rate


@dataclass(frozen=True)
class VideoTiming:
    """Frames and timecode of a video. All times count from its first picture."""

    rate: Fraction  # frames per second; the average if they are not steady
    frames: int  # from the first picture to the end of the last, at that rate
    steady: bool  # whether frame n lies at n / rate
    start: Timecode | None  # of the first picture; None if the file has no start timecode
    warnings: tuple[str, ...] = ()
    first: Fraction = field(default=Fraction(0), compare=False)  # time stamp of the first picture, on the file's clock
    times: tuple[Fraction, ...] = field(default=(Fraction(0),), compare=False, repr=False)  # of all pictures
    last: Fraction = field(default=Fraction(0), compare=False)  # how long the last picture is shown

    @property
    def duration(self) -> Fraction:
        """Seconds from the first picture to the end of the last."""
        return self.frames / self.rate if self.steady else self.times[-1] + self.last

    def resolve(self, time_range: TimeRange, duration: Fraction | None = None) -> Span:
        """Find the part of the video that a range names. Raises OptionError as `TimeRange.resolve` does."""
        return time_range.resolve(self.rate if self.steady else None, self.start, duration)

    def same_seconds(self, span: Span) -> Span:
        """A part of another version of this video, in this one's frames; in seconds if it begins or ends between two.

        It keeps its exact length, as a take on it must."""
        ends = (span.begin * self.rate, span.end * self.rate)
        if not self.steady or any(end.denominator > 1 for end in ends):
            return Span(span.begin, span.end)
        return Span.of_frames(int(ends[0]), int(ends[1]), self.rate)

    def part(self, span: Span) -> Part:
        """The pictures of a part of the video. It begins with the time stamp of its first frame, as a cut file does."""
        begin = self.times[span.frames[0]] if span.frames is not None else span.begin
        return Part(self.first + begin, span.seconds, span.rate, seekable=self.steady)


def read_timing(path: PathLike, check_cancelled: Callable[[], None] = lambda: None) -> VideoTiming:
    """Read the timing of a video from its packets. Raises MediaError if it cannot be read."""
    with open_media(path) as container:
        stream = picture_stream(container, path)
        header = frame_rate(container, stream)  # nonsense in some files: their time stamps decide
        claimed = exact_rate(header if header and header <= RATE_LIMIT else 1 / DEFAULT_PERIOD)
        text = find_timecode(container, stream)
        found, last = _indexed_times(container, stream) or _picture_times(container, stream, claimed, check_cancelled)
    first = found[0] if found else Fraction(0)
    times = [time - first for time in found] or [Fraction(0)]
    rate, error = _fitting_rate(times, claimed)
    steady = error <= JITTER
    frames = round(times[-1] * rate) + 1
    start, warnings = None, []
    try:
        start = None if text is None else Timecode.parse(text, rate).plus(round(first * rate))
    except OptionError as problem:
        warnings.append(f"{path}: its start timecode is ignored: {problem}")
    return VideoTiming(rate, frames, steady, start, tuple(warnings), first, tuple(times), last or 1 / rate)


def _fitting_rate(times: list[Fraction], claimed: Fraction) -> tuple[Fraction, Fraction]:
    """(frames per second, largest distance of a picture from its place, in frames). Times count from the first picture.

    The header's rate counts if the pictures follow it; else the standard rate that they follow best, if there is one.
    """

    def error(rate: Fraction) -> Fraction:
        return max(abs(time * rate - n) for n, time in enumerate(times))

    if error(claimed) <= JITTER or times[-1] <= 0:
        return claimed, error(claimed)
    measured = (len(times) - 1) / times[-1]
    base = max(1, round(measured))
    best = min((Fraction(base), Fraction(base * 1000, 1001)), key=error)
    return (best, error(best)) if error(best) <= JITTER else (claimed, error(claimed))


def find_timecode(container: InputContainer, stream: VideoStream) -> str | None:
    """The start timecode as the file gives it: from the picture, a timecode track, or the file's own tags."""
    tracks = [s.metadata for s in container.streams if s.type == "data"]
    for tags in [stream.metadata, *tracks, container.metadata]:
        for key, value in tags.items():
            if key.lower() == "timecode":
                return str(value)
    return None


def _indexed_times(container: InputContainer, stream: VideoStream) -> tuple[list[Fraction], Fraction] | None:
    """What `_picture_times` gives, from the index of a MOV or MP4 file whose pictures all stand alone; else None.

    Such files (ProRes, DNxHD) may have many gigabytes, and this reads none of their pictures.
    """
    entries, unit = stream.index_entries, stream.time_base
    whole = len(entries) == stream.frames > 1  # a fragmented file has no index of all
    if not whole or not unit or container.format.name != MOV or not stream.codec_context.codec.intra_only:
        return None
    stamps = [entry.timestamp for entry in entries if not entry.flags & DISCARDED]
    if len(stamps) < 2 or stamps != sorted(stamps):
        return None
    return [stamp * unit for stamp in stamps], (stamps[-1] - stamps[-2]) * unit


def _picture_times(
    container: InputContainer, stream: VideoStream, rate: Fraction, check: Callable[[], None]
) -> tuple[list[Fraction], Fraction]:
    """When the pictures are shown, in order, and how long the last one is (0 if the file does not say).

    A file without time stamps, such as AVI, only numbers its pictures.
    """
    unit, pictures = stream.time_base, 0
    numbered = unit is None or bool(container.format.flags & NO_TIMESTAMPS) or container.format.name == "avi"
    stamps: list[tuple[int, int]] = []
    try:
        for packet in read_packets(container, stream):
            check()
            if packet.size and not packet.is_discard:
                pictures += 1
                if packet.pts is not None:
                    stamps.append((packet.pts, packet.duration or 0))
    except av.FFmpegError:
        pass  # the video ends there
    if numbered or unit is None or not stamps:
        return [number / rate for number in range(pictures)], Fraction(0)
    stamps.sort()
    return [stamp * unit for stamp, _ in stamps], stamps[-1][1] * unit
