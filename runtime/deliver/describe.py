"""Describe a media file as plain data, and compare a copy with its source: the warnings of a copy come from here."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from typing import Any, cast

import av.logging
from av.container import InputContainer
from av.stream import Disposition, Stream

FILE_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}  # about the file, not the film
TRACK_TAGS = {"encoder", "duration", "handler_name", "vendor_id", "bps", "number_of_frames", "number_of_bytes"}
COVER_TAGS = {"filename", "mimetype"}  # of a cover that Matroska holds as an attachment
UNSPECIFIED = {None, 0, 2, "unknown"}  # colours that say nothing (libav's AVCOL_*_UNSPECIFIED is 2)
COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")
RATE_HINTS = "cpb"  # side data about buffers, which every muxer makes for itself
_LOG_LEVEL = Lock()  # libav's log level belongs to the process


@dataclass(frozen=True)
class StreamFacts:
    """What matters of one stream. `tags` has lower-case names; `side_data` maps a name to libav's description."""

    index: int
    kind: str  # video, cover art, audio, subtitle, data, attachment or unknown
    codec: str
    codec_tag: str
    tags: Mapping[str, str]
    side_data: Mapping[str, str]
    disposition: Disposition
    shape: tuple[int, int, Fraction] | None = None  # width, height, pixel aspect
    pixels: str | None = None  # pixel format
    colours: tuple[Any, ...] = ()


@dataclass(frozen=True)
class FileFacts:
    """What matters of a file."""

    format: str
    tags: Mapping[str, str]
    chapters: Sequence[tuple[Fraction, str]]  # start in seconds, title
    streams: Sequence[StreamFacts]


def describe(container: InputContainer) -> FileFacts:
    """The facts of an open file. Nothing is decoded, and its position does not change."""
    lines, side_data = _dump(container)
    chapters = [
        (c["start"] * (c["time_base"] or Fraction(0)), c["metadata"].get("title", "")) for c in container.chapters()
    ]
    streams = [_stream_facts(s, lines.get(s.index, ""), side_data.get(s.index, {})) for s in container.streams]
    ignored = FILE_TAGS | {"software"} if container.format.name == "avi" else FILE_TAGS  # AVI's name for the encoder
    return FileFacts(container.format.name, _tags(container.metadata, ignored), chapters, streams)


def stream_lines(container: InputContainer) -> dict[int, str]:
    """libav's line about each stream, by index: "Video: h264 (High) (avc1 / 0x31637661), yuv420p, ..."."""
    return _dump(container)[0]


def losses(source: FileFacts, copy: FileFacts, keep_sound: bool) -> list[str]:
    """What the source has and the copy does not, one sentence each. The copy's first sound is the generated one."""
    wanted = [s for s in source.streams if _is_content(s, source) and (keep_sound or s.kind != "audio")]
    made = next((s.index for s in copy.streams if s.kind == "audio"), None)
    found = [s for s in copy.streams if s.index != made]
    sentences: list[str] = []
    missing: Counter[str] = Counter()
    same_family = source.format == copy.format
    for stream in wanted:
        match = next((s for s in found if (s.kind, s.codec) == (stream.kind, stream.codec)), None)
        if match is None:
            missing[stream.kind] += 1
            continue
        found.remove(match)
        common = {key for key, value in source.tags.items() if copy.tags.get(key) == value}  # said for the whole file
        lost = _stream_losses(stream, match, common | COVER_TAGS if stream.kind == "cover art" else common, same_family)
        if lost:
            name = "the picture" if stream.kind == "video" else f"{stream.kind} {stream.index}"
            sentences.append(f"{name} loses its {', '.join(lost)}")
    sentences[:0] = [f"left out {missing[kind]} x {kind}, which it cannot hold" for kind in sorted(missing)]
    tags = [key for key, value in source.tags.items() if copy.tags.get(key) != value]
    if tags:
        sentences.append(f"loses the tags {', '.join(sorted(tags))}")
    if [title for _, title in source.chapters] != [title for _, title in copy.chapters]:
        sentences.append(f"has {len(copy.chapters)} of {len(source.chapters)} chapters as they were")
    return sentences


def _is_content(stream: StreamFacts, file: FileFacts) -> bool:
    """Whether a stream is more than another form of chapters or of a time code that the picture's tags hold as well."""
    if stream.kind != "data":
        return True
    if stream.codec_tag == "tmcd":
        return not any(s.kind == "video" and "timecode" in s.tags for s in file.streams)
    return not (stream.codec_tag == "text" and file.chapters)


