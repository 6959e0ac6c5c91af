"""Scenes whose events come from the simulated physics: things fall, roll, slide, topple and pour."""

from dataclasses import dataclass
from math import pi

import numpy as np

from train.synthetic.events import Event
from train.synthetic.scenes.motion import LEVEL, Vector, random_rotation, turn, vec
from train.synthetic.scenes.world import SOLIDS, Body, Geom, World

SHAPES = ("box", "sphere", "cylinder", "capsule", "ellipsoid")


def solid(w: World, size: float, shape: str = "", round_only: bool = False) -> Geom:
    """A shape of about this half size in metres, with random proportions."""
    shape = shape or w.pick(*(SHAPES[1:] if round_only else ("box", "box", *SHAPES)))
    a, b, c = size * np.exp(w.rng.uniform(-0.5, 0.1, 3))
    if shape == "sphere":
        return Geom(shape, (size * 0.8,))
    if shape in ("cylinder", "capsule"):
        return Geom(shape, (float(a * w.between(0.4, 1.0)), float(b)))
    flat = w.pick("", "", "flat", "long")
    c = c * 0.25 if flat == "flat" else c
    b = b * 0.4 if flat == "long" else b
    return Geom(shape, (float(a), float(b), float(c)))


def vessel(size: float, height: float, wall: float = 0.12) -> list[Geom]:
    """An open box such as a bowl or crate: floor and four walls. Its origin is the centre of its bottom."""
    t = size * wall
    sides = [Geom("box", (size, size, t / 2), (0, 0, t / 2))]
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        half = (t / 2, size, height / 2) if x else (size, t / 2, height / 2)
        sides.append(Geom("box", half, (x * (size - t / 2), y * (size - t / 2), height / 2)))
    return sides


def table(w: World, width: float, height: float) -> tuple[Vector, str]:
    """Add a table in 35 % of calls. Returns the centre of the surface that things fall on, and its material."""
    if w.chance(0.65):
        return vec(0, 0, 0), w.choose_ground()
    material = w.pick("wood", "metal", "stone", "glass", "plastic", "soft", "cardboard", "ceramic")
    w.choose_ground()
    w.fixed([Geom("box", (width, width * w.between(0.6, 1), height / 2))], material, (0, 0, height / 2))
    return vec(0, 0, height), material


def drop(w: World) -> None:
    """Things are dropped one after the other, from heights that the picture shows."""
    scale = w.between(0.35, 1.0)
    w.frame((0, 0, scale * 0.55), scale * 0.75)
    base, _ = table(w, scale * 0.7, scale * w.between(0.1, 0.35))
    count = int(w.rng.integers(1, 2 + max(1, round(0.6 * w.seconds))))
    starts = np.sort(w.rng.uniform(0.2, w.seconds * 0.75, count))
    starts[0] = w.between(0.2, min(1.5, w.seconds / 2))
    for k in range(count):
        let_go(w, float(starts[k]), base, scale, (k - (count - 1) / 2) / max(1, count) * scale)


def let_go(w: World, time: float, base: Vector, scale: float, x: float) -> Body:
    """Add a thing that is carried down from above and dropped at `time`."""
    size, material = scale * w.between(0.1, 0.26), w.pick(*SOLIDS)
    height = base[2] + scale * w.between(0.5, 1.05)
    geom = solid(w, size)
    quat = random_rotation(w.rng) if w.chance(0.8) else LEVEL
    place = vec(x + w.rng.normal(0, 0.04) * scale, w.rng.normal(0, 0.08) * scale, height)
    speed = np.concatenate([w.rng.normal(0, 0.15, 3) * [1, 0.6, 0.3], w.rng.normal(0, 3, 3) * w.rng.random()])
    if w.chance(0.3):
        speed[2] += w.between(0.3, 1.5)
    body = w.free([geom], material, place, quat)
    w.hold(body, time, speed, above=scale * 1.6)
    return body


