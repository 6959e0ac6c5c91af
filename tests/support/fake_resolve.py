"""DaVinci Resolve's scripting API, as far as scripts that place sound use it, with its measured oddities.

The numbers in the comments are those of the table in plugins/resolve/README.md, which names each behaviour.
"""

from __future__ import annotations

import functools
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

EXACT = {"23.976": Fraction(24000, 1001), "29.97": Fraction(30000, 1001), "59.94": Fraction(60000, 1001)}


def rate_of(value: object) -> Fraction:
    text = str(value).split()[0]
    return EXACT.get(text) or Fraction(float(text)).limit_denominator(1000)


@dataclass
class World:
    """What a test chooses, and what the program did."""

    product: str = "DaVinci Resolve Studio"
    timeline_rate: object = "25"  # 2: a text or a rounded number
    project_rate: object = "25"
    start_frame: int = 90000  # 1: one hour
    end_is_inclusive: bool = False  # 3: measured exclusive; other scripts pass duration - 1
    refuses_beyond_end: bool = False  # an end frame after the file's end: nothing is placed
    sources_off_by_one: bool = True  # 6
    failing_appends: int = 0  # 12: that many appends err, and leave items that vanish
    drops_appends: bool = False  # 4: as if something lay there already
    missing: set[str] = field(default_factory=set)  # functions that this version does not have
    broken: bool = False  # 9: a dialog is open
    calls: list[str] = field(default_factory=list)

    @property
    def is_studio(self) -> bool:
        return self.product.endswith("Studio")


