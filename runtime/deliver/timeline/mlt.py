"""MLT XML: melt, Shotcut, and with limits Kdenlive. Shotcut's properties make it a real timeline with named tracks."""

import xml.etree.ElementTree as ET

from runtime.deliver.timeline.model import Timeline
from runtime.deliver.timeline.xml_text import add, xml_document


def mlt_text(timeline: Timeline) -> str:
    """The timeline as an .mlt file."""
    last = timeline.frames - 1
    last = max(last, *(s.first + s.frames - 1 for s in timeline.sounds)) if timeline.sounds else last
    root = ET.Element("mlt", LC_NUMERIC="C", version="7.12.0", producer="main_bin")
    width, height = timeline.size
    rate = {"frame_rate_num": timeline.rate.numerator, "frame_rate_den": timeline.rate.denominator}
    shape = {"sample_aspect_num": 1, "sample_aspect_den": 1, "display_aspect_num": width, "display_aspect_den": height}
    size = {"width": width, "height": height, "progressive": 1, "colorspace": 709}
    add(root, "profile", description="from the video", **rate, **shape, **size)
    _add_background(root, last)
    chain = add(root, "chain", id="picture", out=timeline.frames - 1)
    _set(chain, resource=timeline.video, mlt_service="avformat", audio_index=-1, video_index=0)
    playlist = _add_playlist(root, "playlist0", "Picture", "video")
    add(playlist, "entry", producer="picture", **{"in": 0, "out": timeline.frames - 1})
    for number, sound in enumerate(timeline.sounds, 1):
        name = f"sound{number}"
        chain = add(root, "chain", id=name, out=sound.frames - 1)
        _set(chain, resource=sound.path, mlt_service="avformat", audio_index=0, video_index=-1)
        playlist = _add_playlist(root, f"playlist{number}", sound.name, "audio")
        if sound.first:
            add(playlist, "blank", length=sound.first)
        add(playlist, "entry", producer=name, **{"in": 0, "out": sound.frames - 1})
    _add_tractor(root, timeline, last)
    return xml_document(root)


def _set(element: ET.Element, **properties: object) -> None:
    for name, value in properties.items():
        add(element, "property", value, name=name.replace("__", ":"))


def _add_background(root: ET.Element, last: int) -> None:
    """The black track that Shotcut expects below all others."""
    black = add(root, "producer", id="black", **{"in": 0, "out": last})
    _set(black, resource=0, mlt_service="color", length=last + 1, mlt_image_format="rgba", set__test_audio=0)
    add(add(root, "playlist", id="background"), "entry", producer="black", **{"in": 0, "out": last})


def _add_playlist(root: ET.Element, name: str, title: str, kind: str) -> ET.Element:
    playlist = add(root, "playlist", id=name)
    _set(playlist, **{f"shotcut__{kind}": 1, "shotcut__name": title})
    return playlist


def _add_tractor(root: ET.Element, timeline: Timeline, last: int) -> None:
    """The tracks on top of each other. Every audible track has a transition of its own that adds it to the mix."""
    tractor = add(root, "tractor", id="tractor0", title=timeline.name, **{"in": 0, "out": last})
    _set(tractor, shotcut=1)
    add(tractor, "track", producer="background")
    add(tractor, "track", producer="playlist0", hide="audio")
    for number in range(1, len(timeline.sounds) + 1):
        add(tractor, "track", producer=f"playlist{number}", hide="video")
    for track in range(1, len(timeline.sounds) + 2):
        mix = add(tractor, "transition", id=f"mix{track}")
        _set(mix, a_track=0, b_track=track, mlt_service="mix", always_active=1, sum=1)
    blend = add(tractor, "transition", id="blend")
    _set(blend, a_track=0, b_track=1, mlt_service="qtblend", always_active=1)
