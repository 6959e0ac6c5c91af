"""Reads rendered scenes: the events of ID.json, and how much the picture of ID.mp4 moves."""

import json
from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from runtime.video import FrameGrid, Video
from train.synthetic.events import Event
from train.synthetic.recordings import Floats

GRID = FrameGrid(25, 32, 32)  # what movement is measured on: the square that the networks see
STILL = 0.4  # levels of 255: a picture whose fastest cells change less does not move
APART = 0.25  # seconds between two peaks of movement
FIELDS = {f.name for f in fields(Event)}


@dataclass(frozen=True)
class Scene:
    """A rendered scene. `metadata` is the content of its ID.json."""

    video: Path
    id: str
    split: str
    seed: int
    index: int
    seconds: float
    events: tuple[Event, ...]
    metadata: dict[str, Any] = field(repr=False, compare=False)

    @property
    def contacts(self) -> list[int]:
        """Numbers of the events that are single contacts."""
        return [n for n, event in enumerate(self.events) if not event.end]


def read_scene(video: Path) -> Scene:
    """Read the ID.json beside a scene's video. Raises ValueError or OSError if it does not describe a scene."""
    data = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    try:
        events = tuple(Event(**{k: v for k, v in e.items() if k in FIELDS}) for e in data["events"])
        scene = Scene(
            video, str(data["id"]), data["split"], data["seed"], data["index"], data["film"]["seconds"], events, data
        )
        numbers = [scene.seconds, *(x for e in events for x in (e.time, e.end, e.strength))]
        good = all(isfinite(x) for x in numbers) and scene.seconds > 0
        good &= all(type(n) is int and n >= 0 for n in (scene.seed, scene.index, *(e.voice for e in events)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it does not describe a scene ({error!r})") from error
    if not good:
        raise ValueError("its times must be finite, and its seed, index and voices whole numbers from 0 on")
    if scene.id != video.stem:
        raise ValueError(f"it describes {scene.id}")
    return scene


def find_scenes(folder: Path, split: str) -> tuple[list[Scene], list[str]]:
    """The finished scenes of a split in a folder, by name, and "file: reason" for each one that cannot be used."""
    scenes, skipped = [], []
    for video in sorted(folder.glob("*.mp4")):
        try:
            scene = read_scene(video)
            if scene.split != split:
                raise ValueError(f"it belongs to the split {scene.split}, not {split}")
            scenes.append(scene)
        except (OSError, ValueError) as error:
            skipped.append(f"{video.name}: {error}")
    return scenes, skipped


# ---------------------------------------------------------------- movement
@dataclass(frozen=True)
class Movement:
    """How much a picture moves: `curve` [T], 0 to 1, at 25 values per second. It is 0 if nothing moves."""

    curve: Floats

    @property
    def peaks(self) -> list[tuple[float, float]]:
        """(seconds, strength) at which movement is fastest; at least APART seconds lie between two peaks."""
        found: list[tuple[float, float]] = []
        for k in range(1, len(self.curve) - 1):
            value = float(self.curve[k])
            if value < 0.3 or value < self.curve[k - 1] or value <= self.curve[k + 1]:
                continue
            if not found or k / GRID.fps - found[-1][0] >= APART:
                found.append((k / GRID.fps, value))
            elif value > found[-1][1]:
                found[-1] = (k / GRID.fps, value)
        return found


@lru_cache(maxsize=4)
def movement_of(video: Path) -> Movement:
    """Measure how much the pictures of a video move. The last few videos are remembered."""
    with Video(video) as media:
        frames = np.stack([frame.mean(-1) for _, frame in media.sample([GRID])]).astype(np.float32)
    return Movement(activity(frames))


def activity(frames: Floats) -> Floats:
    """The movement [T], 0 to 1, of grey pictures [T, H, W]: the change of their fastest tenth of cells.

    A change of the whole picture, as from flicker, does not count. The slowest times of a video give 0, and its fastest
    ones 1.
    """
    steps = np.diff(frames, axis=0, prepend=frames[:1])
    steps = np.abs(steps - np.median(steps, axis=(1, 2), keepdims=True)).reshape(len(frames), -1)
    top = max(1, steps.shape[1] // 10)
    speed = np.partition(steps, -top, axis=1)[:, -top:].mean(1)
    speed = np.convolve(np.pad(speed, 1, mode="edge"), np.array([0.25, 0.5, 0.25]), "valid")
    low, high = np.quantile(speed, [0.1, 0.97])
    if high - low < STILL:
        return np.zeros(len(frames), np.float32)
    return np.clip((speed - low) / (high - low), 0, 1).astype(np.float32)
