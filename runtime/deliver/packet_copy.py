"""Copy a video's packets into a new file, interleaved with the new sound."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from runtime.audio import MAX_DURATION, FloatArray, check_length, open_media
from runtime.deliver.containers import MOV_FAMILY, Container
from runtime.deliver.copied_streams import CopyPlan, Refused, add_stream, codec_name
from runtime.deliver.describe import FILE_TAGS
from runtime.deliver.track import SoundTrack
from runtime.errors import MediaError
from runtime.media.clock import DEFAULT_PERIOD, JUMP_AHEAD, JUMP_BACK, MAY_JUMP, frame_rate
from runtime.media.packets import read_packets
from runtime.video import NOT_PICTURE, picture_stream

GENERATE_PTS = 0x1  # libav's AVFMT_FLAG_GENPTS: presentation times from decoding times where a file has only these
AVI_TOLERANCE = Fraction(1, 10)  # frames: AVI counts frames, so time stamps must lie on its grid
LOOK_AHEAD = 64  # packets in which a picture's first time stamps are sought


class PictureTimes:
    """How the picture's time stamps become those of the copy. Raises MediaError where they cannot."""

    def __init__(self, source: InputContainer, path: Path, kind: Container) -> None:
        self.path, self.kind = path, kind
        self.stream = picture_stream(source, path)
        self.unit = self.stream.time_base or Fraction(0)
        rate = frame_rate(source, self.stream)
        self.period = 1 / rate if rate else DEFAULT_PERIOD
        self.from_avi = source.format.name == "avi"
        self.to_avi = not kind.timed and not self.from_avi
        self._may_jump = bool(source.format.flags & MAY_JUMP)
        self._last: int | None = None
        first = _first_stamps(path)
        pts, dts = first[0] if first else (0, 0)
        self.first = ((pts if dts is None else dts) or 0) * self.unit  # when the first packet is decoded, seconds
        self._order = self._avi_order(first) if self.from_avi and kind.timed else None

    def check(self, packet: "Packet[Any]") -> int:
        """A packet's decoding time stamp. It must be there, near the one before, and, for AVI, on the frames' grid."""
        stamp = decoding_stamp(packet)
        if stamp is None:
            raise MediaError(f"{self.path} has no time stamps to copy; convert it first, with ffmpeg")
        if self._may_jump and self._last is not None:
            step = (stamp - self._last) * self.unit
            if step > JUMP_AHEAD or -step > JUMP_BACK:
                raise MediaError(
                    f"{self.path}: its clock starts again, as in joined recordings; convert it first, with ffmpeg"
                )
        self._last = stamp
        frames = stamp * self.unit / self.period
        if self.to_avi and abs(frames - round(frames)) > AVI_TOLERANCE:
            raise Refused("cannot hold a variable frame rate")
        return stamp

    def place(self, packet: "Packet[Any]") -> None:
        """Give a packet from AVI, which knows no presentation times, those of its frame: the first one is at zero."""
        if self._order is not None and packet.dts is not None:
            packet.pts = packet.dts if packet.pts is None or self._order == "decoded" else packet.pts
            if self._order != "decoded":
                packet.pts, packet.dts = packet.pts - int(self._order), packet.dts - int(self._order)

    def shown(self, packet: "Packet[Any]") -> int | None:
        """When a packet's frame is shown, as far as its container says it."""
        return packet.dts if self.from_avi and not self.kind.timed else packet.pts

    def _avi_order(self, first: Sequence[tuple[int | None, int | None]]) -> str:
        """Either "decoded": frames are shown in that order; or by how many ticks the first frame is late."""
        if not self.stream.codec_context.has_b_frames:
            return "decoded"
        stamps = [(pts, dts) for pts, dts in first if pts is not None and dts is not None]
        if len({pts - dts for pts, dts in stamps}) < 2:
            raise Refused(
                f"needs the order of frames, which AVI does not say for this kind of {codec_name(self.stream)}"
            )
        return str(min(pts for pts, _ in stamps))


