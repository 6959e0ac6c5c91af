"""Scenes with footsteps: two legs walk, run or turn, or one foot taps."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import atan2, cos, pi, sin, sqrt

import numpy as np

from train.synthetic.events import Event
from train.synthetic.scenes.motion import Vector, aim, compose, ease, ease_out, strength_of, turn, vec
from train.synthetic.scenes.world import GROUNDS, Geom, World


@dataclass(frozen=True)
class Gait:
    """How someone walks. Lengths are in metres."""

    leg: float  # from hip to sole
    lift: float  # height to which a foot is lifted
    swing: float  # share of the time between two steps of a foot in which it is in the air
    bob: float


@dataclass
class Foot:
    """When and where a foot lands."""

    times: list[float]
    places: list[Vector]
    headings: list[float]
    gait: Gait

    def at(self, t: float) -> tuple[Vector, float, float]:
        """At time t: position [3] of the sole, heading, and pitch of the foot (radians, toes down is positive)."""
        k = bisect_right(self.times, t)
        if k == 0 or k == len(self.times):
            k = min(k, len(self.times) - 1)
            return self.places[k], self.headings[k], 0.0
        length = (self.times[k] - self.times[k - 1]) * self.gait.swing
        u = 1 - min(1.0, (self.times[k] - t) / length)
        if u <= 0:
            return self.places[k - 1], self.headings[k - 1], 0.0
        across = ease(u**0.9)
        height = self.gait.lift * (sin(pi * min(1.0, u * 0.95 + 0.05)) if u < 0.5 else 1 - ((u - 0.5) * 2) ** 2)
        height *= min(1.0, u * 8)
        a, b = self.headings[k - 1], self.headings[k]
        yaw = a + ((b - a + pi) % (2 * pi) - pi) * across
        place = self.places[k - 1] + (self.places[k] - self.places[k - 1]) * across
        return place + vec(0, 0, height), yaw, 0.7 * sin(pi * min(1, u * 1.6)) * (1 - u)


def step_times(w: World, gap: float) -> list[float]:
    """Times at which the feet land in turn, with a rest now and then."""
    t, times = w.between(0.3, 1.5), []
    while t < w.seconds + 2 * gap:
        times.append(t)
        t += gap * (1 + w.rng.normal(0, 0.03)) + (w.between(0.6, 2.0) if w.chance(0.05) else 0.0)
    return times


def steps(w: World) -> None:
    """Someone walks or runs to and fro. Each landing foot makes a sound."""
    leg, running = w.between(0.55, 0.9), w.chance(0.3)
    reach = w.between(0.35, 0.8)
    close = w.chance(0.5)  # show only the legs below the knees
    w.frame(
        (0, 0, leg * (0.28 if close else 0.55)), max(reach * 0.8 + 0.1, leg * (0.35 if close else 0.58)), (-30, -4), 60
    )
    ground = w.choose_ground(*GROUNDS, *GROUNDS, "wood", "stone")
    gap = w.between(0.22, 0.36) if running else w.between(0.4, 0.75)
    gait = Gait(leg, leg * w.between(0.07, 0.2) * (1.6 if running else 1), 0.6 if running else 0.45, 0.03 * leg)
    times, stride = step_times(w, gap), w.between(0.15, 0.5) * leg
    heading, centre = w.between(-pi, pi), vec(0, 0, 0)
    feet = [Foot([], [], [], gait), Foot([], [], [], gait)]
    width = 0.11 * leg
    voice = len(w.bodies) + 1
    for side in (0, 1):
        feet[side].times.append(-1.0 + 0.1 * side)
        feet[side].places.append(beside(centre, heading, side, width))
        feet[side].headings.append(heading)
    for k, time in enumerate(times):
        ahead = centre + stride * vec(cos(heading), sin(heading), 0)
        if max(abs(ahead[0]), abs(ahead[1])) > reach:
            back = atan2(-centre[1], -centre[0]) + w.rng.normal(0, 0.3)
            heading += float(np.clip((back - heading + pi) % (2 * pi) - pi, -1.3, 1.3))
        else:
            centre = ahead
        foot = feet[k % 2]
        foot.times.append(time)
        foot.places.append(beside(centre, heading, k % 2, width))
        foot.headings.append(heading)
        hard = strength_of((gait.lift * 6 + stride) / (gap + 0.1) * w.between(0.7, 1.5) * (1 + w.rng.normal(0, 0.1)))
        w.add_event(Event(time, "step", ground, 0.26 * leg / 0.8, hard, voice, other="rubber"), foot.places[-1])
    body(w, feet, gait)


def beside(centre: Vector, heading: float, side: int, width: float) -> Vector:
    """The point at `width` metres to one side of the centre."""
    return centre + (1 if side else -1) * width * vec(-sin(heading), cos(heading), 0)


def body(w: World, feet: list[Foot], gait: Gait) -> None:
    """Add shoes, shins, thighs and hips, all driven by the positions of the feet."""
    trousers, shoes, length = w.colour(), w.colour(), gait.leg / 2
    thick = gait.leg * w.between(0.06, 0.09)
    bare = w.skin() if w.chance(0.3) else trousers
    stretch = 0.97

    def hip(t: float) -> Vector:
        low = min(foot.at(t)[0][2] for foot in feet)
        ground = (feet[0].at(t)[0] + feet[1].at(t)[0]) / 2
        apart = float(np.hypot(*(feet[0].at(t)[0] - feet[1].at(t)[0])[:2])) / 2
        high = sqrt(max(0.3 * gait.leg**2, (stretch * gait.leg) ** 2 - apart**2))
        return vec(ground[0], ground[1], high + 0.3 * low)

    for side, foot in enumerate(feet):
        limbs(w, foot, side, hip, (length, thick), (bare, trousers))
        size = gait.leg
        shoe = [
            Geom("box", (0.14 * size, 0.05 * size, 0.03 * size), (0.05 * size, 0, 0.03 * size), colour=shoes),
            Geom("ellipsoid", (0.11 * size, 0.05 * size, 0.055 * size), (0.03 * size, 0, 0.05 * size), colour=shoes),
        ]
        w.driven(shoe, "rubber", lambda t, foot=foot: shoe_pose(foot, t))
    waist = [
        Geom("ellipsoid", (0.13 * gait.leg, 0.2 * gait.leg, 0.13 * gait.leg), colour=trousers),
        Geom("capsule", (0.14 * gait.leg, 0.25 * gait.leg), (0, 0, 0.35 * gait.leg), colour=w.colour()),
    ]
    w.driven(waist, "soft", lambda t: (hip(t), turn([0, 0, 1], feet[0].at(t)[1])))


def shoe_pose(foot: Foot, t: float) -> tuple[Vector, Vector]:
    """Position [3] and quaternion [4] of a shoe at time t."""
    place, yaw, pitch = foot.at(t)
    return place, compose(turn([0, 1, 0], pitch), turn([0, 0, 1], yaw))


Colour = tuple[float, float, float]


def limbs(
    w: World,
    foot: Foot,
    side: int,
    hip: Callable[[float], Vector],
    size: tuple[float, float],
    colours: tuple[Colour, Colour],
) -> None:
    """Add a shin and a thigh, each half a leg long. The knee bends forwards."""
    length, thick = size

    def joints(t: float) -> tuple[Vector, Vector, Vector]:
        place, yaw, _ = foot.at(t)
        ankle = place + vec(0, 0, 0.08 * length)
        top = hip(t) + (1 if side else -1) * 0.18 * length * vec(-sin(yaw), cos(yaw), 0)
        line = top - ankle
        long = max(1e-6, float(np.linalg.norm(line)))
        bend = sqrt(max(0.0, length**2 - min(long / 2, length) ** 2))
        return ankle, (ankle + top) / 2 + bend * vec(cos(yaw), sin(yaw), 0), top

    def shin(t: float) -> tuple[Vector, Vector]:
        ankle, knee, _ = joints(t)
        return (ankle + knee) / 2, aim(knee - ankle)

    def thigh(t: float) -> tuple[Vector, Vector]:
        _, knee, top = joints(t)
        return (top + knee) / 2, aim(top - knee)

    w.driven([Geom("capsule", (thick * 0.7, length / 2), colour=colours[0])], "soft", shin)
    w.driven([Geom("capsule", (thick, length / 2), colour=colours[1])], "soft", thigh)


@dataclass(frozen=True)
class Taps:
    """Times at which the toes land, how high they are raised (radians), and how long they fall (seconds)."""

    times: list[float]
    gap: float
    high: float
    fall: float

    def pitch(self, t: float) -> float:
        """The foot's pitch at time t in radians; negative is toes up."""
        k = bisect_right(self.times, t)
        up = ease((t - self.times[k - 1]) / (0.5 * self.gap)) if k else 1.0
        down = ease_out((self.times[k] - t) / self.fall) if k < len(self.times) else 1.0
        return -self.high * up * down


