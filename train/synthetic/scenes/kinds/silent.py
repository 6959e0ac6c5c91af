"""Silent scenes: motion without contact."""

from math import pi

import numpy as np

from train.synthetic.scenes.kinds.falling import solid
from train.synthetic.scenes.motion import (
    Blow,
    Vector,
    compose,
    moments,
    random_rotation,
    strokes,
    turn,
    unit,
    vec,
    wander,
)
from train.synthetic.scenes.tools import palm
from train.synthetic.scenes.world import SOLIDS, Geom, World


def pendulum(w: World) -> None:
    """One to three weights swing on rods."""
    scale = w.between(0.5, 1.0)
    w.frame((0, 0, 0.55 * scale), 0.6 * scale, (-25, 0))
    w.choose_ground()
    w.fixed([Geom("box", (0.5 * scale, 0.03, 0.03), (0, 0, 1.05 * scale))], w.pick("wood", "metal"), (0, 0, 0))
    for k in range(int(w.rng.integers(1, 4))):
        long, wide = scale * w.between(0.4, 0.75), w.between(0.2, 0.9)
        rate, phase, fade = (9.81 / long) ** 0.5, w.between(0, 2 * pi), w.between(0, 0.15)
        at = vec((k - 1) * 0.3 * scale, (k - 1) * 0.12 * scale, 1.05 * scale)
        bob = solid(w, 0.09 * scale, w.pick("sphere", "box", "cylinder"))
        geoms = [Geom(bob.shape, bob.size, (0, 0, -long)),
                 Geom("capsule", (0.006 * scale, long / 2), (0, 0, -long / 2), colour=w.colour())]  # fmt: skip
        axis = vec(0, 1, 0) if w.chance(0.7) else unit(vec(0.4, 1, 0))

        def pose(
            t: float, at: Vector = at, a: tuple[float, ...] = (wide, rate, phase, fade), axis: Vector = axis
        ) -> tuple[Vector, Vector]:
            return at, turn(axis, a[0] * np.exp(-a[3] * t) * np.sin(a[1] * t + a[2]))

        w.driven(geoms, w.pick(*SOLIDS), pose)


def wave(w: World) -> None:
    """One or two hands wave, or beat time in the air."""
    scale = w.between(0.8, 1.3)
    w.frame((0, 0, 0.5), 0.33 * scale, (-30, 15), 50)
    w.choose_ground()
    for side in [-1, 1] if w.chance(0.5) else [0]:
        rate, wide, phase = w.between(0.5, 2.5), w.between(0.2, 0.8), w.between(0, 6)
        drift, beats = wander(w.rng, 0.05), w.chance(0.4)
        times = moments(w.rng, w.seconds, 0.3, 1.2)
        air = strokes([Blow(t, np.zeros(3), vec(0, 0, 1), 0.15 * scale, 0.12) for t in times], w.rng)
        up = turn([1, 0, 0], pi / 2 * w.between(0.3, 1.1))

        def pose(
            t: float, a: tuple[float, ...] = (side * 0.18 * scale, rate, wide, phase), air=air, up: Vector = up,  # type: ignore[no-untyped-def]
            beats: bool = beats, drift=drift,  # type: ignore[no-untyped-def]
        ) -> tuple[Vector, Vector]:  # fmt: skip
            if beats:
                return vec(a[0], 0, 0.42) + air(t) + drift(t), up
            swing = a[2] * np.sin(2 * pi * a[1] * t + a[3])
            return vec(a[0], 0, 0.45) + drift(t), compose(up, turn([0, 1, 0], swing))

        w.driven(palm(w, scale), "soft", pose)


def tour(w: World) -> None:
    """The camera moves over things that stand still."""
    scale = w.between(0.5, 1.2)
    w.frame((0, 0, 0.25 * scale), 0.7 * scale, (-45, -5))
    w.choose_ground()
    still(w, scale, int(w.rng.integers(2, 8)))
    wide, pace = w.between(0.05, 0.25), w.between(0.02, 0.15)
    path = wander(w.rng, wide, pace * 2)
    w.moving = lambda t: path(t) * vec(1, 0.4, 0.8)