def topple(w: World) -> None:
    """A row of slabs falls over, or a stack is knocked down by a ball."""
    tall, material = w.between(0.16, 0.3), w.pick("wood", "plastic", "stone", "metal", "chip", "cardboard")
    w.choose_ground()
    count = int(w.rng.integers(4, 9))
    gap = tall * w.between(0.4, 0.7)
    reach = count * gap / 2
    w.frame((0, 0, tall * 0.8), max(reach + tall * 0.3, tall * 1.1), (-35, -8))
    slab = Geom("box", (tall * w.between(0.06, 0.13), tall * w.between(0.2, 0.32), tall / 2))
    row = w.chance(0.6)
    for k in range(count):
        if row:
            spot, quat = vec(-reach + (k + 0.5) * gap, 0, tall / 2), LEVEL
        else:
            spot, quat = (
                vec(w.rng.normal(0, 0.01), 0, 0.16 * tall * (2 * k + 1)),
                turn([0, 0, 1], w.rng.normal(0, 0.15)),
            )
        shape = slab if row else Geom("box", (0.3 * tall, 0.3 * tall, 0.155 * tall))
        w.free([shape], material, spot, quat)
    times = np.cumsum(w.rng.uniform([0.4, 1.5, 1.5], [max(0.5, w.seconds * 0.3), 4, 4]))
    for time in times[: int(w.rng.integers(1, 4))]:
        size, y = tall * w.between(0.12, 0.22), w.rng.normal(0, 0.1) * tall
        at = vec(-reach - tall, y, tall * w.between(0.4, 0.7))
        ball = w.free([Geom("sphere", (size,))], w.pick("wood", "metal", "rubber", "glass"), at)
        w.hold(ball, float(time), vec(w.between(1.2, 2.8), 0, 0.8, 0, 0, 0))


def volley(w: World) -> None:
    """Balls are thrown against a wall and come back."""
    scale = w.between(0.6, 1.2)
    w.frame((0.1 * scale, 0, scale * 0.5), scale * 0.8, (-30, -5), 25)
    w.choose_ground()
    w.fixed(
        [Geom("box", (0.06 * scale, scale * 0.6, scale * 0.5))],
        w.pick("stone", "wood", "floor", "metal", "glass"),
        (0.75 * scale, 0, scale * 0.5),
    )
    times = np.arange(w.between(0.3, 0.8), w.seconds - 0.6, w.between(1.2, 2.6))[:5]
    for k, time in enumerate(times):
        material = w.pick("rubber", "rubber", "plastic", "wood", "soft", "chip")
        size = scale * w.between(0.07, 0.15)
        at = vec(-1.3 * scale, (k - len(times) / 2) * 0.12 * scale, scale * w.between(0.3, 0.7))
        ball = w.free([Geom("sphere", (size,))], material, at)
        w.hold(ball, float(time), vec(w.between(1.8, 4.0), 0, w.between(0.3, 1.5), 0, 0, 0))


def roll(w: World) -> None:
    """Round things roll down a ramp or over the ground, and most are stopped by a block."""
    scale = w.between(0.5, 1.0)
    w.frame((0, 0, scale * 0.22), scale * 0.7, (-40, -8), 25)
    w.choose_ground()
    tilt, side = w.between(0.06, 0.3), 1 if w.chance(0.5) else -1
    ramp = w.pick("wood", "metal", "stone", "plastic", "glass", "cardboard")
    quat, long = turn([0, 1, 0], side * tilt), 0.42 * scale
    centre = vec(-side * 0.3 * scale, 0, np.sin(tilt) * long + 0.01)
    w.fixed([Geom("box", (long, 0.3 * scale, 0.01))], ramp, centre, quat)
    if w.chance(0.75):
        w.fixed(
            [Geom("box", (0.04, 0.3 * scale, 0.07 * scale))], w.pick(*SOLIDS), (side * 0.62 * scale, 0, 0.07 * scale)
        )
    count = int(w.rng.integers(1, 4))
    for k in range(count):
        size = scale * w.between(0.06, 0.12)
        geom = Geom("sphere", (size,)) if w.chance(0.6) else Geom("cylinder", (size, size * w.between(0.6, 2)))
        lie = turn([1, 0, 0], pi / 2) if geom.shape == "cylinder" else LEVEL
        y = (k - (count - 1) / 2) * 0.2 * scale
        top = centre + vec(-side * np.cos(tilt) * long * 0.85, y, np.sin(tilt) * long * 0.85 + size * 1.1 + 0.01)
        body = w.free([geom], w.pick("wood", "metal", "glass", "stone", "rubber", "plastic"), top, lie)
        push = vec(side * w.between(0, 0.8), 0, 0, 0, 0, 0)
        w.hold(body, w.between(0.3, w.seconds * 0.6), push, above=scale * 1.5)


