"""Final Cut Pro 7 XML (xmeml 5): Premiere, DaVinci Resolve and others, but not today's Final Cut."""

import xml.etree.ElementTree as ET

from runtime.deliver.timeline.model import Timeline, TimelineSound
from runtime.deliver.timeline.xml_text import add, file_url, xml_document
from runtime.edit.timecode import Timecode


def xmeml_text(timeline: Timeline) -> str:
    """The timeline as an .xml file."""
    root = ET.Element("xmeml", version="5")
    sequence = add(root, "sequence", id="sequence-1")
    add(sequence, "name", timeline.name)
    add(sequence, "duration", timeline.frames)
    _add_rate(sequence, timeline)
    _add_timecode(sequence, timeline, timeline.start_code)
    media = add(sequence, "media")
    video = add(media, "video")
    _add_picture_format(add(video, "format"), timeline)
    _add_picture(add(video, "track"), timeline)
    audio = add(media, "audio")
    for number, sound in enumerate(timeline.sounds, 1):
        _add_sound(add(audio, "track"), timeline, sound, number)
    return xml_document(root, "xmeml")


def _add_rate(parent: ET.Element, timeline: Timeline) -> None:
    rate = add(parent, "rate")
    add(rate, "timebase", timeline.base)
    add(rate, "ntsc", "TRUE" if timeline.ntsc else "FALSE")


def _add_timecode(parent: ET.Element, timeline: Timeline, code: Timecode) -> None:
    element = add(parent, "timecode")
    _add_rate(element, timeline)
    add(element, "string", code)
    add(element, "frame", code.frame)
    add(element, "displayformat", "DF" if code.drop else "NDF")


def _add_picture_format(parent: ET.Element, timeline: Timeline) -> None:
    sample = add(parent, "samplecharacteristics")
    _add_rate(sample, timeline)
    add(sample, "width", timeline.size[0])
    add(sample, "height", timeline.size[1])


def _add_item(track: ET.Element, timeline: Timeline, label: str, name: str, first: int, frames: int) -> ET.Element:
    item = add(track, "clipitem", id=f"clipitem-{label}")
    add(item, "name", name)
    add(item, "enabled", "TRUE")
    add(item, "duration", frames)
    _add_rate(item, timeline)
    for tag, value in (("start", first), ("end", first + frames), ("in", 0), ("out", frames)):
        add(item, tag, value)
    return item


def _add_picture(track: ET.Element, timeline: Timeline) -> None:
    name = timeline.video.name
    item = _add_item(track, timeline, "video", name, 0, timeline.frames)
    file = add(item, "file", id="file-video")
    add(file, "name", name)
    add(file, "pathurl", file_url(timeline.video, "localhost"))
    _add_rate(file, timeline)
    add(file, "duration", timeline.frames)
    _add_timecode(file, timeline, timeline.start_code)
    _add_picture_format(add(add(file, "media"), "video"), timeline)


def _add_sound(track: ET.Element, timeline: Timeline, sound: TimelineSound, number: int) -> None:
    item = _add_item(track, timeline, f"audio-{number}", sound.path.name, sound.first, sound.frames)
    file = add(item, "file", id=f"file-audio-{number}")
    add(file, "name", sound.path.name)
    add(file, "pathurl", file_url(sound.path, "localhost"))
    _add_rate(file, timeline)
    add(file, "duration", sound.frames)
    start = Timecode(sound.media_start, timeline.rate, timeline.start_code.drop)
    _add_timecode(file, timeline, start)
    audio = add(add(file, "media"), "audio")
    sample = add(audio, "samplecharacteristics")
    add(sample, "depth", sound.depth)
    add(sample, "samplerate", sound.rate)
    add(audio, "channelcount", sound.channels)
    source = add(item, "sourcetrack")
    add(source, "mediatype", "audio")
    add(source, "trackindex", 1)
