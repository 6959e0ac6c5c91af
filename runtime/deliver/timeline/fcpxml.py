"""FCPXML 1.10: Final Cut Pro and DaVinci Resolve. Checked against a small DTD; not tested in Final Cut."""

import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

from runtime.deliver.timeline.model import Timeline
from runtime.deliver.timeline.xml_text import add, file_url, xml_document


def fcpxml_text(timeline: Timeline) -> str:
    """The timeline as an .fcpxml file. Sounds are connected to the picture, each in a lane of its own below it."""
    frame = 1 / timeline.rate

    def time(frames: int) -> str:
        return _seconds(frames * frame)

    drop = "DF" if timeline.start_code.drop else "NDF"
    start, length = time(timeline.media_start), time(timeline.frames)
    width, height = timeline.size
    root = ET.Element("fcpxml", version="1.10")
    resources = add(root, "resources")
    add(resources, "format", id="r1", frameDuration=_seconds(frame), width=width, height=height)
    has = {"hasVideo": 1, "format": "r1", "videoSources": 1}
    _add_asset(resources, "r2", timeline.video, start, length, has)
    for number, sound in enumerate(timeline.sounds, 3):
        has = {"hasAudio": 1, "audioSources": 1, "audioChannels": sound.channels, "audioRate": sound.rate}
        _add_asset(resources, f"r{number}", sound.path, time(sound.media_start), time(sound.frames), has)
    event = add(add(root, "library"), "event", name=timeline.name)
    project = add(event, "project", name=timeline.name)
    sequence = add(project, "sequence", format="r1", duration=length, tcStart=start, tcFormat=drop)
    attributes = {"offset": start, "start": start, "duration": length, "tcFormat": drop}
    picture = add(add(sequence, "spine"), "asset-clip", ref="r2", name=timeline.video.name, **attributes)
    for number, sound in enumerate(timeline.sounds, 1):
        attributes = {"offset": time(timeline.media_start + sound.first), "start": time(sound.media_start)}
        attributes |= {"duration": time(sound.frames), "audioRole": f"effects.{_role(sound.name)}"}
        add(picture, "asset-clip", ref=f"r{number + 2}", lane=-number, name=sound.name, **attributes)
    return xml_document(root, "fcpxml")


def _add_asset(parent: ET.Element, name: str, path: Path, start: str, length: str, has: dict[str, object]) -> None:
    asset = add(parent, "asset", id=name, name=path.name, start=start, duration=length, **has)
    add(asset, "media-rep", kind="original-media", src=file_url(path))


def _role(name: str) -> str:
    return name.replace(".", " ").replace("?", " ")


def _seconds(value: Fraction) -> str:
    """Seconds as FCPXML writes them: "0s", "5s", "1001/30000s"."""
    return f"{value.numerator}s" if value.denominator == 1 else f"{value.numerator}/{value.denominator}s"
