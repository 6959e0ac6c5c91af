"""Training data of the sync encoder: random views of examples, and the targets of every frame.

Frame k is the picture at (k + 1/2) / 25 s (runtime.video), so it covers contacts from k / 25 to (k + 1) / 25 s.
Places are (column, row) relative to the centre of the encoder's square, in units of its side.
"""

import json
import sys
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.data.video_files import BAD, video_events
from train.errors import RecipeError
from train.models.s3d import S3D, S3DConfig
from train.synthetic.projection import event_places

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]


class Targets(NamedTuple):
    """Targets of n frames, each [n] except `places`. `Example.targets` describes them."""

    onset: Floats
    log_strength: Floats
    material: NDArray[np.int64]
    level: Floats
    seen: Floats
    places: Floats  # [n, grid, grid]
    placed: Floats


@dataclass(frozen=True)
class View:
    """A view of an example: the frames nearest to first + speed * k, and a square of `zoom` sides around `middle`."""

    first: int = 0
    speed: float = 1.0
    zoom: float = 1.0
    middle: tuple[float, float] = (0.0, 0.0)  # column and row
    mirrored: bool = False

    def frame_numbers(self, n: int) -> NDArray[np.intp]:
        """Numbers in the example of n frames of the view; the last ones may lie beyond its end."""
        return np.rint(self.first + self.speed * np.arange(n)).astype(np.intp)

    def project(self, place: Floats) -> Floats:
        """Convert places in the example [..., 2] to places in the view."""
        moved = (place - np.array(self.middle, np.float32)) / np.float32(self.zoom)
        return moved * np.array([-1 if self.mirrored else 1, 1], np.float32)

    def cut(self, frames: Frames, n: int) -> Frames:
        """Frames of an example [all, s, s, 3] -> frames of the view [n, s, s, 3]; the edge is repeated."""
        held, size = np.minimum(self.frame_numbers(n), len(frames) - 1), frames.shape[1]  # the last frame stays
        sides = (np.arange(size) - (size - 1) / 2) * self.zoom + (size - 1) / 2
        columns, rows = (np.clip(np.rint(sides + m * size), 0, size - 1).astype(np.intp) for m in self.middle)
        if self.mirrored:
            columns = columns[::-1]
        return frames[held].take(rows, axis=1).take(columns, axis=2)  # several times faster than one gather