def slide(w: World) -> None:
    """Boxes are shoved over the ground and come to rest, some against others."""
    scale = w.between(0.4, 0.9)
    w.frame((0, 0, scale * 0.15), scale * 0.85, (-45, -12))
    w.choose_ground("boards", "floor", "carpet", "wood", "stone", "metal")
    for k in range(int(w.rng.integers(1, 4))):
        a, b, c = scale * w.rng.uniform(0.1, 0.2, 3)
        side = w.rng.choice([-1, 1])
        at = vec(-side * scale * 0.5, (k - 1) * 0.42 * scale, c)
        body = w.free(
            [Geom("box", (a, b, c))],
            w.pick("wood", "metal", "stone", "plastic", "cardboard", "ceramic"),
            at,
            turn([0, 0, 1], w.rng.normal(0, 0.5)),
        )
        for time in np.cumsum(w.rng.uniform(0.5, 4.0, 3)):
            if time < w.seconds - 0.4:
                speed = w.between(1.2, 3.2) * np.sqrt(scale) * side
                w.kick(body, float(time), vec(speed, w.rng.normal(0, 0.1), 0, 0, 0, w.rng.normal(0, 1)))
                side = -side


@dataclass(frozen=True)
class Flow:
    """Drops that arrive from `start` to `end`, after falling for `fall` seconds.

    `levels` (0 to 1, at even steps from start to end) says how many drops arrive.
    """

    start: float
    end: float
    fall: float
    top: float
    spread: float
    levels: Vector

    def level(self, t: float) -> float:
        """The level at time t; 0 outside of start and end."""
        share = (t - self.start) / (self.end - self.start)
        return float(self.levels[int(share * len(self.levels))]) if 0 <= share < 1 else 0.0


def draw_flow(w: World, scale: float, spread: float, floor: float) -> Flow:
    """Draw a flow that swells and fades."""
    start, top = w.between(0.2, w.seconds * 0.3), scale * 1.1
    end, share = w.between(start + 0.25 * w.seconds, w.seconds - 0.1), (np.arange(50) + 0.5) / 50
    rate = 1 + 0.6 * np.sin(np.arange(50) * w.between(0.05, 0.5) + w.between(0, 6))
    level = np.clip(rate * np.minimum(1, np.minimum(share, 1 - share) * 8), 0, 1.2) / 1.2
    return Flow(start, end, float(np.sqrt(2 * (top - floor) / 9.81)), top, spread, level)


