"""When frames are shown: time stamps in seconds, repaired where a file leaves them out or restarts its clock."""

import re
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

DEFAULT_PERIOD = Fraction(1, 25)  # seconds a frame lasts when the file says nothing
JUMP_BACK = 1  # seconds: a time stamp that falls back further is a new clock, not a frame out of order
JUMP_AHEAD = 60  # seconds: so is one that runs ahead further, and beyond the end that the file claims
NO_TIMESTAMPS, MAY_JUMP = 0x80, 0x200  # libav's AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT


def frame_rate(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Frames per second of a stream, or None. A raw stream's own header counts, not the demuxer's default of 25."""
    if container.format.flags & NO_TIMESTAMPS:
        return stream.guessed_rate or stream.average_rate
    return stream.average_rate or stream.guessed_rate


def header_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the file's header says the picture lasts; None when it does not say, or only guesses."""
    if container.format.flags & NO_TIMESTAMPS:
        return None
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    start = (stream.start_time or 0) * (stream.time_base or 0)  # the tags and the file's duration count from zero
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag:
        hours, minutes, seconds = tag.groups()
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - start
    alone = all(s.type not in ("audio", "subtitle") for s in container.streams)
    return Fraction(container.duration, av.time_base) - start if alone and container.duration else None


class Clock:
    """Time stamps of frames or packets in seconds, made monotonic, with what the file leaves out filled in.

    `period` is the time between two frames by the stream's rate, `unit` the length of a tick in seconds, and `claimed`
    how long the stream lasts by what the file says; each is None or zero where the file does not say.
    """

    def __init__(self, period: Fraction | None, unit: Fraction, claimed: Fraction | None = None) -> None:
        self.period, self.unit = period, unit
        self.start: Fraction | None = None
        self.last: Fraction | None = None
        self.end = Fraction(0)  # of the last frame
        self.jumps, self.held = 0, Fraction(0)  # new clocks that began far ahead; the longest time between two frames
        self._claimed, self._shift = claimed, Fraction(0)

    def time(self, pts: int | None, duration: int | None) -> Fraction:
        """The next frame's time stamp; a missing one is the end of the frame before it."""
        unit, previous, period = self.unit, self.last, self.period or DEFAULT_PERIOD
        if pts is not None and unit:
            now = pts * unit + self._shift
            beyond = self._claimed is None or now - (self.start or 0) > self._claimed
            ahead = previous is not None and beyond and now - previous > JUMP_AHEAD
            if previous is not None and (ahead or now < previous):  # out of order, or a new clock
                if ahead or previous - now > JUMP_BACK:
                    self._shift += previous + period - now
                self.jumps += ahead
                now = previous + period
        else:
            now = self.end
        gap = None if previous is None else now - previous
        self.held = max(self.held, gap or Fraction(0))
        self.end = now + ((duration or 0) * unit or self.period or gap or DEFAULT_PERIOD)
        self.start, self.last = now if self.start is None else self.start, now
        return now

    def lose(self, duration: int | None) -> None:
        """Leave room for a frame that cannot be decoded, where only durations say when the next one is due."""
        self.end += (duration or 0) * self.unit or self.period or DEFAULT_PERIOD


class FrameSlots:
    """Presentation times for AVI, which numbers its packets in decoding order and knows no other time.

    The n-th frame that is shown takes the n-th packet's place, whatever order the packets were decoded in.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def add(self, packet: "Packet[Any]") -> None:
        """Note the place of a packet that goes to the decoder."""
        if packet.dts is not None:
            heappush(self._waiting, packet.dts)

    def take(self) -> int | None:
        """The place of the next frame that is shown, or that was lost."""
        return heappop(self._waiting) if self._waiting else None