@dataclass(frozen=True)
class Example:
    path: Path  # file with the frames
    contacts: list[dict[str, Any]]  # events of ID.json, sorted by time
    sustained: list[dict[str, Any]]
    places: Floats = field(default_factory=lambda: np.zeros((0, 2), np.float32))  # of contacts [E, 2], perhaps NaN

    @property
    def times(self) -> Floats:
        return np.array([event["time"] for event in self.contacts], np.float32)

    def targets(self, view: View, n: int, materials: tuple[str, ...], grid: int) -> Targets:
        """Targets of n frames.

        `onset` is 1 within half a frame of a contact and falls to 0 at one and a half frames. `log_strength` and
        `material` are those of the strongest contact there, or 0 and -1 without one. `level` is that of the loudest
        sustained sound. `seen` is 0 if a contact lies outside of the view. `places` is the onset at the cells around
        the contacts. `placed` is 0 if the place of a contact is not known or not in the view.
        """
        zero = np.zeros(n, np.float32)
        onset, strength, level, seen, placed = zero.copy(), zero.copy(), zero.copy(), zero + 1, zero + 1
        material, places = np.full(n, -1, np.int64), np.zeros((n, grid, grid), np.float32)
        centres, cells = view.frame_numbers(n) + 0.5, np.arange(grid) - (grid - 1) / 2
        known = self.places if len(self.places) else np.full((len(self.contacts), 2), np.nan, np.float32)
        pairs = zip(self.contacts, known, strict=True)
        for event, place in sorted(pairs, key=lambda p: float(p[0].get("strength", 1.0))):  # the strongest last
            near = np.clip(1.5 - np.abs(event["time"] * S3D.fps - centres) / view.speed, 0, 1).astype(np.float32)
            if not near.any():
                continue
            column, row = view.project(place) * grid
            if max(abs(column), abs(row)) > grid / 2:
                seen[near > 0] = placed[near > 0] = 0
                continue
            if np.isnan(column):
                placed[near > 0] = 0
            else:
                away = np.hypot(cells[:, None] - row, cells - column)
                places = np.maximum(places, near[:, None, None] * np.clip(1.7 - away, 0, 1))
            onset = np.maximum(onset, near)
            strength[near > 0] = np.log(np.clip(event.get("strength", 1.0), 0.02, 1))
            if event.get("material") in materials:
                material[near > 0] = materials.index(event["material"])
        for event in self.sustained:
            share = (centres / S3D.fps - event["time"]) / (event["end"] - event["time"])
            envelope = np.array(event.get("envelope") or np.sin(np.linspace(0, np.pi, 9)))
            heard = np.interp(share, np.linspace(0, 1, len(envelope)), envelope, left=0, right=0)
            level = np.maximum(level, heard * event.get("strength", 1.0)).astype(np.float32)
        return Targets(onset, strength, material, level, seen, places.astype(np.float32), placed)

    def draw(self, n: int, total: int, rng: np.random.Generator) -> View:
        """A random view of n frames out of `total`; if places are known, it may zoom in on a contact."""
        speed = exp(rng.uniform(log(0.75), log(1.35))) if rng.random() < 0.5 else 1.0
        first = int(rng.integers(0, max(1, total - round(n * speed) + 1)))
        middle, zoom = rng.uniform(-0.08, 0.08, 2), rng.uniform(0.8, 1.1)
        inside = np.abs(self.places).max(axis=1, initial=0) < 0.5  # False for NaN
        near = np.flatnonzero(inside & (np.abs(self.times * S3D.fps - first - n * speed / 2) < n * speed / 2))
        if len(near) and rng.random() < 0.5:
            zoom = rng.uniform(0.55, 0.9)
            middle = self.places[rng.choice(near)] + rng.uniform(-0.4, 0.4, 2) * zoom
            middle = np.clip(middle, -(1 - zoom) / 2, (1 - zoom) / 2)
        return View(first, speed, zoom, (float(middle[0]), float(middle[1])), bool(rng.random() < 0.5))


def read_example(path: Path, label: Path, config: S3DConfig) -> Example:
    """Read an example. Raises one of video_files.BAD if the frames or ID.json cannot be used."""
    shape, size = np.load(path, mmap_mode="r").shape, config.size
    if len(shape) != 4 or shape[1:] != (size, size, 3) or not shape[0]:
        raise ValueError(f"holds {list(shape)}, expected [frames, {size}, {size}, 3]")
    video_events(label)  # raises if a time, strength or level is not a number
    facts = json.loads(label.read_text(encoding="utf-8"))
    try:
        places = event_places(facts) * np.float32(config.resize / size)  # of the short side -> of the square
    except TypeError as error:
        raise ValueError(
            f"{label.name}: film or camera do not have the format of train.synthetic.scenes: {error}"
        ) from error
    order = sorted(range(len(places)), key=lambda k: facts["events"][k]["time"])
    contacts = [k for k in order if not facts["events"][k].get("end")]
    sustained = [facts["events"][k] for k in order if facts["events"][k].get("end", 0) > facts["events"][k]["time"]]
    return Example(path, [facts["events"][k] for k in contacts], sustained, places[contacts])


def read_examples(frames: Path, videos: Path, config: S3DConfig, limit: int | None = None) -> list[Example]:
    """Read the examples of a folder, by name; unusable ones are reported on stderr and skipped.

    Raises RecipeError if none is left.
    """
    found, bad = [], 0
    for path in sorted(frames.glob("*.frames.npy"))[:limit]:
        try:
            found.append(read_example(path, videos / (path.name.removesuffix(".frames.npy") + ".json"), config))
        except BAD as error:
            bad += 1
            print(f"skipped {path.name}: {error}", file=sys.stderr)
    if bad:
        print(f"{bad} examples of {frames} skipped", file=sys.stderr)
    if not found:
        raise RecipeError(
            f"no usable *.frames.npy in {frames} with its ID.json in {videos} ({bad} skipped); make them with "
            "train.synthetic.scenes and `train.prepare --frames`, or set task.frames and task.clips"
        )
    return found


