"""A copy of a video with the generated sound: the picture's packets are copied as they are, only sound is encoded."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast, get_args

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from runtime.audio import FloatArray, PathLike, Sound, audio_frame, check_sound, open_media, pcm16, replacing, resample
from runtime.errors import MediaError, OptionError
from runtime.video import DEFAULT_PERIOD, JUMP_BACK, NOT_PICTURE, Clock, Video, picture_stream

Existing = Literal["replace", "keep"]


@dataclass(frozen=True)
class Container:
    """How a kind of file carries the sound."""

    format: str  # libav's name of the muxer
    codec: str
    bit_rate: int | None  # bits per second; None: lossless
    rates: tuple[int, ...] | None  # sample rates that the codec takes; another is resampled to FALLBACK_RATE
    timed: bool = True  # whether a track can start later than the file


FALLBACK_RATE = 48000  # Hz
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
MP4 = Container("mp4", "aac", 160_000, AAC_RATES)
CONTAINERS = {
    ".mp4": MP4,
    ".m4v": MP4,
    ".mov": Container("mov", "aac", 160_000, AAC_RATES),
    ".mkv": Container("matroska", "flac", None, None),
    ".webm": Container("webm", "libopus", 128_000, (FALLBACK_RATE,)),
    ".avi": Container("avi", "pcm_s16le", None, None, timed=False),
}
BLOCK = 4096  # samples encoded at a time
CLOCK_IS_ARBITRARY = 0x200  # libav's AVFMT_TS_DISCONT: broadcast formats, whose time stamps start anywhere
GENERATE_PTS = 0x1  # libav's AVFMT_FLAG_GENPTS: presentation times from decoding times where a file has only these
AVI_TOLERANCE = Fraction(1, 10)  # frames: AVI counts frames, so time stamps must lie on its grid
FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}  # about the file, not the film
MOV_FAMILY = ("mp4", "mov")


def check_container(path: PathLike, video_path: PathLike | None = None, existing: Existing = "replace") -> Container:
    """The kind of file that a name asks for, by its suffix. MediaError lists the kinds when there is none, and, given
    the video to copy, says when this kind cannot hold it: better known before the work than after.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        given = f"{suffix} files" if suffix else "a name without a suffix"
        raise MediaError(f"cannot write {path}: {given} cannot be made; give a name that ends in {_or(CONTAINERS)}")
    kind = CONTAINERS[suffix]
    if video_path is not None:
        with open_media(video_path) as source, _writing(video_path, path):
            with av.open(os.devnull, "w", format=kind.format) as out:  # a rehearsal
                rehearsal = _Mux(source, out, kind, Path(video_path), Path(path))
                rehearsal.plan(np.zeros(1, np.float32), FALLBACK_RATE, Fraction(0), existing)
    return kind


