"""Scenes with a hammer, a cleaver, doors, drawers, or a block that is rubbed: planned contacts at exact times."""

from dataclasses import dataclass, field

import numpy as np

from train.synthetic.events import Event
from train.synthetic.scenes.motion import (
    LEVEL,
    Blow,
    Vector,
    aim,
    compose,
    ease,
    ease_out,
    moments,
    strength_of,
    strokes,
    turn,
    unit,
    vec,
)
from train.synthetic.scenes.tools import UP, hand
from train.synthetic.scenes.world import Geom, World


def hammer(w: World) -> None:
    """A hammer drives nails into a block, or beats a metal plate; each blow sinks the nail."""
    scale = w.between(0.4, 0.8)
    w.frame((0, 0, scale * 0.35), scale * 0.6, (-40, -8), 40)
    w.choose_ground()
    material = w.pick("wood", "wood", "metal", "stone", "plastic")
    block = w.fixed([Geom("box", (0.4 * scale, 0.25 * scale, 0.12 * scale))], material, (0, 0, 0.12 * scale))
    times = moments(w.rng, w.seconds, 0.3, 1.4)
    top, nail = 0.24 * scale, material == "wood" and w.chance(0.75)
    sink, tall = np.zeros(len(times) + 1), 0.15 * scale
    if nail:
        sink = np.minimum(np.concatenate([[0.0], np.cumsum(w.rng.uniform(0.1, 0.35, len(times)))]), 1) * tall * 0.93
    plan = []
    for k, time in enumerate(times):
        point = vec(0, 0, top + (tall - sink[k] if nail else 0)) + (
            0 if nail else w.rng.normal(0, 0.1, 3) * scale * [1, 1, 0]
        )
        plan.append(Blow(time, point, UP, scale * w.between(0.2, 0.5), w.between(0.07, 0.15)))
        w.add_impact(time, "hammer", block, "metal", plan[-1].speed, point)
    if nail:

        def depth(t: float) -> float:
            k = int(np.searchsorted(times, t, "right"))
            return float(sink[k] if not k else sink[k - 1] + (sink[k] - sink[k - 1]) * ease((t - times[k - 1]) / 0.02))

        shaft = [
            Geom("cylinder", (0.008 * scale, tall / 2), (0, 0, -tall / 2), colour=(0.6, 0.6, 0.62)),
            Geom("cylinder", (0.02 * scale, 0.004), (0, 0, -0.004), colour=(0.7, 0.7, 0.72)),
        ]
        w.driven(shaft, "metal", lambda t: (vec(0, 0, top + tall - depth(t)), LEVEL))
    swung(w, plan, scale)


def swung(w: World, plan: list[Blow], scale: float) -> None:
    """Add a hammer whose head follows the blows. It tips back as it is raised."""
    path, side = strokes(plan, w.rng), 1 if w.chance(0.5) else -1
    long, back = scale * 0.5, w.between(0.8, 2.0)
    r = 0.06 * scale
    shape = (
        Geom("cylinder", (r * 0.8, r), (0, 0, r), colour=(0.35, 0.35, 0.38))
        if w.chance(0.5)
        else Geom("box", (r, r * 0.8, r), (0, 0, r), material="metal")
    )
    along, middle = vec(side, 0, 0), vec(side * long / 2, 0, r)
    geoms = [shape, Geom("capsule", (0.018 * scale, long / 2), middle, aim(along))]
    geoms += hand(w, middle + along * long / 2, along, scale * 1.3)

    def pose(t: float) -> tuple[Vector, Vector]:
        at = path(t)
        nearest = min(plan, key=lambda blow: abs(blow.time - t))
        lift = float(np.clip((at - nearest.point)[2] / max(1e-6, nearest.height), 0, 1)) * min(
            1.0, abs(t - nearest.time) / 0.02
        )
        return at, turn([0, 1, 0], side * back * 0.35 * lift)

    w.driven(geoms, "wood", pose)


