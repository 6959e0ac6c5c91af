"""Scenes with a ball: kept up with a racket, or bounced on the ground by hand."""

from dataclasses import dataclass

import numpy as np

from train.synthetic.scenes.motion import Blow, Vector, aim, arcs, strokes, turn, unit, vec, wander
from train.synthetic.scenes.tools import UP, hand, press
from train.synthetic.scenes.world import Geom, World


@dataclass
class Rally:
    """The contacts of a ball: their times, the centre's positions, and whether the ball meets the ground."""

    times: list[float]
    points: list[Vector]
    grounds: list[bool]
    gravity: float


def rally(w: World, scale: float, radius: float, low: bool) -> Rally:
    """Plan a ball's contacts with a racket, or with `low` alternately with a hand and the ground."""
    gap, t, k, plan = w.between(0.45, 0.85), w.between(0.3, 1.0), 0, Rally([], [], [], 3.0 if low else 9.81)
    while t < w.seconds + 1:
        ground = low and k % 2 == 1
        high = 0.0 if ground else scale * (0.62 if low else 0.25)
        plan.times.append(t)
        plan.points.append(vec(w.rng.normal(0, 0.06) * scale, w.rng.normal(0, 0.03) * scale, high + radius))
        plan.grounds.append(ground)
        t, k = t + gap * w.between(0.85, 1.15) * (0.5 if low else 1), k + 1
    return plan


def racket(w: World) -> None:
    """A ball is kept up by a racket, or bounced on the ground by a hand."""
    scale, low = w.between(0.5, 1.0), w.chance(0.5)
    w.frame((0, 0, 0.48 * scale), scale * 0.6, (-30, 0), 40)
    w.choose_ground()
    radius = scale * w.between(0.05, 0.1)
    plan = rally(w, scale, radius, low)
    flight = arcs([0.0, *plan.times], [plan.points[0], *plan.points], plan.gravity)
    material = w.pick("rubber", "plastic", "wood", "chip")
    ball = w.driven([Geom("sphere", (radius,))], material, lambda t: (flight(t), turn([1, 0.4, 0], t * 5)))
    mine, gaps = [], np.diff([0.0, *plan.times])
    for time, point, ground, gap in zip(plan.times, plan.points, plan.grounds, gaps, strict=True):
        speed = w.between(0.8, 1.2) * min(1.0, gap) * plan.gravity / 2 + 0.5
        if ground:
            w.add_impact(time, "ball", ball, w.ground, speed, point - vec(0, 0, radius))
            continue
        side = vec(0, 0, radius if low else -radius)
        mine.append(Blow(time, point + side, UP if low else -UP, scale * 0.12, 0.14))
        w.add_impact(time, "ball", ball, "soft" if low else "wood", speed, mine[-1].point)
    path = strokes(mine, w.rng)
    if low:
        press(w, path, 1, scale * 1.1)
        return
    face, deep = scale * w.between(0.12, 0.2), 0.012 * scale
    grip = Geom("capsule", (0.02 * scale, 0.12 * scale), (face + 0.12 * scale, 0, -deep), aim([1, 0, 0]))
    geoms = [Geom("cylinder", (face, deep), (0, 0, -deep)), grip]
    geoms += hand(w, vec(face + 0.22 * scale, 0, -deep), unit(vec(1, 0, -0.2)), scale)
    tilt = wander(w.rng, 0.06)
    frame = w.pick("wood", "plastic", "metal")
    w.driven(geoms, frame, lambda t: (path(t), turn([0, 1, 0], float(tilt(t)[0]))))