def pour(w: World) -> None:
    """Grains or drops fall from a can into a bowl, or rain falls. The sound lasts as long as they arrive."""
    scale, rain = w.between(0.3, 0.7), w.chance(0.4)
    w.frame((0, 0, scale * 0.5), scale * 0.75, (-35, -8))
    material = w.choose_ground()
    if not rain:
        material = w.pick("metal", "glass", "ceramic", "plastic", "wood", "cardboard")
        w.fixed(vessel(scale * 0.25, scale * 0.3), material, (0, 0, 0))
        flow = draw_flow(w, scale, scale * 0.08, 0.03 * scale)
        can(w, flow, scale)
    else:
        if w.chance(0.7):
            material = w.pick("metal", "glass", "wood", "plastic", "stone")
            w.fixed([Geom("box", (scale * 0.4, scale * 0.4, 0.02))], material, (0, 0, scale * 0.12))
        flow = draw_flow(w, scale, scale * 0.5, 0.0)
    voice = len(w.bodies) + 1
    particles(w, flow, scale, rain)
    kind, loud, shape = "rain" if rain else "pour", w.between(0.3, 0.9), tuple(flow.levels.tolist())
    event = Event(flow.start, kind, material, scale, loud, voice, flow.end, "stone", shape)
    w.add_event(event, (0, 0, scale * 0.2))


def can(w: World, flow: Flow, scale: float) -> None:
    """Add the can, which is tipped while it pours."""
    side, first, last = 1 if w.chance(0.5) else -1, flow.start - flow.fall - 0.3, flow.end - flow.fall + 0.3

    def pose(t: float) -> tuple[Vector, Vector]:
        share = np.clip(min(t - first, last - t) / 0.3, 0, 1)
        return vec(side * 0.17 * scale, 0, flow.top + 0.08 * scale), turn([0, 1, 0], -side * (0.5 + 1.2 * share))

    body = Geom("cylinder", (0.09 * scale, 0.14 * scale), (0, 0, 0.02))
    w.driven([body], w.pick("metal", "plastic", "glass", "ceramic"), pose)


def particles(w: World, flow: Flow, scale: float, rain: bool) -> None:
    """Add drops that fall over and over. The flow's level says how many of them are visible."""
    period, colour = max(flow.fall * 1.15, 0.35), np.array(w.colour())
    for _ in range(int(w.rng.integers(40, 90))):
        x, y = w.rng.normal(0, flow.spread, 2)
        offset, size, need = w.between(0, period), scale * w.between(0.01, 0.028), w.between(0, 0.8)
        r, g, b = np.clip(colour + w.rng.normal(0, 0.06), 0, 1).tolist()
        shape = ("capsule", (size * 0.5, size * 2)) if rain else ("sphere", (size,))

        def pose(t: float, x: float = x, y: float = y, a=(offset, need)) -> tuple[Vector, Vector]:  # type: ignore[no-untyped-def]
            fallen = (t - a[0]) % period
            if fallen > flow.fall or flow.level(t - fallen + flow.fall) <= a[1]:
                return vec(0, 0, -5), LEVEL
            return vec(x, y, flow.top - 4.905 * fallen**2), LEVEL

        w.driven([Geom(*shape, colour=(r, g, b))], "stone", pose)  # type: ignore[arg-type]


def spill(w: World) -> None:
    """A handful of small things is emptied onto the ground or into a tray."""
    scale = w.between(0.3, 0.6)
    w.frame((0, 0, scale * 0.4), scale * 0.75)
    base, _ = table(w, scale * 0.8, scale * 0.15)
    if w.chance(0.5):
        w.fixed(vessel(scale * 0.5, scale * 0.15), w.pick("metal", "wood", "plastic", "cardboard"), base)
    material, size = w.pick("chip", "metal", "wood", "plastic", "glass", "stone"), scale * w.between(0.04, 0.08)
    shape, time = w.pick("box", "cylinder", "sphere"), w.between(0.3, 1.2)
    for _ in range(int(w.rng.integers(4, 11))):
        at = base + vec(w.rng.normal(0, 0.15) * scale, w.rng.normal(0, 0.15) * scale, scale * w.between(0.7, 1.0))
        body = w.free([solid(w, size, shape)], material, at, random_rotation(w.rng))
        w.hold(body, time, np.concatenate([w.rng.normal(0, 0.2, 3), w.rng.normal(0, 2, 3)]), scale * 1.5)
        time = min(w.seconds - 0.3, time + w.rng.exponential(0.35))