def chop(w: World) -> None:
    """A cleaver cuts a stick, a root or a loaf. A piece falls off at each blow."""
    scale = w.between(0.35, 0.6)
    w.frame((0, 0, scale * 0.25), scale * 0.55, (-40, -10), 30)
    w.choose_ground()
    w.fixed(
        [Geom("box", (0.5 * scale, 0.3 * scale, 0.03 * scale))],
        w.pick("wood", "plastic", "stone"),
        (0, 0, 0.03 * scale),
    )
    times = moments(w.rng, w.seconds, 0.3, 1.5)
    voice, thick = len(w.bodies) + 1, scale * w.between(0.03, 0.07)
    step = min(0.09 * scale, 0.7 * scale / (len(times) + 1))
    base, colour = 0.06 * scale, w.colour()
    plan = []
    for k, time in enumerate(times):
        edge = 0.35 * scale - step * k
        point = vec(edge - step, 0, base)
        plan.append(Blow(time, point, UP, scale * w.between(0.15, 0.4), w.between(0.06, 0.14)))
        w.add_event(Event(time, "chop", "chop", thick * 4, strength_of(plan[-1].speed), voice, other="wood"), point)
        tip = w.between(-1, 1)

        def pose(t: float, x: float = edge - step / 2, time: float = time, tip: float = tip) -> tuple[Vector, Vector]:
            u = ease((t - time) / 0.25)
            at = vec(x + 0.12 * scale * u, tip * u * 0.1 * scale, base + thick)
            return at, compose(aim([1, 0, 0]), turn([0, 0, 1], tip * u))

        w.driven([Geom("cylinder", (thick, step / 2), colour=colour)], "soft", pose)
    rest = 0.35 * scale - step * len(times) + 0.35 * scale
    w.fixed(
        [Geom("cylinder", (thick, rest / 2), colour=colour)],
        "soft",
        (-0.35 * scale + rest / 2, 0, base + thick),
        aim([1, 0, 0]),
    )
    swung_across(w, plan, scale)


def swung_across(w: World, plan: list[Blow], scale: float) -> None:
    """Add a cleaver whose edge points away from the camera."""
    path, lean = strokes(plan, w.rng), w.between(-0.2, 0.2)
    geoms = [
        Geom("box", (0.006 * scale, 0.16 * scale, 0.07 * scale), (0, 0, 0.07 * scale), colour=(0.75, 0.76, 0.8)),
        Geom("capsule", (0.018 * scale, 0.07 * scale), (0, -0.22 * scale, 0.1 * scale), aim([0, 1, 0])),
    ]
    geoms += hand(w, vec(0, -0.26 * scale, 0.1 * scale), unit(vec(0, -1, 0.3)), scale * 1.3)
    w.driven(geoms, "wood", lambda t: (path(t), turn([0, 0, 1], lean)))


@dataclass
class Leaf:
    """A door's moves: (start, end, from, to), in seconds and radians."""

    moves: list[tuple[float, float, float, float]] = field(default_factory=list)

    def at(self, time: float) -> float:
        """The door's angle at a time."""
        value = 0.0
        for start, end, a, b in self.moves:
            if time >= start:
                u = min(1.0, (time - start) / (end - start))
                value = a + (b - a) * (u * u if b == 0 else ease(u))
                if b == 0 and time > end:  # The door springs back a little.
                    value += 0.03 * max(0.0, 1 - (time - end) / 0.15) * min(1.0, (time - end) / 0.03)
        return value


def swing(w: World) -> Leaf:
    """Draw the moves of a door that is opened and shut again and again."""
    leaf, limit, angle, t = Leaf(), w.between(0.8, 1.9), 0.0, w.between(0.2, 0.8)
    while t < w.seconds - 0.4:
        to = 0.0 if angle else limit * w.between(0.5, 1.0)
        length = w.between(0.2, 0.9)
        leaf.moves.append((t, t + length, angle, to))
        t, angle = t + length + w.between(0.1, 1.0), to
    return leaf