def _or(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last


@contextmanager
def _writing(video_path: PathLike, out_path: PathLike) -> Iterator[None]:
    """What the muxer refuses becomes a MediaError; a full disk and its like stay an OSError."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(
            f"{video_path} cannot be copied into {out_path} ({error.strerror or error}); try another kind, as .mkv"
        ) from error


def mux(
    video_path: PathLike,
    audio: Sound,
    rate: int,
    out_path: PathLike,
    existing: Existing = "replace",
    start: Fraction | None = None,
) -> list[str]:
    """Write a copy of a video with `audio`, mono [L] in [-1, 1] at `rate` Hz, as its sound; returns warnings.

    The sound starts with the first picture frame and is cut, or filled with silence, to the picture's length. Sound
    that the video has is left out, or with existing="keep" copied into tracks after the generated one. The kind of
    file follows from out_path's suffix: CONTAINERS. The file appears whole or not at all; MediaError says why not.
    `start` is the first frame's time stamp (Take.start); without it the video is opened once more to find it.
    """
    kind = check_container(out_path)
    audio = check_sound(audio, rate)
    if existing not in get_args(Existing):
        raise OptionError(f"existing is {existing!r}; choose from {', '.join(get_args(Existing))}")
    if start is None:
        with Video(video_path) as video:
            start = video.start
    if os.path.exists(out_path) and os.path.samefile(video_path, out_path):
        raise MediaError(f"cannot write {out_path}: it is the video itself; give another name")
    if kind.rates is not None and rate not in kind.rates:
        audio, rate = resample(audio, rate, FALLBACK_RATE), FALLBACK_RATE
    options = {"movflags": "faststart"} if kind.format in MOV_FAMILY else {}
    with open_media(video_path) as source, replacing(out_path) as part, _writing(video_path, out_path):
        with av.open(os.path.abspath(part), "w", format=kind.format, container_options=options) as out:
            job = _Mux(source, out, kind, Path(video_path), Path(out_path))
            job.plan(audio, rate, start, existing)
            job.copy()
    return job.warnings


class _Sound:
    """Encodes the sound bit by bit, as far as the picture has come."""

    def __init__(self, out: OutputContainer, kind: Container, audio: FloatArray, rate: int, start: Fraction) -> None:
        self.out, self.rate, self.start = out, rate, start
        self.stream = cast(AudioStream, out.add_stream(kind.codec, rate=rate, layout="mono"))
        self.stream.codec_context.time_base = Fraction(1, rate)
        self.stream.disposition = Disposition.default
        if kind.bit_rate is not None:
            self.stream.codec_context.bit_rate = kind.bit_rate
        lead = 0 if kind.timed else max(0, round(start * rate))  # a file without time stamps begins with silence
        self.audio = np.pad(audio, (lead, 0)) if lead else audio
        self.first = round(start * rate) - lead  # time stamp of the first sample
        self.at = 0  # samples encoded

    def until(self, time: Fraction) -> None:
        """Encode whole blocks that end before `time`, seconds."""
        while self.first + self.at + BLOCK <= time * self.rate:
            self._encode(BLOCK)

    def finish(self, end: Fraction) -> None:
        """Encode the rest up to the picture's end, seconds."""
        total = max(1, round(end * self.rate) - self.first)
        while self.at < total:
            self._encode(min(BLOCK, total - self.at))
        self.out.mux(self.stream.encode(None))

    def _encode(self, n: int) -> None:
        block = self.audio[self.at : self.at + n]
        block = np.pad(block, (0, n - len(block)))
        rounded = pcm16(block)  # as in the WAV: AAC searches long for how to keep what lies below, which nobody hears
        samples = rounded if self.stream.format.name.startswith("s16") else np.divide(rounded, 32768, dtype=np.float32)
        # Without explicit time stamps the encoder's priming would come on top: 1024 samples late with AAC.
        self.out.mux(self.stream.encode(audio_frame(samples, self.rate, self.first + self.at)))
        self.at += n


class _Mux:
    """One copy: `plan` lays out the streams, `copy` carries the packets over."""

    def __init__(self, source: InputContainer, out: OutputContainer, kind: Container, path: Path, target: Path) -> None:
        self.source, self.out, self.kind, self.path, self.target = source, out, kind, path, target
        self.warnings: list[str] = []
        self.routes: dict[int, Stream] = {}  # the source's stream, by index -> the copy's
        self.to_avi = not kind.timed and source.format.name != "avi"
        self.shift = Fraction(0)  # seconds to take off every time stamp
        if not kind.timed:
            self.shift = _first_stamp(path)
        elif source.format.flags & CLOCK_IS_ARBITRARY:
            self.shift = Fraction(source.start_time or 0, av.time_base)

    def plan(self, audio: FloatArray, rate: int, start: Fraction, existing: Existing) -> None:
        """Streams of the copy, in order: pictures, the sound, kept sounds, subtitles and the rest; then the header."""
        self.picture = picture_stream(self.source, self.path)
        for stream in self.source.streams.video:
            if not stream.disposition & NOT_PICTURE:
                self._add_picture(stream)
        self.sound = _Sound(self.out, self.kind, audio, rate, start - self.shift)
        dropped: list[str] = []
        for other in self.source.streams:
            if other.index in self.routes or (other.type == "audio" and existing == "replace"):
                continue
            if not self._add_other(other):
                dropped.append("cover art" if other.type == "video" else other.type)
        for name in sorted(set(dropped)):
            self.warnings.append(f"{self.target}: left out {dropped.count(name)} x {name}, which it cannot hold")
        self.out.metadata.update({k: v for k, v in self.source.metadata.items() if k.lower() not in FILE_TAGS})
        if not self.shift:
            self.out.set_chapters(self.source.chapters())
        self.out.start_encoding()

    def _add_picture(self, stream: VideoStream) -> None:
        context, rate = stream.codec_context, stream.average_rate or stream.guessed_rate
        name = context.name if context is not None else "an unknown codec"
        if self.to_avi and context is not None and (context.has_b_frames or (context.extradata or b"")[:1] == b"\x01"):
            raise MediaError(f"{self.target} cannot hold this kind of {name}; give a name in .mp4 or .mkv")
        try:
            copy = self.out.add_stream_from_template(stream, opaque=True)
        except ValueError as error:
            raise MediaError(f"{self.target} cannot hold a picture in {name}; {_advice(name)}") from error
        if rate:
            copy.codec_context.framerate = rate
            if self.to_avi:
                copy.time_base = 1 / rate
        if self.kind.format in MOV_FAMILY and self.source.format.name.startswith("mov"):
            copy.codec_context.codec_tag = stream.codec_context.codec_tag  # hvc1 stays hvc1: players ask for it
        self._route(stream, copy)

    def _add_other(self, stream: Stream) -> bool:
        """Carry a stream of another type over, if the copy can hold it."""
        if stream.type == "video" and self.kind.format not in MOV_FAMILY:
            return False
        if stream.type == "data" or (stream.type == "attachment" and self.kind.format != "matroska"):
            return False
        try:
            copy = self.out.add_stream_from_template(stream, opaque=True)
        except ValueError:
            return False
        self._route(stream, copy)
        if stream.type == "audio":
            copy.disposition = stream.disposition & ~Disposition.default  # the generated one plays
        return True

    def _route(self, stream: Stream, copy: Stream) -> None:
        copy.disposition = stream.disposition
        copy.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in FILE_TAGS})
        self.routes[stream.index] = copy

    def copy(self) -> None:
        """Carry the packets over in their order, with the sound in step."""
        unit = self.picture.time_base or Fraction(0)
        period = Clock(self.picture).period or DEFAULT_PERIOD
        end, hidden = self.sound.start + period, False
        for packet in self._packets():
            if packet.stream_index == self.picture.index:
                stamp = _stamp(packet)
                if stamp is None:
                    raise MediaError(f"{self.path} has no time stamps to copy; convert it first, with ffmpeg")
                if self.to_avi and abs(stamp * unit / period - round(stamp * unit / period)) > AVI_TOLERANCE:
                    raise MediaError(f"{self.target} cannot hold a variable frame rate; give a name in .mp4 or .mkv")
                self.sound.until(stamp * unit)
                if packet.pts is not None and not packet.is_discard:
                    end = max(end, packet.pts * unit + ((packet.duration or 0) * unit or period))
                hidden = hidden or packet.is_discard
            elif packet.stream.type == "audio" and self.kind.format not in MOV_FAMILY and _end(packet) <= 0:
                continue  # priming of kept sound: it would push the picture back
            packet.stream = self.routes[packet.stream_index]
            self.out.mux_one(packet)
        self.sound.finish(end)
        if hidden and self.kind.format not in MOV_FAMILY:
            self.warnings.append(f"{self.target}: shows frames that the video hides at its ends, without sound")

    def _packets(self) -> Iterator["Packet[Any]"]:
        """Packets to copy, on the copy's clock, with decoding time stamps that rise."""
        last: dict[int, int] = {}
        self.source.flags |= GENERATE_PTS
        try:
            for packet in self.source.demux([self.source.streams[i] for i in self.routes]):
                if packet.dts is None and packet.pts is None and packet.size == 0:
                    continue  # PyAV's mark of a stream's end
                self._correct(packet, last)
                yield packet
        except av.FFmpegError:
            self.warnings.append(f"{self.path}: the file breaks off; what could be read was copied")

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


def _first_stamp(path: Path) -> Fraction:
    """When the picture's first packet is decoded, seconds."""
    with open_media(path) as source:
        packet = next(iter(source.demux(picture_stream(source, path))))
        return (_stamp(packet) or 0) * packet.time_base


def _stamp(packet: "Packet[Any]") -> int | None:
    return packet.pts if packet.dts is None else packet.dts


def _advice(codec: str) -> str:
    """Which kinds of file hold a codec."""
    holders = []
    for suffix, kind in CONTAINERS.items():
        with av.open(os.devnull, "w", format=kind.format) as out:
            holders += [suffix] * (codec in out.supported_codecs)
    return f"give a name in {_or(holders)}" if holders else "convert it to H.264 first, with ffmpeg"


def _end(packet: "Packet[Any]") -> int:
    return (packet.pts or 0) + (packet.duration or 1)