def still(w: World, scale: float, count: int) -> None:
    """Add `count` things that stand still."""
    for _ in range(count):
        geom = solid(w, scale * w.between(0.08, 0.2))
        at = vec(w.rng.normal(0, 0.35) * scale, w.rng.normal(0, 0.3) * scale, max(geom.size) * w.between(0.5, 1))
        w.fixed([geom], w.pick(*SOLIDS), at, turn([0, 0, 1], w.between(0, 6)))


def floating(w: World) -> None:
    """Things float and turn in the air."""
    scale = w.between(0.5, 1.0)
    w.frame((0, 0, 0.6 * scale), 0.65 * scale, (-30, 5))
    w.choose_ground()
    for k in range(int(w.rng.integers(1, 6))):
        geom = solid(w, scale * w.between(0.08, 0.22))
        at = vec(w.rng.normal(0, 0.25) * scale, (k - 2) * 0.2 * scale, scale * w.between(0.45, 0.85))
        drift, start = wander(w.rng, 0.12 * scale, 0.3), random_rotation(w.rng)
        axis, rate = w.rng.normal(size=3), w.between(-4, 4)

        def pose(t: float, at=at, drift=drift, start=start, axis=axis, rate=rate) -> tuple[Vector, Vector]:  # type: ignore[no-untyped-def]
            return at + drift(t), compose(start, turn(axis, rate * t))

        w.driven([geom], w.pick(*SOLIDS), pose)


def passing(w: World) -> None:
    """Things fly through the picture, past others that stand still."""
    scale = w.between(0.5, 1.0)
    w.frame((0, 0, 0.35 * scale), 0.65 * scale, (-35, -5))
    w.choose_ground()
    still(w, scale, int(w.rng.integers(1, 4)))
    for _ in range(int(w.rng.integers(1, 4))):
        fly_by(w, scale)


def fly_by(w: World, scale: float) -> None:
    """Add a thing that flies through the picture again and again."""
    geom = solid(w, scale * w.between(0.08, 0.25))
    speed, phase = w.between(0.3, 1.8) * scale * w.rng.choice([-1, 1]), w.between(0, 4)
    y, z, bob = w.between(-0.7, 0.4) * scale, w.between(0.45, 0.9) * scale, w.between(0, 0.1) * scale
    spin, reach = w.between(-3, 3), 2.2 * scale

    def pose(t: float) -> tuple[Vector, Vector]:
        x = (speed * t + phase + reach) % (2 * reach) - reach
        return vec(x, y, z + bob * np.sin(2 * t + phase)), turn([0, 0.3, 1], spin * t)

    w.driven([geom], w.pick(*SOLIDS), pose)


def distract(w: World, scale: float) -> None:
    """Add something silent at the edge of a scene that has sound."""
    if w.chance(0.5):
        for _ in range(int(w.rng.integers(1, 4))):
            geom = solid(w, scale * w.between(0.08, 0.2))
            side = w.rng.choice([-1, 1])
            at = vec(side * w.between(0.9, 1.5) * scale, w.between(0.5, 1.5) * scale, max(geom.size) * 0.8)
            w.fixed([geom], w.pick(*SOLIDS), at, turn([0, 0, 1], w.between(0, 6)), solid=False)
        return
    geom, drift = solid(w, scale * w.between(0.06, 0.15)), wander(w.rng, 0.15 * scale, 0.5)
    at, rate = (
        vec(w.rng.choice([-1, 1]) * 0.8 * scale, w.between(0.4, 1.2) * scale, w.between(0.5, 1.2) * scale),
        w.between(-3, 3),
    )
    w.driven([geom], w.pick(*SOLIDS), lambda t: (at + drift(t), turn([0.2, 0, 1], rate * t)))