def doors(w: World) -> None:
    """A door swings open, sometimes with a click of its latch, and slams shut."""
    scale, material = w.between(0.6, 1.2), w.pick("wood", "wood", "metal", "glass", "plastic")
    wide, tall, thick = 0.4 * scale, 0.8 * scale, 0.03 * scale
    w.frame((0, 0, tall * 0.5), scale * 0.56, (-30, 5), 30)
    w.choose_ground()
    jamb, high = (0.12 * scale, 0.05 * scale, tall / 2 + 0.05), tall / 2 + 0.05
    for side in (-1, 1):
        w.fixed([Geom("box", jamb)], "wood", (side * (wide + 0.13 * scale), 0.06 * scale, high))
    lintel = Geom("box", (wide + 0.25 * scale, 0.05 * scale, 0.06 * scale))
    w.fixed([lintel], "wood", (0, 0.06 * scale, tall + 0.11 * scale))
    leaf = swing(w)
    knob = Geom("sphere", (0.03 * scale,), (wide * 1.85, -0.03 * scale, tall * 0.5), colour=w.colour())
    geoms = [Geom("box", (wide, thick / 2, tall / 2), (wide, 0, tall / 2)), knob]
    hinge = vec(-wide, 0, 0)
    door = w.driven(geoms, material, lambda t: (hinge, turn([0, 0, 1], -leaf.at(t))), size=scale)
    edge = (wide * 0.6, 0, tall * 0.5)
    for start, end, a, b in leaf.moves:
        if b == 0:
            w.add_impact(end, "door", door, "wood", 2 * a / (end - start) * wide, edge)
        elif w.chance(0.4):
            w.add_impact(start + 0.01, "door", door, "metal", w.between(0.1, 0.5), edge)


def drawers(w: World) -> None:
    """Drawers are pulled out with a scrape and pushed shut with a bang."""
    scale, material = w.between(0.5, 0.9), w.pick("wood", "wood", "metal", "plastic", "cardboard")
    w.frame((0, -0.1 * scale, 0.4 * scale), scale * 0.62, (-40, -12), 40)
    w.choose_ground()
    half, deep = 0.35 * scale, 0.3 * scale
    count = int(w.rng.integers(1, 4))
    each = 0.6 * scale / count
    body = Geom("box", (0.02 * scale, deep, 0.34 * scale), (half + 0.03 * scale, 0.02 * scale, 0))
    other = Geom("box", body.size, (-half - 0.03 * scale, 0.02 * scale, 0))
    lid = Geom("box", (half + 0.05 * scale, deep, 0.02 * scale), (0, 0.02 * scale, 0.34 * scale))
    w.fixed(
        [body, other, lid, Geom("box", (half, 0.02 * scale, 0.34 * scale), (0, deep, 0))],
        material,
        (0, 0, 0.34 * scale),
    )
    spans: list[list[tuple[float, float, float, float]]] = [[] for _ in range(count)]
    t, which = w.between(0.3, 1.0), 0
    while t < w.seconds - 0.8:
        out = bool(spans[which]) and spans[which][-1][3] > 0
        if not out:
            which = int(w.rng.integers(count))
        length = w.between(0.3, 1.0)
        begin = spans[which][-1][3] if spans[which] else 0.0
        spans[which].append((t, t + length, begin, 0.0 if begin else deep * w.between(0.8, 1.4)))
        t += length + w.between(0.2, 1.2)
    for k in range(count):
        one_drawer(w, spans[k], (half, deep, each, 0.06 * scale + each * (k + 0.5)), material)


