"""OpenTimelineIO: DaVinci Resolve, Premiere from 25.6 on, Kdenlive from 25.04 on.

The file keeps to what Resolve accepts: stock schemas only, ranges in the media's own timecode, an available range for
every reference, and plain absolute paths.
"""

import json
from typing import Any

from runtime.deliver.timeline.model import Timeline


def otio_text(timeline: Timeline) -> str:
    """The timeline as an .otio file."""
    rate = float(timeline.rate)  # what the format holds: the nearest double, as the library's own

    def time(frame: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(frame)}

    def span(first: int, frames: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(first), "duration": time(frames)}

    def clip(name: str, path: str, first: int, frames: int) -> dict[str, Any]:
        media = {"name": name, "target_url": path, "available_range": span(first, frames), "metadata": {}}
        return {
            "OTIO_SCHEMA": "Clip.2",
            "name": name,
            "source_range": span(first, frames),
            "media_references": {"DEFAULT_MEDIA": {"OTIO_SCHEMA": "ExternalReference.1", **media}},
            "active_media_reference_key": "DEFAULT_MEDIA",
            **_common(),
        }

    def track(kind: str, name: str, children: list[dict[str, Any]]) -> dict[str, Any]:
        children = [child for child in children if child]
        return {"OTIO_SCHEMA": "Track.1", "name": name, "kind": kind, "children": children, **_common()}

    def gap(frames: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "Gap.1", "name": "", "source_range": span(0, frames), **_common()} if frames else {}

    picture = clip(timeline.video.name, str(timeline.video), timeline.media_start, timeline.frames)
    tracks = [track("Video", "Picture", [picture])]
    for sound in timeline.sounds:
        audio = clip(sound.path.name, str(sound.path), sound.media_start, sound.frames)
        tracks.append(track("Audio", sound.name, [gap(sound.first), audio]))
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": tracks, **_common()}
    start = time(timeline.media_start)
    whole = {"OTIO_SCHEMA": "Timeline.1", "name": timeline.name, "global_start_time": start, "tracks": stack}
    return json.dumps(whole | {"metadata": {}}, indent=1, ensure_ascii=False) + "\n"


def _common() -> dict[str, Any]:
    return {"metadata": {}, "effects": [], "markers": [], "enabled": True}