# ---------------------------------------------------------------- effects of cameras and editing
def distort(frames: Frames, others: list[Frames], rng: np.random.Generator) -> Frames:
    """Repeat frames, move the camera, add silent moving objects: [n, s, s, 3] -> the same shape.

    Contacts keep their times. `others` are pictures [s, s, 3]; a piece of each may move over the frames.
    """
    n, size = frames.shape[:2]
    if rng.random() < 0.3:  # dropped frames: the previous one is repeated
        held = np.maximum.accumulate(np.where(rng.random(n) < rng.uniform(0, 0.4), 0, np.arange(n)))
        frames = frames[held]
    frames = frames.copy()
    for picture in others:
        if rng.random() < 0.5:
            swing(frames, picture, rng)
    if rng.random() < 0.25:  # a handheld camera; below, one that follows the action
        frames = move_camera(frames, size // 16, (0.2, 5.0), rng)
    elif rng.random() < 0.25:
        frames = move_camera(frames, size // 4, (0.05, 0.5), rng)
    return frames


def path(n: int, rates: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth path of n frames [n, 2] (down, right) within -1 to 1: three waves with random rates in Hz."""
    waves, phases = np.exp(rng.uniform(*np.log(rates), (2, 3))), rng.uniform(0, 2 * np.pi, (2, 3))
    parts = np.sin(2 * np.pi * waves[..., None] * np.arange(n) / S3D.fps + phases[..., None]) / waves[..., None]
    total = parts.sum(1).T
    return total / np.abs(total).max()


def swing(frames: Frames, picture: Frames, rng: np.random.Generator) -> None:
    """Move an oval or rectangular piece of a picture over frames [n, s, s, 3], in place."""
    n, size = frames.shape[:2]
    height, width = rng.integers(size // 12, size // 2, 2)
    top, left = rng.integers(0, size - height), rng.integers(0, size - width)
    piece = picture[top : top + height, left : left + width]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    mask = np.hypot(y, x) < 1 if rng.random() < 0.7 else np.ones((height, width), bool)
    corners = rng.uniform(-0.2, 1, 2) * size + path(n, (0.1, 3.0), rng) * rng.uniform(0.02, 0.5, 2) * size
    for frame, (y0, x0) in zip(frames, np.rint(corners).astype(int), strict=True):
        rows, columns = (slice(max(0, k), max(0, min(size, k + m))) for k, m in ((y0, height), (x0, width)))
        cut = (slice(rows.start - y0, rows.stop - y0), slice(columns.start - x0, columns.stop - x0))
        if rows.start < rows.stop and columns.start < columns.stop:
            np.copyto(frame[rows, columns], piece[cut], where=mask[cut][..., None])


def move_camera(frames: Frames, reach: int, rates: tuple[float, float], rng: np.random.Generator) -> Frames:
    """Shift frames [n, s, s, 3] along a path, by at most `reach` pixels; edges are repeated."""
    n, size = frames.shape[:2]
    reach = max(1, reach)
    padded = np.pad(frames, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "edge")
    corners = reach + np.rint(path(n, rates, rng) * rng.uniform(0.1, 1) * reach).astype(int)
    return np.stack([padded[k, y : y + size, x : x + size] for k, (y, x) in enumerate(corners)])


def recolour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Change contrast, brightness, colour balance and grain of a normalised crop [3, n, s, s], in place."""
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    shift = rng.uniform(-0.5, 0.5) + rng.uniform(-0.2, 0.2, 3)
    x.mul_(_per_channel(gain)).add_(_per_channel(shift))
    if rng.random() < 0.3:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        x.add_(torch.randn(x.shape[1:], generator=generator), alpha=rng.uniform(0, 0.08))
    return x


def _per_channel(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None, None]