def one_drawer(w: World, spans: list[tuple[float, float, float, float]], box: tuple[float, ...], material: str) -> None:
    """Add a drawer with its moves (start, end, from, to) and its sounds; `box`: half width, depth, height, altitude."""
    half, deep, each, high = box

    def out(t: float) -> float:
        value = 0.0
        for start, end, a, b in spans:
            if t >= start:
                u = min(1.0, (t - start) / (end - start))
                value = a + (b - a) * (u**1.6 if b == 0 else ease_out(u))
        return value

    geoms = [
        Geom("box", (half, 0.015, each * 0.46), (0, -deep, 0)),
        Geom("box", (half * 0.95, deep, 0.01), (0, 0, -each * 0.4)),
        Geom("box", (0.01, deep, each * 0.3), (half * 0.95, 0, -each * 0.1)),
        Geom("box", (0.01, deep, each * 0.3), (-half * 0.95, 0, -each * 0.1)),
        Geom("sphere", (each * 0.12,), (0, -deep - 0.03, 0), colour=w.colour()),
    ]
    drawer = w.driven(geoms, material, lambda t: (vec(0, -out(t), high), LEVEL), size=2 * half)
    for start, end, a, b in spans:
        grid = np.linspace(start, end, 40)
        speed = np.abs(np.gradient([out(t) for t in grid], grid))
        level = np.minimum(1, speed / 2) ** 0.7
        if w.chance(0.8):
            shape = tuple(np.round(level / level.max(), 3).tolist())
            event = Event(
                start, "scrape", material, 2 * half, float(level.max()) * 0.6, drawer.voice, end, material, shape
            )
            w.add_event(event, (0, -deep - out((start + end) / 2), high))
        if b == 0:
            w.add_impact(end, "drawer", drawer, material, 1.6 * a / (end - start), (0, -deep, high))


def rub(w: World) -> None:
    """A hand pushes a block to and fro over the ground or a board. Its scraping is as loud as it is fast."""
    scale, material = w.between(0.4, 0.8), w.pick("wood", "metal", "stone", "plastic", "cardboard", "ceramic", "glass")
    w.frame((0, 0, 0.15 * scale), 0.55 * scale, (-50, -12), 35)
    other, high = w.choose_ground(), 0.0
    if w.chance(0.5):
        other, high = w.pick("wood", "metal", "stone", "plastic", "glass"), 0.06 * scale
        w.fixed([Geom("box", (0.5 * scale, 0.3 * scale, high / 2))], other, (0, 0, high / 2))
    half = scale * w.rng.uniform(0.06, 0.14, 3)
    moves, x, t = [], -0.3 * scale, w.between(0.3, 1.0)
    while t < w.seconds - 0.4:
        to, length = w.rng.uniform(-0.35, 0.35) * scale, w.between(0.25, 1.0)
        if abs(to - x) > 0.15 * scale:
            moves.append((t, t + length, x, to))
            x, t = to, t + length
        t += w.between(0.02, 0.8)

    def slid(t: float) -> float:
        k = int(np.searchsorted([m[0] for m in moves], t, "right")) - 1
        if k < 0:
            return -0.3 * scale
        start, end, a, b = moves[k]
        return a + (b - a) * ease((t - start) / (end - start))

    arm = unit(vec(w.between(-0.6, 0.6), -1, 0.5))
    geoms = [Geom("box", tuple(half.tolist())), *hand(w, vec(0, 0, half[2] + 0.03 * scale), arm, scale * 1.2)]
    block = w.driven(geoms, material, lambda t: (vec(slid(t), 0, high + half[2]), LEVEL), size=float(2 * half.max()))
    share = np.linspace(0, 1, 25)
    for start, end, a, b in moves:
        peak, level = 1.5 * abs(b - a) / (end - start), (4 * share * (1 - share)) ** 0.7
        shape = tuple(np.round(level, 3).tolist())
        strength = float(min(1.0, peak / 2) ** 0.7)
        event = Event(start, "scrape", material, block.size, strength, block.voice, end, other, shape)
        if end < w.seconds:
            w.add_event(event, (slid((start + end) / 2), 0, high))
