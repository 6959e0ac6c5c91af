"""Turns rendered pictures of a scene into a plausible film: shake, zoom, blur, noise, colour, compression.

A `Film` needs a canvas, a little larger than its picture, at each time in `times()`, and develops the canvases:

    film = draw_film(rng, 10.0)
    canvases = (render(t, film.canvas_width, film.canvas_height) for t in film.times())
    film.write(path, film.develop(canvases, rng))

Frame k always shows the time k / fps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, exp, log, pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.synthetic.mp4 import FRAME_RATES, write_mp4

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHUTTER = 0.5  # share of a frame's time that the shutter is open (180 degrees)
MARGIN = 0.1  # by how much the canvas is larger, to leave room for shake, drift and zoom
ASPECTS = {(16, 9): 0.3, (4, 3): 0.3, (1, 1): 0.15, (9, 16): 0.15, (3, 4): 0.1}
SIDES = (128, 144, 160, 176, 192)  # the short side, in pixels
BLUR_RATE = 30  # frames/s; faster films have no motion blur, because their shutter is short
GRAIN = 24  # pixels by which the noise pattern moves from frame to frame


@dataclass(frozen=True)
class Occluder:
    """A blurred bar or disc in front of the scene that crosses the picture once, from side to side."""

    at: float  # time in seconds at which it is in the middle
    speed: float  # picture widths per second; the sign is the direction
    radius: float  # in picture heights
    row: float | None  # centre of a disc in picture heights from the top; None: a bar from top to bottom
    colour: tuple[float, float, float]

    def cover(self, picture: Floats, t: float) -> None:
        """Blend into a picture [H, W, 3]."""
        height, width = picture.shape[:2]
        x = (0.5 + self.speed * (t - self.at)) * width
        reach = self.radius * height
        if not -reach < x < width + reach:
            return
        away = np.abs(np.arange(width, dtype=np.float32) - x)[None]
        if self.row is not None:
            away = np.hypot(away, (np.arange(height, dtype=np.float32) - self.row * height)[:, None])
        alpha = np.clip((reach - away) / 3 + 0.5, 0, 1)[..., None]
        picture += alpha * (np.array(self.colour, np.float32) - picture)


@dataclass(frozen=True)
class Film:
    """How a clip is filmed. Lengths are in picture heights unless a unit is given; levels go from 0 to 255."""

    width: int  # of the picture in pixels, even
    height: int
    fps: int
    seconds: float
    canvas_width: int  # of the rendered pictures, in pixels
    canvas_height: int
    blur: int = 1  # sub-frames averaged into a frame
    seed: int = 0  # of the camera's motion
    shake: float = 0.0  # standard deviation of the hand's motion
    jolts: int = 0  # number of sudden movements
    drift: tuple[float, float] = (0.0, 0.0)  # over the whole clip, right and down
    zoom: float = 1.0  # magnification at the end relative to the start
    flicker: float = 0.0  # share of the light
    noise: float = 0.0  # standard deviation of the sensor's noise, in levels
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)  # red, green, blue
    gamma: float = 1.0
    brightness: float = 0.0  # levels
    contrast: float = 1.0
    vignette: float = 0.0  # by how much the corners are darker
    defocus: float = 0.0  # standard deviation of the lens blur, in pixels
    letterbox: tuple[int, int] = (0, 0)  # black rows at top and bottom, black columns at left and right
    stutter: float = 0.0  # probability that a frame repeats the one before it
    occluder: Occluder | None = None
    crf: int = 23  # x264's quality factor; larger values lose more detail

    @property
    def count(self) -> int:
        """The number of frames."""
        return round(self.seconds * self.fps)

    def times(self) -> list[float]:
        """The times to render, in order: `blur` times for each frame, spread over the shutter around k / fps."""
        parts = ((np.arange(self.blur) + 0.5) / self.blur - 0.5) * SHUTTER
        return np.maximum((np.arange(self.count)[:, None] + parts).ravel() / self.fps, 0).tolist()

    # ------------------------------------------------------------ camera
    def views(self) -> NDArray[np.float64]:
        """Top, left, and canvas pixels per picture pixel, for each of `times()`: [len(times), 3]."""
        t, rng = np.array(self.times()), np.random.default_rng(self.seed)
        turn = t / self.seconds
        scale = np.full(len(t), 1.0)
        if self.zoom != 1:
            scale = np.exp(-log(self.zoom) * turn) * min(1.0, self.zoom)
        sway = np.stack([self._sway(rng, t) for _ in range(2)], 1) + (turn[:, None] - 0.5) * self.drift[::-1]
        size = np.array([self.height, self.width])
        room = (np.array([self.canvas_height, self.canvas_width]) - size * scale[:, None]) / 2
        still = not (self.shake or self.jolts or any(self.drift) or self.zoom != 1)
        corner = np.floor(room) if still else room + np.clip(sway * self.height, -room, room)
        return np.concatenate([corner, scale[:, None]], 1)

    def _sway(self, rng: np.random.Generator, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """A hand's motion along one axis. Slow waves are the largest; a jolt decays within half a second."""
        rates, phases = np.exp(rng.uniform(log(0.2), log(7), 10)), rng.uniform(0, 2 * pi, 10)
        waves = np.sin(2 * pi * t[:, None] * rates + phases) / np.maximum(rates, 0.5)
        path = self.shake * waves.sum(1) / np.sqrt((0.5 / np.maximum(rates, 0.5) ** 2).sum())
        for start, rate, size in rng.uniform([0, 2, -0.03], [self.seconds, 6, 0.03], (self.jolts, 3)):
            after = np.maximum(t - start, 0)
            path += size * np.exp(-after / 0.12) * np.sin(2 * pi * rate * after)
        return path

    # ------------------------------------------------------------ pictures
    def develop(self, canvases: Iterator[Picture], rng: np.random.Generator) -> Iterator[Picture]:
        """Turn canvases [canvas_height, canvas_width, 3] at `times()` into pictures [height, width, 3].

        Raises ValueError for a canvas of another size.
        """
        h, w = self.height, self.width
        grain = rng.normal(0, self.noise, (h + GRAIN, w + GRAIN, 3)).astype(np.float32) if self.noise else None
        table, views = self._table(), iter(self.views())
        shade, phases = self._shade(), rng.uniform(0, 2 * pi, 2)
        last: Picture | None = None
        for k in range(self.count):
            total = self._see(canvases, views)
            if last is not None and rng.random() < self.stutter:
                yield last
                continue
            light = table[np.arange(3), total]
            if shade is not None:
                light *= shade
            if self.flicker:  # mains light beating with the shutter, and an unsteady automatic exposure
                light *= np.float32(1 + self.flicker * (np.sin(k * 1.9 + phases[0]) + np.sin(k * 0.17 + phases[1])) / 2)
            if self.occluder:
                self.occluder.cover(light, k / self.fps)
            if grain is not None:
                y, x = rng.integers(0, GRAIN, 2)
                light += grain[y : y + h, x : x + w]
            last = self._box(np.clip(light, 0, 255).astype(np.uint8))
            yield last

    def _see(self, canvases: Iterator[Picture], views: Iterator[NDArray[np.float64]]) -> Picture:
        """Average the next `blur` canvases over the shutter, and defocus the result."""
        parts = [self._crop(next(canvases), next(views)) for _ in range(self.blur)]
        if self.blur == 1 and not self.defocus and parts[0].dtype == np.uint8:
            return parts[0]
        total = np.asarray(parts[0], np.float32)
        for part in parts[1:]:
            total = total + part
        if self.blur > 1:
            total *= np.float32(1 / self.blur)
        return (_soften(total, self.defocus) + np.float32(0.5)).astype(np.uint8)

    def _crop(self, canvas: Picture, view: NDArray[np.float64]) -> NDArray[np.generic]:
        """Cut the picture out of a canvas: interpolated (float32) if the view lies between pixels, else uint8."""
        top, left, scale = view.tolist()
        if canvas.shape != (self.canvas_height, self.canvas_width, 3):
            wanted = (self.canvas_height, self.canvas_width, 3)
            raise ValueError(f"canvases of this film must be {wanted} (height, width, channels), not {canvas.shape}")
        if scale == 1 and top % 1 == 0 and left % 1 == 0:
            return canvas[int(top) : int(top) + self.height, int(left) : int(left) + self.width]
        rows = np.arange(self.height, dtype=np.float32) * np.float32(scale) + np.float32(top)
        columns = np.arange(self.width, dtype=np.float32) * np.float32(scale) + np.float32(left)
        return _between(_between(canvas, rows, 0), columns, 1)

    def _table(self) -> Floats:
        """The new value of each level of each colour: [3, 256]."""
        level = (np.arange(256, dtype=np.float32) / 255) ** np.float32(self.gamma) * 255
        level = (level - 128) * np.float32(self.contrast) + np.float32(128 + self.brightness)
        return np.clip(level, 0, 255) * np.array(self.gains, np.float32)[:, None]

    def _shade(self) -> Floats | None:
        """The light that the vignette leaves, [height, width, 1], or None without one."""
        if not self.vignette:
            return None
        y, x = np.linspace(-1, 1, self.height)[:, None], np.linspace(-1, 1, self.width)
        return (1 - self.vignette * (x**2 + y**2) / 2)[..., None].astype(np.float32)

    def _box(self, picture: Picture) -> Picture:
        rows, columns = self.letterbox
        if rows:
            picture[:rows] = picture[-rows:] = 0
        if columns:
            picture[:, :columns] = picture[:, -columns:] = 0
        return picture

    def write(self, path: Path, pictures: Iterator[Picture]) -> None:
        """Write the pictures as an H.264 mp4 with reproducible bytes."""
        write_mp4(path, pictures, self.fps, self.crf)