def api(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Resolve. While the purchase dialog is open, every call returns False (9)."""

    @functools.wraps(method)
    def call(self: Scriptable, *arguments: Any) -> Any:
        self.world.calls.append(method.__name__)
        return False if self.world.broken else method(self, *arguments)

    call.is_api = True  # type: ignore[attr-defined]
    return call


class Scriptable:
    """Any name exists on Resolve's objects; those that mean nothing are None (8)."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattribute__(self, name: str) -> Any:
        if name[0].isupper() and name in super().__getattribute__("world").missing:
            return None
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class PoolItem(Scriptable):
    """A file in the media pool. A WAV takes the project's frame rate when it is imported (5)."""

    def __init__(self, world: World, path: str, rate: object, frames: int) -> None:
        super().__init__(world)
        self.path, self.rate, self.frames = path, rate, frames

    @api
    def GetClipProperty(self, key: str) -> object:
        return {"File Path": self.path, "FPS": self.rate}.get(key, "")

    @api
    def GetName(self) -> str:
        return Path(self.path).name


class Item(Scriptable):
    """A clip on the timeline. `speed` is not 1 where it was retimed."""

    def __init__(
        self, world: World, media: PoolItem | None, start: int, frames: int, left: int = 0, speed: float = 1.0
    ) -> None:
        super().__init__(world)
        self.media, self.start, self.frames, self.left, self.speed = media, start, frames, left, speed
        self.doomed = False

    @api
    def GetStart(self) -> int:
        return self.start  # 1: from midnight

    @api
    def GetDuration(self) -> int:
        return self.frames

    @api
    def GetLeftOffset(self) -> int:
        return round(self.left / self.speed)  # 6: exact, but warped on retimed clips

    @api
    def GetSourceStartFrame(self) -> int:
        return self.left + self.world.sources_off_by_one

    @api
    def GetSourceEndFrame(self) -> int:
        return self.left + round(self.frames * self.speed)

    @api
    def GetMediaPoolItem(self) -> PoolItem | None:
        return self.media  # 7: none of a title or generator


class Folder(Scriptable):
    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.name, self.folders, self.clips = name, list[Folder](), list[PoolItem]()

    @api
    def GetName(self) -> str:
        return self.name

    @api
    def GetSubFolderList(self) -> list[Folder]:
        return list(self.folders)


@dataclass
class Track:
    name: str
    items: list[Item] = field(default_factory=list)
    locked: bool = False
    enabled: bool = True


class Timeline(Scriptable):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.current: Item | None = None
        self.tracks = {"video": [Track("Video 1")], "audio": [Track("Audio 1")]}
        self.markers: dict[str, tuple[int, str]] = {}  # custom data -> frame from the timeline's start, note

    @api
    def GetSetting(self, key: str) -> object:
        return self.world.timeline_rate if key == "timelineFrameRate" else ""

    @api
    def GetStartFrame(self) -> int:
        return self.world.start_frame

    @api
    def GetCurrentVideoItem(self) -> Item | None:
        return self.current

    @api
    def GetSelectedClips(self) -> list[Item]:
        if not self.world.is_studio:
            self.world.broken = True  # 9
        return [self.current] if self.current else []

    @api
    def AddTrack(self, kind: str, _subtype: str = "") -> bool:
        self.tracks[kind].append(Track(f"{kind} {len(self.tracks[kind]) + 1}"))
        return True

    @api
    def DeleteTrack(self, kind: str, number: int) -> bool:
        del self.tracks[kind][number - 1]
        return True

    @api
    def GetTrackCount(self, kind: str) -> int:
        return len(self.tracks[kind])

    @api
    def SetTrackName(self, kind: str, number: int, name: str) -> bool:
        self.tracks[kind][number - 1].name = name
        return True

    @api
    def SetTrackEnable(self, kind: str, number: int, enabled: bool) -> bool:
        self.tracks[kind][number - 1].enabled = enabled
        return True

    @api
    def GetItemListInTrack(self, kind: str, number: int) -> list[Item]:
        return list(self.tracks[kind][number - 1].items)

    @api
    def DeleteClips(self, items: list[Item], _ripple: bool = False) -> bool:
        for track in (*self.tracks["video"], *self.tracks["audio"]):
            track.items = [item for item in track.items if item not in items]
        return True

    @api
    def AddMarker(self, frame: int, _color: str, _name: str, note: str, _frames: int, data: str = "") -> bool:
        self.markers[data] = (frame, note)
        return True

    @api
    def DeleteMarkerByCustomData(self, data: str) -> bool:
        return self.markers.pop(data, None) is not None

    def save(self) -> None:
        """What the program's next save does: items of calls that erred vanish (12)."""
        for track in self.tracks["audio"]:
            track.items = [item for item in track.items if not item.doomed]


class MediaPool(Scriptable):
    def __init__(self, world: World, timeline: Timeline | None) -> None:
        super().__init__(world)
        self.timeline = timeline
        self.root = self.current = Folder(world, "Master")

    @api
    def GetRootFolder(self) -> Folder:
        return self.root

    @api
    def GetCurrentFolder(self) -> Folder:
        return self.current

    @api
    def SetCurrentFolder(self, folder: Folder) -> bool:
        self.current = folder
        return True

    @api
    def AddSubFolder(self, parent: Folder, name: str) -> Folder:
        parent.folders.append(Folder(self.world, name))
        return parent.folders[-1]

    @api
    def ImportMedia(self, paths: list[str]) -> list[PoolItem]:
        found = []
        for path in paths:
            try:
                with wave.open(str(path), "rb") as file:
                    seconds = Fraction(file.getnframes(), file.getframerate())
            except (OSError, wave.Error):
                continue
            frames = round(seconds * rate_of(self.world.project_rate))  # 5
            found.append(PoolItem(self.world, str(path), self.world.project_rate, frames))
        self.current.clips += found  # 10: into the current bin
        return found

    @api
    def AppendToTimeline(self, infos: list[dict[str, Any]]) -> list[Item] | None:
        return [item for info in infos for item in self._append(**info)] if self.world.failing_appends == 0 else (
            self._append_and_fail(infos)
        )  # fmt: skip

    def _append_and_fail(self, infos: list[dict[str, Any]]) -> None:
        self.world.failing_appends -= 1
        for info in infos:
            for item in self._append(**info):
                item.doomed = True

    def _append(self, mediaPoolItem: PoolItem, startFrame: int, endFrame: int, mediaType: int, trackIndex: int,
                recordFrame: int) -> list[Item]:  # fmt: skip
        assert self.timeline is not None and mediaType == 2
        track = self.timeline.tracks["audio"][trackIndex - 1]
        if track.locked:
            return []
        end = endFrame + self.world.end_is_inclusive  # 3
        if end > mediaPoolItem.frames and self.world.refuses_beyond_end:
            return []
        span = min(end, mediaPoolItem.frames) - startFrame
        own, rate = rate_of(mediaPoolItem.rate), rate_of(self.world.timeline_rate)
        frames = span if own == rate else floor(span * rate / own) - 1  # 11: one frame short
        item = Item(self.world, mediaPoolItem, recordFrame, frames, startFrame)
        if self.world.drops_appends or any(
            o.start < recordFrame + frames and recordFrame < o.start + o.frames for o in track.items
        ):
            return [item]  # 4: the answer looks good, but nothing was placed
        track.items.append(item)
        return [item]


class Project(Scriptable):
    def __init__(self, world: World, timeline: Timeline | None) -> None:
        super().__init__(world)
        self.timeline, self.pool = timeline, MediaPool(world, timeline)

    @api
    def GetCurrentTimeline(self) -> Timeline | None:
        return self.timeline

    @api
    def GetMediaPool(self) -> MediaPool:
        return self.pool

    @api
    def GetSetting(self, key: str) -> object:
        return self.world.project_rate if key == "timelineFrameRate" else ""


class Manager(Scriptable):
    def __init__(self, world: World, project: Project | None) -> None:
        super().__init__(world)
        self.project = project

    @api
    def GetCurrentProject(self) -> Project | None:
        return self.project

    @api
    def SaveProject(self) -> bool:
        raise AssertionError("10: saving an untitled project blocks the program")


class Resolve(Scriptable):
    """The root. `timeline` None: no timeline is open."""

    def __init__(self, world: World, has_project: bool = True, has_timeline: bool = True) -> None:
        super().__init__(world)
        self.timeline = Timeline(world) if has_timeline else None
        self.project = Project(world, self.timeline) if has_project else None
        self.manager = Manager(world, self.project)

    @api
    def GetProductName(self) -> str:
        return self.world.product

    @api
    def GetProjectManager(self) -> Manager:
        return self.manager