def draw_taps(w: World) -> Taps:
    """Draw a rhythm of taps."""
    gap, t, times = w.between(0.22, 0.8), w.between(0.3, 1.2), []
    while t < w.seconds:
        times.append(t)
        t += gap * (1 + w.rng.normal(0, 0.03)) + (w.between(0.5, 2) if w.chance(0.08) else 0)
    return Taps(times, gap, w.between(0.25, 0.5), min(0.4 * gap, w.between(0.07, 0.12)))


def taps(w: World) -> None:
    """The toes of one foot tap on the ground while its heel and the other foot stay."""
    scale = w.between(0.8, 1.2)
    w.frame((0, 0, 0.18 * scale), 0.3 * scale, (-35, -8), 80)
    ground, beat, yaw = w.choose_ground(*GROUNDS, "wood", "stone"), draw_taps(w), w.between(-pi, pi)
    voice, turned = len(w.bodies) + 1, turn([0, 0, 1], yaw)
    length = 0.26 * scale
    for time in beat.times:
        hard = strength_of(2 * beat.high * length / beat.fall * w.between(0.8, 1.2))
        event = Event(time, "step", ground, length, hard, voice, other="rubber")
        w.add_event(event, length * vec(cos(yaw), sin(yaw), 0))
    shoe, trousers = w.colour(), w.colour()
    geoms = [
        Geom("box", (0.13 * scale, 0.045 * scale, 0.03 * scale), (0.13 * scale, 0, 0.03 * scale), colour=shoe),
        Geom("ellipsoid", (0.1 * scale, 0.045 * scale, 0.05 * scale), (0.1 * scale, 0, 0.055 * scale), colour=shoe),
    ]
    shin = Geom("capsule", (0.05 * scale, 0.25 * scale), (0, 0, 0.33 * scale), colour=trousers)
    w.driven(geoms, "rubber", lambda t: (vec(0, 0, 0), compose(turn([0, 1, 0], beat.pitch(t)), turned)))
    w.fixed([shin], "soft", vec(0.03, 0, 0) * scale, solid=False)
    w.fixed([*geoms, shin], "rubber", vec(-sin(yaw), cos(yaw), 0) * 0.16 * scale, turned, solid=False)