def _stream_losses(source: StreamFacts, copy: StreamFacts, ignored: set[str], same_family: bool) -> list[str]:
    lost = [f"{name} data" for name, text in source.side_data.items() if copy.side_data.get(name) != text]
    for key, value in source.tags.items():
        if copy.tags.get(key) != value and key not in ignored:
            lost.append("alpha channel" if key == "alpha_mode" else f"{key} ({value})")
    if same_family and copy.codec_tag not in (source.codec_tag, ""):  # Matroska has none for codecs that it names
        lost.append(f"codec tag ({source.codec_tag})")
    for flag in Disposition:
        if source.disposition & flag and not copy.disposition & flag and flag is not Disposition.default:
            lost.append(f"mark as {flag.name}")
    if source.kind == "cover art":
        return lost
    if source.shape is not None and copy.shape is not None and source.shape != copy.shape:
        width, height, aspect = source.shape
        lost.append(f"shape ({width} x {height}, pixels {aspect.numerator}:{aspect.denominator})")
    if source.pixels != copy.pixels:
        lost.append(f"pixel format ({source.pixels})")
    for name, value, now in zip(COLOURS, source.colours, copy.colours, strict=False):
        if value not in UNSPECIFIED and value != now:
            lost.append(name.replace("color_", "colour ").replace("colorspace", "colour matrix"))
    return lost


def _stream_facts(stream: Stream, line: str, side_data: Mapping[str, str]) -> StreamFacts:
    tag = re.search(r"\(([^()]+) / 0x[0-9A-F]+\)", line)
    codec = re.match(r"\w+: (\w+)", line)
    cover = stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    kind = "cover art" if cover and stream.type == "video" else stream.type
    shape, pixels, colours = None, None, ()
    context: Any = stream.codec_context
    if stream.type == "video" and context is not None:
        aspect = getattr(stream, "sample_aspect_ratio", None) or Fraction(1)
        shape, pixels = (context.width, context.height, aspect), context.pix_fmt
        colours = tuple(getattr(context, name) for name in COLOURS)
    return StreamFacts(
        stream.index,
        kind,
        codec[1] if codec else "",
        tag[1] if tag else "",
        _tags(stream.metadata, TRACK_TAGS),
        side_data,
        stream.disposition,
        shape,
        pixels,
        colours,
    )


def _tags(metadata: Mapping[str, str], ignored: set[str]) -> dict[str, str]:
    """Tags with lower-case names, less those about the file, and less translations ("comment-eng") of a tag."""
    tags = {key.lower(): value for key, value in metadata.items()}
    if ignored is TRACK_TAGS and "name" in tags:
        tags["title"] = tags.pop("name")  # MP4 and MOV are written with one and read with the other
    return {
        key: value
        for key, value in tags.items()
        if (base := re.sub(r"-[a-z]{3}$", "", key)) not in ignored
        and not key.startswith("_statistics")
        and (base == key or base not in tags)
        and (key, value) != ("language", "und")
    }


def _dump(container: InputContainer) -> tuple[dict[int, str], dict[int, dict[str, str]]]:
    """libav's summary of a file: (line of each stream, side data of each stream). PyAV offers neither otherwise."""
    with _LOG_LEVEL, av.logging.Capture(local=False), av.logging.Capture():  # the former: no other thread's logs leak
        level = av.logging.get_level()
        av.logging.set_level(max(level or 0, av.logging.INFO))
        try:
            text = cast(Any, container).dumps_format()  # PyAV's type stubs leave it out
        finally:
            av.logging.set_level(level)
    lines: dict[int, str] = {}
    side_data: dict[int, dict[str, str]] = {}
    index, inside = -1, False
    for line in text.splitlines():
        header = re.match(r"  Stream #0:(\d+)(?:\[[^\]]*\])?(?:\([^)]*\))?: (.*)", line)
        if header:
            index, inside = int(header[1]), False
            lines[index], side_data[index] = header[2], {}
        elif line.startswith("      ") and inside:
            name = re.split(r"[:,]", line.strip())[0]
            if name != RATE_HINTS:
                side_data[index][name] = line.strip()
        else:
            inside = line.strip().lower() == "side data:" and index >= 0
    return lines, side_data
