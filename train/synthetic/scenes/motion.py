"""Planned motion: rotations as quaternions (w, x, y, z), times of blows, and paths that meet those times exactly."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Path3 = Callable[[float], Vector]  # time -> position [3], in metres
Pose = Callable[[float], tuple[Vector, Vector]]  # time -> position [3] and quaternion [4]

LEVEL = np.array([1.0, 0.0, 0.0, 0.0])  # no rotation


def vec(*values: float) -> Vector:
    return np.array(values, float)


def unit(v: ArrayLike) -> Vector:
    v = np.asarray(v, float)
    return v / max(1e-9, float(np.linalg.norm(v)))


def turn(axis: ArrayLike, angle: float) -> Vector:
    """The quaternion [4] of a rotation by `angle` (radians) about `axis`."""
    return np.array([cos(angle / 2), *(unit(axis) * sin(angle / 2))])


def compose(first: Vector, then: Vector) -> Vector:
    """The quaternion [4] of rotation `first` followed by rotation `then`."""
    a, b = then, first
    scalar = a[0] * b[0] - a[1:] @ b[1:]
    return np.array([scalar, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])


def rotate(quaternion: Vector, v: ArrayLike) -> Vector:
    """The vector v [3], rotated."""
    v, part = np.asarray(v, float), quaternion[1:]
    side = 2 * np.cross(part, v)
    return v + quaternion[0] * side + np.cross(part, side)


def aim(direction: ArrayLike, roll: float = 0.0) -> Vector:
    """The rotation that turns the z axis to `direction`, after a roll about z (radians)."""
    to = unit(direction)
    axis = np.cross([0.0, 0.0, 1.0], to)
    angle = float(np.arctan2(np.linalg.norm(axis), to[2]))
    tilt = turn(axis if angle < pi - 1e-6 and angle > 1e-6 else [1, 0, 0], angle)
    return compose(turn([0, 0, 1], roll), tilt)


def random_rotation(rng: np.random.Generator) -> Vector:
    return unit(rng.normal(size=4))


def view_direction(azimuth: float, elevation: float) -> Vector:
    """The unit vector [3] in which a camera looks, from its angles in degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return vec(np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e))


def ease(u: float) -> float:
    """Ease in and out: 0 to 1, with zero speed at both ends."""
    u = min(1.0, max(0.0, u))
    return u * u * (3 - 2 * u)


def ease_out(u: float) -> float:
    """Ease out: 0 to 1, fast at first, with zero speed at the end. It models a rebound, and backwards a blow."""
    u = min(1.0, max(0.0, u))
    return 1 - (1 - u) ** 2


def strength_of(speed: float) -> float:
    """The strength of a contact, 0 to 1, from its speed in m/s: 1 at 5 m/s and above, 0.03 at 3 cm/s."""
    return float(min(1.0, (max(0.0, speed) / 5) ** 0.7))


def wander(rng: np.random.Generator, size: float, pace: float = 1.0) -> Path3:
    """A smooth random motion about 0, like that of a hand that is held still."""
    waves = rng.uniform(0.3, 1.7, (3, 3)) * pace
    phases, sizes = rng.uniform(0, 2 * pi, (3, 3)), rng.normal(0, size / 2, (3, 3))
    return lambda t: (sizes * np.sin(2 * pi * waves * t + phases)).sum(1)


def moments(rng: np.random.Generator, seconds: float, low: float = 0.25, high: float = 1.6) -> list[float]:
    """Times of blows: a steady beat, single blows, or bursts with rests, at least `low` seconds apart."""
    t, stop = rng.uniform(0.25, min(1.8, 0.4 * seconds)), seconds * (1 if rng.random() < 0.7 else rng.uniform(0.4, 0.9))
    style, beat = rng.random(), float(np.exp(rng.uniform(np.log(low), np.log(max(high * 0.6, low * 1.01)))))
    times: list[float] = []
    while t < stop - 0.05:
        times.append(t)
        if style < 0.4:
            gap = beat * (1 + rng.normal(0, 0.03)) * (2 if rng.random() < 0.12 else 1)
        elif style < 0.7:
            gap = rng.uniform(low, high)
        else:
            gap = beat if rng.random() < 0.75 else rng.uniform(1.0, 2.5)
        t += max(low, gap)
    return times or [seconds / 2]


@dataclass(frozen=True)
class Blow:
    """A blow of a tool: its tip reaches `point` at `time`.

    The tip comes from `height` metres along `normal` in the last `fall` seconds. With a `gap` it turns back that many
    metres above the point, so the blow misses.
    """

    time: float
    point: Vector
    normal: Vector
    height: float
    fall: float
    gap: float = 0.0

    @property
    def speed(self) -> float:
        return 2 * self.height / self.fall


def strokes(blows: list[Blow], rng: np.random.Generator) -> Path3:
    """The path of a tool's tip through all blows, in the order of time. Between blows it lifts off, moves and waits."""
    times, shake, rise = [b.time for b in blows], wander(rng, 0.006), rng.uniform(0.12, 0.4)

    def tip(t: float) -> Vector:
        k = bisect_right(times, t)
        before, after = blows[max(0, k - 1)], blows[min(k, len(blows) - 1)]
        up = ease_out((t - before.time) / rise) if k > 0 else 1.0
        down = ease_out((after.time - t) / after.fall) if k < len(blows) else 1.0
        u = ease((t - before.time) / max(1e-6, after.time - before.time) * 1.5 - 0.2)
        point = before.point + (after.point - before.point) * u
        normal = unit(before.normal + (after.normal - before.normal) * u)
        lift = (
            (before.height + (after.height - before.height) * u) * up * down + before.gap + (after.gap - before.gap) * u
        )
        return point + normal * lift + shake(t) * up * down

    return tip


def arcs(times: list[float], points: list[Vector], gravity: float = 9.81) -> Path3:
    """A thrown ball's path. It is at points[k] at times[k], in free flight between, and still before and after."""

    def ball(t: float) -> Vector:
        k = bisect_right(times, t)
        if k == 0 or k == len(times):
            return points[min(k, len(points) - 1)] if k == 0 else points[-1]
        length, s = times[k] - times[k - 1], t - times[k - 1]
        straight = points[k - 1] + (points[k] - points[k - 1]) * (s / length)
        return straight + vec(0, 0, gravity / 2 * s * (length - s))

    return ball