def _between(picture: NDArray[np.generic], places: Floats, axis: int) -> Floats:
    """Linear interpolation of [H, W, 3] at `places` along an axis."""
    low = np.clip(places, 0, picture.shape[axis] - 1)
    first = np.minimum(low.astype(np.intp), picture.shape[axis] - 2)
    share = (low - first.astype(np.float32)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    before = picture.take(first, axis).astype(np.float32)
    after = picture.take(first + 1, axis).astype(np.float32)
    after -= before
    after *= share
    after += before
    return after


def _soften(picture: Floats, spread: float) -> Floats:
    """Gaussian blur of [H, W, 3] by `spread` pixels; the edges are clamped."""
    if not spread:
        return picture
    reach = ceil(2 * spread)
    weights = np.array([exp(-0.5 * (k / spread) ** 2) for k in range(-reach, reach + 1)], np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        steps, n = np.arange(picture.shape[axis]), picture.shape[axis] - 1
        total = np.zeros_like(picture)
        for k, weight in enumerate(weights):
            total += picture.take(np.clip(steps + k - reach, 0, n), axis) * weight
        picture = total
    return picture


# ---------------------------------------------------------------- drawing
def draw_film(
    rng: np.random.Generator, seconds: float, size: tuple[int, int] | None = None, fps: int | None = None
) -> Film:
    """Draw a film of random properties. `size` (width, height) in pixels and `fps` take precedence."""
    wide, high = list(ASPECTS)[rng.choice(len(ASPECTS), p=list(ASPECTS.values()))]
    side = int(rng.choice(SIDES)) / min(wide, high)
    width, height = size or (round(wide * side / 2) * 2, round(high * side / 2) * 2)
    rate = int(rng.choice(list(FRAME_RATES), p=list(FRAME_RATES.values())))
    rate, often = fps or rate, rng.random(11)
    bar = rng.uniform(0.05, 0.14)
    box = (round(bar * height), 0) if rng.random() < 0.7 else (0, round(bar * width))
    return Film(
        width, height, rate, seconds, _canvas_side(width), _canvas_side(height),
        blur=int(rng.integers(2, 5)) if often[0] < 0.35 and rate <= BLUR_RATE else 1,
        seed=int(rng.integers(1 << 30)),
        shake=exp(rng.uniform(log(0.002), log(0.015))) if often[1] < 0.35 else 0.0,
        jolts=int(rng.integers(1, 4)) if often[1] < 0.12 else 0,
        drift=(rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06)) if often[2] < 0.15 else (0.0, 0.0),
        zoom=exp(rng.choice([-1, 1]) * rng.uniform(0.02, 0.25)) if often[3] < 0.2 else 1.0,
        flicker=rng.uniform(0.01, 0.08) if often[4] < 0.2 else 0.0,
        noise=exp(rng.uniform(log(1.5), log(12))) if often[5] < 0.45 else 0.0,
        gains=_balance(rng), gamma=exp(rng.normal(0, 0.18)),
        brightness=rng.normal(0, 9), contrast=exp(rng.normal(0, 0.14)),
        vignette=rng.uniform(0.1, 0.5) if often[6] < 0.25 else 0.0,
        defocus=rng.uniform(0.4, 1.2) if often[7] < 0.15 else 0.0,
        letterbox=box if often[8] < 0.08 else (0, 0),
        stutter=exp(rng.uniform(log(0.01), log(0.1))) if often[9] < 0.05 else 0.0,
        occluder=_occluder(rng, seconds) if often[10] < 0.08 else None,
        crf=int(rng.integers(18, 39)),
    )  # fmt: skip


def _canvas_side(side: int) -> int:
    """The canvas's side for a picture's side, even."""
    return 2 * ceil(side * (1 + MARGIN) / 2)


def _balance(rng: np.random.Generator) -> tuple[float, float, float]:
    warm, green, light = rng.normal(0, [0.08, 0.04, 0.07])
    return tuple(float(g) for g in np.exp([light + warm, light + green, light - warm]))


def _occluder(rng: np.random.Generator, seconds: float) -> Occluder:
    row = float(rng.uniform(0.2, 0.9)) if rng.random() < 0.5 else None
    colour = rng.uniform(10, 200) + rng.normal(0, 25, 3)
    speed = float(rng.choice([-1, 1])) * exp(rng.uniform(log(0.15), log(1.5)))
    return Occluder(
        rng.uniform(0, seconds), speed, rng.uniform(0.05, 0.2), row, tuple(np.clip(colour, 0, 255).tolist())
    )