class PacketCopy:
    """One copy: `plan` lays out its streams, `copy` carries the packets over."""

    def __init__(self, source: InputContainer, out: OutputContainer, path: Path, plan: CopyPlan) -> None:
        self.source, self.out, self.path, self.plan, self.kind = source, out, path, plan, plan.kind
        self.notes: list[str] = []  # about the copy, each a sentence without its subject
        self.broken_off = False
        self.delays: dict[int, Fraction] = {}  # seconds of a kept sound before time zero, by the source's stream
        self.times = PictureTimes(source, path, self.kind)
        self.shift = Fraction(0)  # seconds to take off every time stamp
        if not self.kind.timed:
            self.shift = self.times.first
        elif source.format.flags & MAY_JUMP:
            self.shift = Fraction(source.start_time or 0, av.time_base)

    def lay_out(self, audio: FloatArray, rate: int, start: Fraction) -> None:
        """Streams of the copy, in order: pictures, the sound, kept sounds, subtitles and the rest; then the header."""
        streams = [self.source.streams[i] for i in self.plan.streams]
        pictures = [s for s in streams if isinstance(s, VideoStream) and not s.disposition & NOT_PICTURE]
        self._refuse_unfit(pictures)
        self.routes: dict[int, Stream] = {}
        for stream in pictures:
            self._route(stream)
        self.sound = SoundTrack(self.out, self.kind, audio, rate, start - self.shift)
        for other in streams:
            if other.index not in self.routes:
                self._route(other)
        for name, mime, data in self.plan.covers:
            self.out.add_attachment(name, mime, data)
        self.out.metadata.update({k: v for k, v in self.source.metadata.items() if k.lower() not in FILE_TAGS})
        chapters = self.source.chapters()
        for chapter in chapters:
            offset = round(self.shift / (chapter["time_base"] or 1))
            chapter["start"], chapter["end"] = chapter["start"] - offset, chapter["end"] - offset
        self.out.set_chapters(chapters)
        self.out.start_encoding()

    def copy(
        self,
        packets: int | None = None,
        max_duration: float = MAX_DURATION,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        """Carry all packets over in their order, or the first `packets` of them."""
        unit, picture = self.times.unit, self.times.stream.index
        end, hidden = self.sound.start + self.times.period, False
        for packet in islice(self._packets(), packets):
            check_cancelled()
            if packet.stream_index == picture:
                stamp = self.times.check(packet) * unit
                check_length(self.path, stamp - self.sound.start, max_duration)
                self.sound.until(stamp)
                shown = self.times.shown(packet)
                if shown is not None and not packet.is_discard:
                    end = max(end, shown * unit + ((packet.duration or 0) * unit or self.times.period))
                hidden = hidden or packet.is_discard
            elif packet.stream.type == "audio" and not self._fit_priming(packet):
                continue
            packet.stream = self.routes[packet.stream_index]
            self.out.mux_one(packet)
        self.sound.finish(end)
        if hidden and self.kind.format not in MOV_FAMILY:
            self.notes.append("shows frames that the video hides at its ends, without sound")
        if not self.kind.timed:
            for index, delay in self.delays.items():
                late = f"the first {1000 * float(delay):.0f} ms of audio {index} may be missing or late"
                self.notes.append(f"has no time stamps: {late}")

    def _refuse_unfit(self, pictures: list[VideoStream]) -> None:
        for stream in pictures:
            context = stream.codec_context
            if self.times.to_avi and (context.has_b_frames or (context.extradata or b"")[:1] == b"\x01"):
                raise Refused(f"cannot hold this kind of {codec_name(stream)}")

    def _route(self, stream: Stream) -> None:
        tag = self.plan.streams[stream.index]
        self.routes[stream.index] = add_stream(self.out, self.source, stream, self.kind, tag)

    def _fit_priming(self, packet: "Packet[Any]") -> bool:
        """Make room for what a kept sound has before time zero, so that it does not push the picture back. False for a
        packet that AVI, which has no time stamps, cannot hold.
        """
        index, pts = packet.stream_index, packet.pts
        if self.kind.format in MOV_FAMILY or pts is None:
            return True
        if not self.kind.timed:
            if pts < 0:
                self.delays.setdefault(index, -pts * packet.time_base)
            return pts + (packet.duration or 1) > 0
        if self.source.format.name.startswith("matroska") or codec_name(packet.stream) == "opus":
            return True  # the muxer does it: the stream itself says how long its priming is
        if index not in self.delays and pts < 0:
            self.delays[index] = -pts * packet.time_base
        delay = round(self.delays.get(index, Fraction(0)) / packet.time_base)
        packet.pts = pts + delay
        packet.dts = None if packet.dts is None else packet.dts + delay
        return True

    def _packets(self) -> Iterator["Packet[Any]"]:
        """Packets to copy, on the copy's clock, with decoding time stamps that rise."""
        last: dict[int, int] = {}
        self.source.flags |= GENERATE_PTS
        try:
            for packet in read_packets(self.source, [self.source.streams[i] for i in self.routes]):
                if packet.dts is None and packet.pts is None and packet.size == 0:
                    continue  # PyAV's mark of a stream's end
                if packet.stream_index == self.times.stream.index:
                    self.times.place(packet)
                self._correct(packet, last)
                yield packet
        except av.FFmpegError:
            self.broken_off = True

    def _correct(self, packet: "Packet[Any]", last: dict[int, int]) -> None:
        """Bring a packet's time stamps to the copy's clock, and its decoding time above the `last` of its stream."""
        shift = round(self.shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        if packet.dts is None:
            return
        packet.dts -= shift
        before = last.get(packet.stream_index, packet.dts - 1)
        if packet.dts <= before:
            if (before - packet.dts) * packet.time_base > JUMP_BACK:
                raise MediaError(f"{self.path}: its time stamps jump back; convert it first, with ffmpeg")
            packet.dts = before + 1
            packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
        last[packet.stream_index] = packet.dts


def check_times(path: Path, kind: Container, check_cancelled: Callable[[], None] = lambda: None) -> None:
    """Read all time stamps of a picture whose clock may jump, or that goes to AVI: what `PictureTimes` refuses is then
    known before any work.
    """
    with open_media(path) as source:
        times = PictureTimes(source, path, kind)
        if not (times.to_avi or source.format.flags & MAY_JUMP):
            return
        try:
            for packet in read_packets(source, times.stream):
                check_cancelled()
                if packet.size:
                    times.check(packet)
        except av.FFmpegError:
            return  # the copy ends there too


def decoding_stamp(packet: "Packet[Any]") -> int | None:
    """When a packet is decoded, in ticks; when it is shown if the file says only that."""
    return packet.pts if packet.dts is None else packet.dts


def _first_stamps(path: Path) -> list[tuple[int | None, int | None]]:
    """When the picture's first packets are shown and decoded, in ticks."""
    with open_media(path) as source:
        try:
            packets = islice(read_packets(source, picture_stream(source, path)), LOOK_AHEAD)
            return [(p.pts, p.dts) for p in packets if p.size]
        except av.FFmpegError:
            return []
