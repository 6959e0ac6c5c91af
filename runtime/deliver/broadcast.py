"""Chunks of a broadcast WAV, bext version 2 (EBU Tech 3285) and iXML: where a sound belongs, how it was made."""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from runtime.deliver.loudness import Loudness
from runtime.edit.timecode import Timecode
from runtime.media.wav import BYTES, Chunk, WavFormat

ORIGINATOR = "MaskVAT"
BEXT = "<256s32s32s10s8sQH64s5h180s"  # the fixed part, 602 bytes
NOT_MEASURED = 0x7FFF


@dataclass(frozen=True)
class Origin:
    """What a broadcast WAV says about its sound."""

    description: str
    identifier: str  # 32 letters that name this sound
    version: str  # of this program
    settings: Mapping[str, str]  # how it was made, such as {"seed": "0"}
    take: int  # from 1
    made: datetime
    offset: Fraction  # seconds from the video's first picture to the first sample
    start: Timecode | None  # of the video's first picture


def time_reference(origin: Origin, rate: int) -> int:
    """Samples from midnight to the first sample by the video's timecode; from its first picture without timecode."""
    if origin.start is None:
        return round(origin.offset * rate)
    return round((origin.start.seconds + origin.offset) % (origin.start.day / origin.start.rate) * rate)


def broadcast_chunks(form: WavFormat, origin: Origin, loudness: Loudness) -> list[Chunk]:
    """The chunks bext and iXML."""
    return [(b"bext", bext(form, origin, loudness)), (b"iXML", ixml(form, origin))]


def bext(form: WavFormat, origin: Origin, loudness: Loudness) -> bytes:
    """The content of a bext chunk. Text is ASCII; other letters become question marks."""
    values = (
        loudness.integrated,
        loudness.range,
        loudness.true_peak,
        loudness.momentary_max,
        loudness.short_term_max,
    )
    fixed = struct.pack(
        BEXT,
        _ascii(origin.description),
        _ascii(ORIGINATOR),
        _ascii(origin.identifier),
        _ascii(f"{origin.made:%Y-%m-%d}"),
        _ascii(f"{origin.made:%H:%M:%S}"),
        time_reference(origin, form.rate),
        2,
        b"",
        *map(_hundredths, values),
        b"",
    )
    return fixed + _ascii(_coding_history(form, origin))


def ixml(form: WavFormat, origin: Origin) -> bytes:
    """The content of an iXML chunk. SPEED is left out if the video has no timecode: a wrong rate is worse than none."""
    root = ET.Element("BWFXML")

    def add(parent: ET.Element, **fields: object) -> None:
        for name, value in fields.items():
            ET.SubElement(parent, name).text = str(value)

    note = "; ".join(f"{key}: {value}" for key, value in origin.settings.items())
    add(root, IXML_VERSION="2.10", PROJECT=ORIGINATOR, SCENE=origin.description, TAKE=origin.take)
    add(root, NOTE=note, FILE_UID=origin.identifier)
    if origin.start is not None:
        rate = f"{origin.start.rate.numerator}/{origin.start.rate.denominator}"
        samples = time_reference(origin, form.rate)
        speed = ET.SubElement(root, "SPEED")
        add(speed, MASTER_SPEED=rate, CURRENT_SPEED=rate, TIMECODE_RATE=rate)
        add(speed, TIMECODE_FLAG="DF" if origin.start.drop else "NDF", FILE_SAMPLE_RATE=form.rate)
        add(speed, AUDIO_BIT_DEPTH=8 * BYTES[form.bits], DIGITIZER_SAMPLE_RATE=form.rate)
        add(speed, TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI=samples >> 32)
        add(speed, TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO=samples & 0xFFFFFFFF, TIMESTAMP_SAMPLE_RATE=form.rate)
    tracks = ET.SubElement(root, "TRACK_LIST")
    add(tracks, TRACK_COUNT=form.channels)
    for channel in range(1, form.channels + 1):
        track = ET.SubElement(tracks, "TRACK")
        add(track, CHANNEL_INDEX=channel, INTERLEAVE_INDEX=channel, NAME=f"{ORIGINATOR} take {origin.take}")
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _coding_history(form: WavFormat, origin: Origin) -> str:
    mode = "mono" if form.channels == 1 else "dual-mono"
    made = ";".join([f"{ORIGINATOR} {origin.version}", *(f"{k}={v}" for k, v in origin.settings.items())])
    text = made.replace(",", " ")  # a comma ends a field
    return f"A=PCM,F={form.rate},W={8 * BYTES[form.bits]},M={mode},T={text}\r\n"


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _hundredths(value: float | None) -> int:
    """A loudness as bext holds it; what 16 bits of hundredths cannot hold counts as not measured."""
    return round(100 * value) if value is not None and abs(value) < 100 else NOT_MEASURED
