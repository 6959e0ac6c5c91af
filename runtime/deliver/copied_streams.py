"""Which streams of a video a copy takes, and with which codec tags. Each choice is tested with the muxer."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from runtime.audio import open_media
from runtime.deliver.containers import MOV_FAMILY, Container, Existing
from runtime.deliver.describe import FILE_TAGS
from runtime.deliver.matroska import TrackFields
from runtime.errors import MediaError
from runtime.media.clock import frame_rate
from runtime.media.packets import read_packets
from runtime.video import NOT_PICTURE

Refusals = (ValueError, av.FFmpegError)
REFUSED = "refused"  # in place of a codec tag
COVER_NAMES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class Refused(MediaError):
    """A kind of file does not take a video. The text begins with a verb; the caller names the file and gives advice."""

    code = "container_refused"


@dataclass
class CopyPlan:
    """What a copy takes of its source."""

    kind: Container
    streams: dict[int, str | None]  # the source's stream, by index -> codec tag to write; None: the muxer's own
    covers: list[tuple[str, str, bytes]] = field(default_factory=list)  # pictures that Matroska holds as attachments
    options: dict[str, str] = field(default_factory=dict)  # of the muxer


def plan_streams(source: InputContainer, path: Path, kind: Container, existing: Existing) -> CopyPlan:
    """The streams that a kind of file takes. Raises Refused when it takes no picture."""
    plan = CopyPlan(kind, {}, options={"strict": "unofficial"})  # for 360-degree and Dolby Vision data
    for picture in source.streams.video:
        if not picture.disposition & NOT_PICTURE:
            tag = _accepted_tag(source, kind, picture, [])
            if tag == REFUSED:
                raise Refused(f"cannot hold a picture in {codec_name(picture)}")
            plan.streams[picture.index] = tag or None
    pictures = [source.streams[i] for i in plan.streams]
    for stream in source.streams:
        if stream.index in plan.streams or (stream.type == "audio" and existing == "replace"):
            continue
        if stream.type == "video" and kind.format == "matroska":
            plan.covers += _cover(path, stream)
        elif _may_hold(source, kind, stream):
            tag = _accepted_tag(source, kind, stream, pictures)
            if tag != REFUSED:
                plan.streams[stream.index] = tag or None
    return plan


def add_stream(
    out: OutputContainer, source: InputContainer, stream: Stream, kind: Container, tag: str | None
) -> Stream:
    """Add a source's stream to a copy, with all that PyAV can hand over."""
    copy: Any = out.add_stream_from_template(stream, opaque=True)
    if stream.type == "video":
        rate = frame_rate(source, stream)  # type: ignore[arg-type]
        if rate:
            copy.codec_context.framerate = rate
            if not kind.timed and source.format.name != "avi":
                copy.time_base = 1 / rate
        aspect = pixel_aspect(stream)
        if aspect is not None:
            copy.codec_context.sample_aspect_ratio = aspect
    if tag is not None and copy.codec_context is not None:
        copy.codec_context.codec_tag = tag
    copy.disposition = stream.disposition
    if stream.type == "audio":
        copy.disposition &= ~Disposition.default  # the generated one plays
    copy.metadata.update({k: v for k, v in stream.metadata.items() if k.lower() not in FILE_TAGS})
    if "name" in stream.metadata:  # as MP4 and MOV call the title of a track when they are read
        copy.metadata.setdefault("title", stream.metadata["name"])
    return cast(Stream, copy)


def pixel_aspect(stream: Stream) -> Fraction | None:
    """Width to height of a picture's pixels, or None when nothing says it."""
    aspect: Fraction | None = getattr(stream, "sample_aspect_ratio", None)
    return aspect or None


def codec_name(stream: Stream) -> str:
    """A stream's codec in words."""
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context is not None else "an unknown codec"


def matroska_fields(source: InputContainer, plan: CopyPlan, delays: Mapping[int, Fraction]) -> dict[int, TrackFields]:
    """Fields of a Matroska copy's tracks that its muxer does not write, by position: the sound follows the pictures."""
    fields: dict[int, TrackFields] = {}
    pictures = sum(source.streams[i].type == "video" for i in plan.streams)
    tracks = [i for i in plan.streams if source.streams[i].type != "attachment"]
    for place, index in enumerate(tracks):
        stream = source.streams[index]
        aspect = pixel_aspect(stream) if stream.type == "video" else None
        if aspect is not None or index in delays:
            fields[place + (place >= pictures)] = TrackFields(aspect, delays.get(index))
    return fields


def _accepted_tag(source: InputContainer, kind: Container, stream: Stream, others: Sequence[Stream]) -> str:
    """The source's codec tag if the kind of file takes the stream with it, else "" if it does with its own; as FFmpeg
    does for a copy. REFUSED if it takes neither.
    """
    for tag in dict.fromkeys((_codec_tag(stream), "")):
        with av.open(os.devnull, "w", format=kind.format) as out:
            try:
                for other in others:
                    add_stream(out, source, other, kind, None)
                add_stream(out, source, stream, kind, tag or None)
                out.start_encoding()
            except Refusals:
                continue
            return tag
    return REFUSED


def _codec_tag(stream: Stream) -> str:
    """A stream's codec tag, or "" when there is none that can be handed over."""
    try:
        tag: str = stream.codec_context.codec_tag if stream.codec_context is not None else ""
    except UnicodeDecodeError:
        return ""
    return tag if len(tag) == 4 and tag.strip("\0") else ""


def _may_hold(source: InputContainer, kind: Container, stream: Stream) -> bool:
    """Whether a kind of file knows a type of stream at all. A muxer may take a header that no reader understands."""
    if stream.type == "attachment":
        return kind.format == "matroska"
    if stream.type == "video":
        return kind.format in MOV_FAMILY
    if stream.type == "data":  # of MP4 and MOV only: their tags say what the data is; time codes are written from tags
        movie = source.format.name.startswith("mov") and kind.format in MOV_FAMILY
        return movie and "timecode" not in stream.metadata and not source.chapters()
    return True


def _cover(path: Path, stream: Stream) -> list[tuple[str, str, bytes]]:
    """A cover picture as (file name, type, content), to attach; nothing for a kind of picture without a type."""
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    name, mime = COVER_NAMES.get(codec, ("cover", stream.metadata.get("mimetype", "")))
    if not mime:
        return []
    with open_media(path) as again:
        packet = next((p for p in read_packets(again, again.streams[stream.index]) if p.size), None)
    return [] if packet is None else [(stream.metadata.get("filename", name), mime, bytes(packet))]
