"""Track fields of a Matroska file that PyAV cannot hand to its muxer: pixel aspect and codec delay.

The muxer leaves unused space (a Void element) behind its table of contents, before the tracks. The fields take their
room from there, so that nothing behind the tracks moves.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

SEGMENT, SEEK_HEAD, SEEK, SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AC
TRACKS, TRACK_ENTRY, VIDEO, CRC, VOID = 0x1654AE6B, 0xAE, 0xE0, 0xBF, 0xEC
PIXEL_WIDTH, PIXEL_HEIGHT = 0xB0, 0xBA
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT, CODEC_DELAY = 0x54B0, 0x54BA, 0x54B2, 0x56AA
STEREO_MODE, HALF_WIDTH, HALF_HEIGHT = 0x53B8, (1, 8, 9, 11), (2, 3, 6, 7)  # two views share the picture
BY_ASPECT = 3  # DisplayUnit: the display size is a ratio, not pixels
HEAD = 1 << 24  # bytes in which the tracks must lie: fonts and covers come after them
VOID_HEADER = 9  # bytes: the id, and a size in eight


@dataclass(frozen=True)
class TrackFields:
    """What to write into one track's entry."""

    pixel_aspect: Fraction | None = None
    codec_delay: Fraction | None = None  # seconds that a player takes off the track's time stamps, and does not play


@dataclass(frozen=True)
class _Element:
    kind: int
    at: int
    start: int  # of the payload
    end: int


def set_track_fields(file: BinaryIO, tracks: Mapping[int, TrackFields]) -> bool:
    """Write fields into a finished file, by the track's position. False when there is no room: nothing has changed."""
    file.seek(0)
    head = file.read(HEAD)
    segment = next((e for e in _elements(head, 0, len(head)) if e.kind == SEGMENT), None)
    top: dict[int, _Element] = {}
    for element in _elements(head, segment.start, len(head)) if segment else ():
        top.setdefault(element.kind, element)
        if element.kind == TRACKS:
            break
    if segment is None or not {SEEK_HEAD, VOID, TRACKS} <= set(top) or top[TRACKS].end > len(head):
        return False
    contents, void, old = top[SEEK_HEAD], top[VOID], top[TRACKS]
    new = _pack(TRACKS, _edited_tracks(head, old, tracks))
    growth = len(new) - (old.end - old.at)
    room = void.end - void.at - growth - VOID_HEADER
    if growth < 0 or room < 0 or not contents.end <= void.at < old.at:
        return False
    moved = range(void.end - segment.start, old.end - segment.start)
    index = head[contents.at : contents.start] + _edited_contents(head, contents, moved, growth)
    spare = bytes([VOID]) + ((1 << 56) | room).to_bytes(8, "big") + bytes(room)
    file.seek(contents.at)
    file.write(index + head[contents.end : void.at] + spare + head[void.end : old.at] + new)
    return True


def _edited_tracks(data: bytes, tracks: _Element, edits: Mapping[int, TrackFields]) -> bytes:
    """The content of the Tracks element with the fields."""
    number, body = 0, b""
    for element in _elements(data, tracks.start, tracks.end):
        if element.kind == TRACK_ENTRY:
            fields = edits.get(number, TrackFields())
            body += _pack(TRACK_ENTRY, _edited_entry(data, element, fields))
            number += 1
        elif element.kind != CRC:
            body += data[element.at : element.end]
    return _pack(CRC, zlib.crc32(body).to_bytes(4, "little")) + body


def _edited_entry(data: bytes, entry: _Element, fields: TrackFields) -> bytes:
    body = b""
    for element in _elements(data, entry.start, entry.end):
        if element.kind == VIDEO and fields.pixel_aspect is not None:
            body += _pack(VIDEO, _with_aspect(data, element, fields.pixel_aspect))
        elif element.kind != CODEC_DELAY or fields.codec_delay is None:
            body += data[element.at : element.end]
    if fields.codec_delay is not None:
        body += _number(CODEC_DELAY, round(fields.codec_delay * 10**9))
    return body


def _with_aspect(data: bytes, video: _Element, aspect: Fraction) -> bytes:
    parts = list(_elements(data, video.start, video.end))
    values = {e.kind: int.from_bytes(data[e.start : e.end], "big") for e in parts}
    display = (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)
    kept = b"".join(data[e.at : e.end] for e in parts if e.kind not in display)
    stereo = values.get(STEREO_MODE, 0)
    width = values[PIXEL_WIDTH] * aspect / (2 if stereo in HALF_WIDTH else 1)
    height = Fraction(values[PIXEL_HEIGHT], 2 if stereo in HALF_HEIGHT else 1)
    if width.denominator == height.denominator == 1:
        return kept + _number(DISPLAY_WIDTH, int(width)) + _number(DISPLAY_HEIGHT, int(height))
    ratio = width / height
    sizes = _number(DISPLAY_WIDTH, ratio.numerator) + _number(DISPLAY_HEIGHT, ratio.denominator)
    return kept + sizes + _number(DISPLAY_UNIT, BY_ASPECT)


def _edited_contents(data: bytes, contents: _Element, moved: range, growth: int) -> bytes:
    """The table of contents, with the positions in `moved` brought forward by `growth`; its length stays."""
    body = bytearray(data[contents.start : contents.end])
    checksum: _Element | None = None
    for element in _elements(data, contents.start, contents.end):
        checksum = element if element.kind == CRC else checksum
        for part in _elements(data, element.start, element.end) if element.kind == SEEK else ():
            position = int.from_bytes(data[part.start : part.end], "big")
            if part.kind == SEEK_POSITION and position in moved:
                here = slice(part.start - contents.start, part.end - contents.start)
                body[here] = (position - growth).to_bytes(part.end - part.start, "big")
    if checksum is not None:
        after = body[checksum.end - contents.start :]
        body[checksum.start - contents.start : checksum.end - contents.start] = zlib.crc32(after).to_bytes(4, "little")
    return bytes(body)


def _elements(data: bytes, at: int, end: int) -> Iterator[_Element]:
    """Elements one after another."""
    while at < min(end, len(data)):
        length = 9 - data[at].bit_length()
        kind, size_at = int.from_bytes(data[at : at + length], "big"), at + length
        length = 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at : size_at + length], "big") & ((1 << (7 * length)) - 1)
        start = size_at + length
        yield _Element(kind, at, start, start + size)
        at = start + size


def _pack(kind: int, payload: bytes) -> bytes:
    """An element. The size takes eight bytes where the muxer may have taken them too, so that nothing ever shrinks."""
    size = len(payload)
    short = size < 127 and kind not in (TRACKS, TRACK_ENTRY, VIDEO)
    header = bytes([0x80 | size]) if short else ((1 << 56) | size).to_bytes(8, "big")
    return _unsigned(kind) + header + payload


def _number(kind: int, value: int) -> bytes:
    return _pack(kind, _unsigned(value))


def _unsigned(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
