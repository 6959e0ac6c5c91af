"""Procedural textures: each function makes weights [height, width] in [0, 1] that blend two colours."""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from engines.length_adapter import interpolation_matrix
from train.synthetic.drawn.shapes import Array, pattern

Texture = Callable[[np.random.Generator, int, int], Array]


def smooth(rng: np.random.Generator, height: int, width: int, cells: tuple[float, float]) -> Array:
    """Smooth random values in [0, 1] that vary over height / cells[0] rows and width / cells[1] columns."""
    grid = rng.random((max(2, round(cells[0]) + 1), max(2, round(cells[1]) + 1)), np.float32)
    down, across = interpolation_matrix(height, grid.shape[0]), interpolation_matrix(width, grid.shape[1])
    return (down @ grid @ across.T).astype(np.float32)


def plane(rng: np.random.Generator, height: int, width: int) -> tuple[Array, Array]:
    """Coordinates y and x in picture heights, randomly rotated and bent a little."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
    turn = rng.choice([0.0, pi / 2, rng.uniform(0, pi)])
    bend = rng.choice([0.0, rng.uniform(0, 0.15)])
    y = y + bend * smooth(rng, height, width, (3, 3 * width / height))
    return y * cos(turn) + x * sin(turn), x * cos(turn) - y * sin(turn)


def grain(rng: np.random.Generator, height: int, width: int) -> Array:
    """Growth rings of wood along one axis."""
    y, x = plane(rng, height, width)
    rings = rng.uniform(3, 12) * (x + rng.uniform(0.02, 0.15) * smooth(rng, height, width, (2, 9)))
    fibre = smooth(rng, height, width, (3, height / 2)) if rng.random() < 0.5 else 0.5
    return (rings + 0.3 * np.sin(3 * y)) % 1 * 0.7 + 0.3 * fibre


def brushed(rng: np.random.Generator, height: int, width: int) -> Array:
    """Fine scratches along one axis, and a broad sheen."""
    cells = (2, width / 1.5) if rng.random() < 0.5 else (height / 1.5, 2)
    return 0.45 * smooth(rng, height, width, cells) + 0.55 * smooth(rng, height, width, (2, 2))


def courses(rng: np.random.Generator, height: int, width: int, shift: float, ratio: float) -> Array:
    """Rows of blocks of random tones, with joints of weight 0; each row is moved by the share `shift` of a block."""
    y, x = plane(rng, height, width)
    scale, joint = rng.uniform(2, 9), rng.uniform(0.03, 0.12)
    y, row = y * scale, np.floor(y * scale)
    x = x * scale / ratio + row * shift
    tones = rng.uniform(rng.uniform(0.3, 0.8), 1, (61, 67)).astype(np.float32)
    weight = tones[row.astype(int) % 61, np.floor(x).astype(int) % 67]
    edge = np.minimum(np.minimum(y % 1, 1 - y % 1), np.minimum(x % 1, 1 - x % 1) * np.float32(ratio))
    return weight * np.clip((edge - joint / 2) * 20, 0, 1)


def planks(rng: np.random.Generator, height: int, width: int) -> Array:
    """Wooden boards."""
    return 0.7 * courses(rng, height, width, rng.uniform(0.2, 0.5), rng.uniform(4, 9)) + 0.3 * grain(rng, height, width)


def cells(rng: np.random.Generator, height: int, width: int) -> Array:
    """Random cells: broken stones, leather, foliage."""
    points = rng.uniform(-0.1, 1.1, (int(rng.integers(10, 48)), 2)) * [1, width / height]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
    away = np.stack([(y - p) ** 2 + (x - q) ** 2 for p, q in points.tolist()])
    first, second = np.sqrt(np.partition(away, 1, 0)[:2])
    tone = rng.random(len(points), np.float32)[away.argmin(0)]
    return np.clip((second - first) * rng.uniform(10, 30), 0, 1) * (0.5 + 0.5 * tone)


def speckle(rng: np.random.Generator, height: int, width: int) -> Array:
    """Spots of a few pixels on a plain surface."""
    size = rng.uniform(1.2, 4)
    return np.clip((smooth(rng, height, width, (height / size, width / size)) - rng.uniform(0.4, 0.7)) * 8, 0, 1)


def blades(rng: np.random.Generator, height: int, width: int) -> Array:
    """Thin upright streaks: grass, fur, straw."""
    long = smooth(rng, height, width, (rng.uniform(6, 16), width / 1.5))
    return np.clip(2.2 * long - 0.8 + 0.4 * smooth(rng, height, width, (4, 4)), 0, 1)


def weave(rng: np.random.Generator, height: int, width: int) -> Array:
    """Woven cloth."""
    y, x = plane(rng, height, width)
    scale = rng.uniform(25, 90)
    return 0.5 + 0.25 * np.sin(scale * x) * np.cos(scale * y) + 0.25 * np.sign(np.sin(scale * (x + y) / 2))


def rings(rng: np.random.Generator, height: int, width: int) -> Array:
    """Grooves around the centre, with the fan-shaped highlights of turned metal."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    fans = np.cos(rng.integers(1, 4) * (angle + rng.uniform(0, pi))) ** 2
    return 0.6 * fans + 0.4 * (0.5 + 0.5 * np.sin(radius * rng.uniform(20, 70)))


def marble(rng: np.random.Generator, height: int, width: int) -> Array:
    """Veined stone."""
    y, x = plane(rng, height, width)
    swirl = smooth(rng, height, width, (4, 4)) + 0.5 * smooth(rng, height, width, (9, 9))
    return np.abs(np.sin(rng.uniform(3, 8) * (x + 0.5 * y) + rng.uniform(4, 9) * swirl)) ** rng.uniform(0.3, 1.5)


def _drawn(kind: str) -> Texture:
    return lambda rng, height, width: pattern(rng, kind, height, width)


TEXTURES: dict[str, Texture] = {
    **{kind: _drawn(kind) for kind in ("plain", "noise", "stripes", "checks", "dots", "gradient")},
    "grain": grain, "brushed": brushed, "planks": planks, "cells": cells, "speckle": speckle, "blades": blades,
    "weave": weave, "rings": rings, "marble": marble,
    "bricks": lambda rng, height, width: courses(rng, height, width, 0.5, 2.4),
    "tiles": lambda rng, height, width: courses(rng, height, width, 0.0, 1.0),
}  # fmt: skip


def texture(rng: np.random.Generator, kind: str, height: int, width: int) -> Array:
    """A texture [height, width] of one kind in TEXTURES."""
    return np.clip(TEXTURES[kind](rng, height, width), 0, 1).astype(np.float32)
