"""Thrown shapes: `fly` gives a shape a path that bounces on the ground and between walls, with exact contact times."""

from math import sqrt

import numpy as np

from train.synthetic.drawn.shapes import SHADOW, Motion, Pose, Shape, Stage


def fly(s: Stage, shape: Shape, start: float, gravity: float, bounce: float) -> None:
    """Throw a shape that bounces on the ground and between the walls until it rests.

    Contact times are exact: each landing's angle is chosen first, which gives the height of the centre at contact, and
    the flight time is then the root of a quadratic equation.
    """
    rng, r = s.rng, shape.size
    t, x, y = start, rng.uniform(s.left + r, s.right - r), -r - rng.uniform(0, 0.2)
    v, vx, tilt, edge = 0.0, rng.normal(0, 0.45), rng.normal(0, 0.7), int(rng.integers(8))
    angle = shape.resting_angle(edge) + rng.normal(0, 2)
    knots, slides = [(t, y, v, angle)], [(t, x)]
    while (t < s.seconds and v >= 0.0) or len(knots) == 1:
        landing = shape.resting_angle(edge) + (tilt if shape.corners is not None else angle + 4 * vx)
        low = s.ground - shape.depth(landing)
        air = (v + sqrt(v * v + 2 * gravity * max(low - y, 0))) / gravity
        end, impact, tilt = t + air, gravity * air - v, tilt * rng.uniform(-0.6, 0.6)
        while vx and 0 < (wall := ((s.right - r if vx > 0 else s.left + r) - x) / vx) < end - t:
            t, x = t + wall, x + vx * wall
            slides.append((t, x))
            s.hit(t, "wall", shape, abs(vx) / 3)
            vx *= -bounce
        x += vx * (end - t)
        t, y, angle, vx, v = end, low, landing, vx * 0.85, bounce * impact
        s.hit(t, "bounce", shape, impact / 3)
        v = v if v > 0.1 else -1.0  # at rest
        knots.append((t, y, v, angle))
        slides.append((t, x))
    motion = flight(knots, slides, gravity)
    shadow = s.add("shade", r * 0.35, look=SHADOW)
    shadow.motion = lambda t: (p := motion(t)) and (p[0], s.ground + r * 0.1, 0.0, r * 0.7)
    s.shapes.append(s.shapes.pop(s.shapes.index(shape)))  # in front of its shadow
    shape.motion = motion


def flight(knots: list[tuple[float, float, float, float]], slides: list[tuple[float, float]], gravity: float) -> Motion:
    """The motion through landings `knots` (time, y, upward speed, angle) and sideways through `slides` (time, x)."""
    times, heights, speeds, angles = np.array(knots).T
    when, where = np.array(slides).T

    def motion(t: float) -> Pose | None:
        k = min(int(np.searchsorted(times, t, "right")) - 1, len(times) - 1)
        if k < 0:
            return None
        rest = k == len(times) - 1
        fallen = 0.0 if rest else (gravity * (t - times[k]) / 2 - speeds[k]) * (t - times[k])
        return float(np.interp(t, when, where)), heights[k] + fallen, float(np.interp(t, times, angles)), 0.0

    return motion
