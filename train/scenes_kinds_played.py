"""Kinds of scenes in which someone does something: blows, steps, claps and doors along plans that touch on time."""

from math import pi

import numpy as np

from train.events import Event
from train.scenes_kinds import solid, vessel
from train.scenes_motion import (
    LEVEL, Blow, Path3, Vector, aim, arcs, compose, ease, leap, moments, rotate, strength_of, strokes, turn, unit, vec,
    wander,
)  # fmt: skip
from train.scenes_world import GROUNDS, SOLIDS, Body, Geom, World

UP = vec(0, 0, 1)


def blows(w: World, times: list[float], targets: list[tuple[Vector, Vector]], scale: float) -> list[tuple[Blow, int]]:
    """For each time a blow on one of the targets (point, normal), and which one."""
    chosen, k = [], int(w.rng.integers(len(targets)))
    for n, time in enumerate(times):
        k = int(w.rng.integers(len(targets))) if w.chance(0.5) else k
        room = min(times[n] - times[n - 1] if n else 9.0, times[n + 1] - time if n + 1 < len(times) else 9.0)
        height = scale * w.between(0.15, 0.7) * min(1.0, 0.35 + room)
        chosen.append((Blow(time, *targets[k], height, min(0.4 * room, w.between(0.06, 0.16))), k))
    return chosen


def hand(w: World, tip: Vector, direction: Vector, scale: float = 1.0) -> list[Geom]:
    """A fist at `tip` and a forearm that goes on along a direction."""
    skin, sleeve = w.skin(), w.colour() if w.chance(0.6) else None
    far = aim(direction)
    return [
        Geom("ellipsoid", (0.045 * scale, 0.04 * scale, 0.055 * scale), tip, far, skin, "soft"),
        Geom("capsule", (0.033 * scale, 0.16 * scale), tip + direction * 0.2 * scale, far, sleeve or skin, "soft"),
    ]


def palm(w: World, scale: float) -> list[Geom]:
    """An open hand: its contact point is the origin, the fingers point along y, the back of the hand along z."""
    skin = w.skin()
    geoms = [
        Geom("ellipsoid", (0.045 * scale, 0.05 * scale, 0.014 * scale), (0, 0, 0.014 * scale), LEVEL, skin, "soft")
    ]
    side = aim([0, 1, 0])
    for k in range(4):
        x = (k - 1.5) * 0.022 * scale
        geoms.append(
            Geom("capsule", (0.009 * scale, 0.03 * scale), (x, 0.07 * scale, 0.012 * scale), side, skin, "soft")
        )
    thumb = (0.05 * scale, 0.01 * scale, 0.014 * scale)
    geoms.append(Geom("capsule", (0.01 * scale, 0.025 * scale), thumb, aim([0.7, 0.7, 0]), skin, "soft"))
    sleeve = w.colour() if w.chance(0.5) else skin
    arm = aim([0, -1, 0.35])
    geoms.append(Geom("capsule", (0.028 * scale, 0.13 * scale), (0, -0.17 * scale, 0.06 * scale), arm, sleeve, "soft"))
    return geoms


def tool(w: World, path: Path3, direction: Vector, geoms: list[Geom], swing: float = 0.0) -> Body:
    """A tool whose origin is its tip: it follows the path, points its z axis along `direction` and wobbles."""
    wobble = wander(w.rng, 0.05 + swing)
    return w.driven(geoms, "wood", lambda t: (path(t), aim(direction + wobble(t))))


def stick(w: World) -> None:
    """Seen by the one who holds the stick: it pokes and taps things, which shake or tip over."""
    scale = w.between(0.4, 0.8)
    w.frame((0, 0, scale * 0.25), scale * 0.66, (-50, -15), 20)
    w.stand(*GROUNDS, *GROUNDS, "wood", "stone", "metal")
    count = int(w.rng.integers(2, 6))
    spots, bodies, kinds = [], [], []
    for k in range(count):
        angle = 2 * pi * k / count + w.between(-0.3, 0.3)
        at = vec(np.cos(angle), np.sin(angle), 0) * scale * (0.4 if count > 1 else 0)
        geom = solid(w, scale * w.between(0.13, 0.24), w.pick("box", "cylinder", "box", "sphere"))
        z = {"box": geom.size[-1], "cylinder": geom.size[1] if len(geom.size) > 1 else 0, "sphere": geom.size[0]}[
            geom.shape
        ]
        z, material = float(z), w.pick(*SOLIDS)
        loose = geom.shape == "box" and w.chance(0.35)
        body = w.free([geom], material, at + UP * z) if loose else w.sprung(
            [Geom(geom.shape, geom.size, (0, 0, z))], material, at, w.between(3, 9))  # fmt: skip
        spots.append((at + UP * 2 * z, unit(vec(0, -0.25, 1))))
        bodies.append(body)
        kinds.append(loose)
    spots.append((vec(0, -0.55 * scale, 0), UP))
    plan = blows(w, moments(w.rng, w.seconds, 0.25, 1.8), spots, 0.5 * scale)
    struck: set[int] = set()
    final: list[Blow] = []
    for blow, k in plan:
        if k in struck:  # a loose thing is not there any more
            k = len(spots) - 1
        missed = w.chance(0.06)
        final.append(
            Blow(blow.time, *spots[k], blow.height, blow.fall, w.between(0.04, 0.1) * scale if missed else 0.0)
        )
        if missed:
            continue
        if k == len(bodies):
            event = Event(blow.time, "stick", w.ground, 0.3, strength_of(blow.speed) * 0.8, 0, other="wood")
            w.sound(event, spots[k][0])
            continue
        w.hit(blow.time, "stick", bodies[k], "wood", blow.speed, spots[k][0])
        if kinds[k]:
            struck.add(k)
            push = vec(w.rng.normal(0, 0.3), w.between(0.3, 1.0), 0.2, w.rng.normal(0, 2) - 3, w.rng.normal(0, 3), 0)
            w.shove(bodies[k], blow.time, push * min(1.0, blow.speed / 2))
        else:
            w.shove(bodies[k], blow.time, w.rng.normal(0, 0.35, 2) * blow.speed)
    toward = unit(vec(w.between(-0.5, 0.5), -1, w.between(0.3, 0.8)))
    long = scale * w.between(0.6, 0.9)
    thick = scale * w.between(0.012, 0.03)
    geoms = [Geom("capsule", (thick, long / 2), (0, 0, long / 2 + thick))]
    if w.chance(0.6):
        geoms += hand(w, vec(0, 0, long), vec(0, 0, 1), scale * 1.5)
    tool(w, strokes(final, w.rng), toward, geoms)


PIECES = {
    "snare": (0.18, 0.08),
    "tom": (0.15, 0.11),
    "kick": (0.28, 0.2),
    "hihat": (0.18, 0.012),
    "cymbal": (0.25, 0.008),
}


def drums(w: World) -> None:
    """A drum kit, or one drum, and two sticks."""
    scale = w.between(0.7, 1.2)
    names = ["snare", "hihat", "tom", "cymbal", "tom"][: int(w.rng.integers(1, 6))] if w.chance(0.8) else ["cajon"]
    reach = 0.2 + 0.17 * len(names)
    w.frame((0, 0, 0.62 * scale), scale * max(0.4, reach * 0.72), (-45, -12), 40)
    w.stand("boards", "carpet", "floor", "wood")
    pieces, spots = [], []
    for k, name in enumerate(names):
        radius, deep = PIECES.get(name, (0.17, 0.22))
        radius, deep = radius * scale, deep * scale
        x = (k - (len(names) - 1) / 2) * 0.36 * scale
        top = scale * (0.6 + (0.25 if name in ("cymbal", "hihat") else 0.12 if k else 0) + w.between(-0.03, 0.03))
        at = vec(x, w.between(-0.03, 0.08) * scale + 0.1 * abs(x), top)
        disc = Geom("cylinder", (radius, deep), (0, 0, -deep))
        shape = Geom("box", (radius, radius, deep), (0, 0, -deep)) if name == "cajon" else disc
        head = Geom("cylinder", (radius * 0.96, 0.004), (0, 0, 0.0), colour=(0.9, 0.88, w.between(0.6, 0.9)))
        pieces.append(w.sprung([shape, head] if name in ("snare", "tom") else [shape], name, at, w.between(1.5, 4)))
        pieces[-1].size = 2 * radius
        stand = Geom("cylinder", (0.012 * scale, (top - 2 * deep) / 2), colour=(0.5, 0.5, 0.55))
        w.fixed([stand], "metal", (at[0], at[1], (top - 2 * deep) / 2), solid=False)
        spots.append((at + vec(0, -radius * 0.4, 0.004), unit(vec(0, -0.15, 1))))
    for side in (-1, 1):
        if side > 0 and w.chance(0.25):
            continue
        mine = [(spots[k][0] + vec(side * 0.05 * scale, 0, 0), spots[k][1]) for k in range(len(spots))]
        plan = blows(w, moments(w.rng, w.seconds, 0.14, 0.9), mine, 0.35 * scale)
        for blow, k in plan:
            w.hit(blow.time, "drum", pieces[k], "wood", blow.speed, mine[k][0])
            shake = 0.05 if names[k] not in ("cymbal", "hihat") else 0.35
            w.shove(pieces[k], blow.time, w.rng.normal(0, 1, 2) * shake * blow.speed)
        away = unit(vec(side * w.between(0.2, 0.5), -1, w.between(0.2, 0.6)))
        thick = 0.012 * scale
        geoms = [Geom("capsule", (thick, 0.2 * scale), (0, 0, 0.2 * scale + thick))]
        geoms += hand(w, vec(0, 0, 0.38 * scale), vec(0, 0, 1), scale)
        tool(w, strokes([b for b, _ in plan], w.rng), away, geoms, 0.1)


def handdrum(w: World) -> None:
    """Two hands on a drum, a box or a table."""
    scale = w.between(0.8, 1.2)
    w.frame((0, 0, 0.4 * scale), scale * 0.42, (-50, -12), 40)
    w.stand()
    material = w.pick("cajon", "tom", "cajon", "wood", "plastic", "cardboard", "soft", "metal")
    radius = scale * w.between(0.16, 0.26)
    body = Geom("box", (radius, radius, 0.16 * scale), (0, 0, 0.16 * scale))
    if material in ("tom", "metal", "plastic"):
        body = Geom("cylinder", (radius, 0.16 * scale), (0, 0, 0.16 * scale))
    drum = w.sprung([body], material, (0, 0, 0), w.between(3, 8))
    for side in (-1, 1):
        spot = vec(side * radius * 0.4, -radius * 0.3, 0.32 * scale)
        plan = blows(
            w, moments(w.rng, w.seconds, 0.16, 0.9), [(spot, UP), (spot + vec(0, radius * 0.4, 0), UP)], 0.22 * scale
        )
        for blow, _ in plan:
            w.hit(blow.time, "hand", drum, "soft", blow.speed, blow.point)
            w.shove(drum, blow.time, w.rng.normal(0, 0.04, 2) * blow.speed)
        press(w, strokes([b for b, _ in plan], w.rng), side, scale * 1.25)


def press(w: World, path: Path3, side: int, scale: float) -> None:
    """An open hand, palm down, that follows a path."""
    yaw, wobble = -side * w.between(0.1, 0.5), wander(w.rng, 0.08)

    def pose(t: float) -> tuple[Vector, Vector]:
        return path(t), compose(turn([1, 0, 0], float(wobble(t)[0]) * 0.5), turn([0, 0, 1], yaw))

    w.driven(palm(w, scale), "soft", pose)


def claps(w: World) -> None:
    """Two hands clap; some times they stop short of each other."""
    scale = w.between(0.8, 1.3)
    w.frame((0, 0, 0.5), 0.3 * scale, (-35, 20), 60)
    w.stand()
    voice = len(w.bodies) + 1
    centre, plans = vec(0, 0, 0.5), moments(w.rng, w.seconds, 0.18, 1.2)
    heights = w.rng.uniform(0.06, 0.2, len(plans)) * scale
    falls = w.rng.uniform(0.05, 0.13, len(plans))
    missed = w.rng.random(len(plans)) < 0.06
    for time, height, fall, miss in zip(plans, heights, falls, missed, strict=True):
        if not miss:
            strength = strength_of(1.2 * height / fall)
            w.sound(Event(time, "clap", "clap", 0.1 * scale, strength, voice, other="soft"), centre)
    drift, tilt, skins = wander(w.rng, 0.03), w.between(-0.5, 0.8), w.rng.bit_generator.state
    for side in (-1, 1):
        w.rng.bit_generator.state = skins  # both hands look alike
        gaps = np.where(missed, 0.03, 0.0)
        path = strokes([Blow(t, np.zeros(3), vec(side, 0, 0), h, f, g) for t, h, f, g in
                        zip(plans, heights, falls, gaps, strict=True)], np.random.default_rng(5))  # fmt: skip
        quat = compose(turn([0, 1, 0], side * pi / 2), turn([1, 0, 0], tilt))

        def pose(t: float, path: Path3 = path, quat: Vector = quat, side: int = side) -> tuple[Vector, Vector]:
            at = path(t) * [1, 0, 0]
            at[0] = side * max(0.0, side * at[0])
            spread = turn([0, 1, 0], side * min(0.5, 2 * abs(float(at[0]))))
            return centre + drift(t) + at, compose(quat, spread)

        w.driven(palm(w, scale), "soft", pose)


def hammer(w: World) -> None:
    """A hammer drives nails into a block, or beats a metal plate; each blow sinks the nail."""
    scale = w.between(0.4, 0.8)
    w.frame((0, 0, scale * 0.35), scale * 0.6, (-40, -8), 40)
    w.stand()
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
        w.hit(time, "hammer", block, "metal", plan[-1].speed, point)
    if nail:

        def depth(t: float) -> float:
            k = int(np.searchsorted(times, t, "right"))
            return float(sink[k] if not k else sink[k - 1] + (sink[k] - sink[k - 1]) * ease((t - times[k - 1]) / 0.02))

        shaft = [Geom("cylinder", (0.008 * scale, tall / 2), (0, 0, -tall / 2), colour=(0.6, 0.6, 0.62)),
                 Geom("cylinder", (0.02 * scale, 0.004), (0, 0, -0.004), colour=(0.7, 0.7, 0.72))]  # fmt: skip
        w.driven(shaft, "metal", lambda t: (vec(0, 0, top + tall - depth(t)), LEVEL))
    swung(w, plan, scale, "metal")


def swung(w: World, plan: list[Blow], scale: float, head: str) -> None:
    """A hammer or a cleaver whose head's bottom follows the blows; it tips back as it is raised."""
    path, side = strokes(plan, w.rng), 1 if w.chance(0.5) else -1
    long, back = scale * 0.5, w.between(0.8, 2.0)
    r = 0.06 * scale
    shape = Geom("cylinder", (r * 0.8, r), (0, 0, r), colour=(0.35, 0.35, 0.38)) if w.chance(0.5) else Geom(
        "box", (r, r * 0.8, r), (0, 0, r), material=head)  # fmt: skip
    if head == "chop":
        shape = Geom("box", (0.15 * scale, 0.008 * scale, 0.07 * scale), (0, 0, 0.07 * scale), colour=(0.75, 0.76, 0.8))
        long *= 0.6
    along, start = vec(side, 0, 0), 0.12 * scale if head == "chop" else 0.0
    middle = vec(side * (start + long / 2), 0, shape.at[2])  # type: ignore[index]
    geoms = [shape, Geom("capsule", (0.018 * scale, long / 2), middle, aim(along))]
    geoms += hand(w, middle + along * long / 2, along, scale * 1.3)
    ground = {id(b): b for b in plan}

    def pose(t: float) -> tuple[Vector, Vector]:
        at = path(t)
        nearest = min(ground.values(), key=lambda b: abs(b.time - t))
        lift = float(np.clip((at - nearest.point)[2] / max(1e-6, nearest.height), 0, 1)) * min(
            1.0, abs(t - nearest.time) / 0.02
        )
        return at, turn([0, 1, 0], side * back * 0.35 * lift)

    w.driven(geoms, "wood", pose)


def chop(w: World) -> None:
    """A cleaver cuts a stick, a root or a loaf: the piece falls off at the blow."""
    scale = w.between(0.35, 0.6)
    w.frame((0, 0, scale * 0.25), scale * 0.55, (-40, -10), 30)
    w.stand()
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
        w.sound(Event(time, "chop", "chop", thick * 4, strength_of(plan[-1].speed), voice, other="wood"), point)
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
    """A cleaver whose edge lies across the picture's depth."""
    path, lean = strokes(plan, w.rng), w.between(-0.2, 0.2)
    geoms = [
        Geom("box", (0.006 * scale, 0.16 * scale, 0.07 * scale), (0, 0, 0.07 * scale), colour=(0.75, 0.76, 0.8)),
        Geom("capsule", (0.018 * scale, 0.07 * scale), (0, -0.22 * scale, 0.1 * scale), aim([0, 1, 0])),
    ]
    geoms += hand(w, vec(0, -0.26 * scale, 0.1 * scale), unit(vec(0, -1, 0.3)), scale * 1.3)
    w.driven(geoms, "wood", lambda t: (path(t), turn([0, 0, 1], lean)))


def doors(w: World) -> None:
    """A door, or the lid of a chest, swings open and slams shut."""
    scale, material = w.between(0.6, 1.2), w.pick("wood", "wood", "metal", "glass", "plastic")
    wide, tall, thick = 0.4 * scale, 0.8 * scale, 0.03 * scale
    w.frame((0, 0, tall * 0.5), scale * 0.6, (-30, 5), 30)
    w.stand()
    for x in (-1, 1):
        w.fixed(
            [Geom("box", (0.12 * scale, 0.05 * scale, tall / 2 + 0.05))],
            "wood",
            (x * (wide + 0.13 * scale) - 0.0, 0.06 * scale, tall / 2 + 0.05),
        )
    w.fixed(
        [Geom("box", (wide + 0.25 * scale, 0.05 * scale, 0.06 * scale))], "wood", (0, 0.06 * scale, tall + 0.11 * scale)
    )
    limit, angle, t = w.between(0.8, 1.9), 0.0, w.between(0.3, 1.2)
    moves: list[tuple[float, float, float, float, float]] = []  # start, end, from, to, hardness
    slams: list[tuple[float, float, float]] = []
    while t < w.seconds - 0.6:
        shut = angle > 0
        to = 0.0 if shut else limit * w.between(0.6, 1.0)
        length = w.between(0.25, 1.1)
        moves.append((t, t + length, angle, to, 1.0 if shut else 0.0))
        if shut:
            slams.append((t + length, 2 * angle / length * wide, 0.0))
        elif w.chance(0.4):
            slams.append((t + 0.01, w.between(0.1, 0.5), 0.0))  # the latch
        t, angle = t + length + w.between(0.15, 1.2), to

    def angle_at(time: float) -> float:
        value = 0.0
        for start, end, a, b, hard in moves:
            if time >= start:
                u = min(1.0, (time - start) / (end - start))
                value = a + (b - a) * (u * u if hard else ease(u))
                if hard and time > end and a > 0.5:  # it springs back a little
                    value += 0.03 * max(0.0, 1 - (time - end) / 0.15) * min(1.0, (time - end) / 0.03)
        return value

    hinge = vec(-wide, 0, 0)
    geoms = [Geom("box", (wide, thick / 2, tall / 2), (wide, 0, tall / 2)),
             Geom("sphere", (0.03 * scale,), (wide * 1.85, -0.03 * scale, tall * 0.5), colour=w.colour())]  # fmt: skip
    door = w.driven(geoms, material, lambda t: (hinge, turn([0, 0, 1], -angle_at(t))), size=scale)
    for time, speed, _ in slams:
        w.hit(time, "door", door, "wood", speed, (wide * 0.8, 0, tall * 0.5))


def drawers(w: World) -> None:
    """A drawer is pulled out, which scrapes, and pushed shut, which bangs."""
    scale, material = w.between(0.5, 0.9), w.pick("wood", "wood", "metal", "plastic", "cardboard")
    w.frame((0, -0.1 * scale, 0.4 * scale), scale * 0.62, (-40, -12), 40)
    w.stand()
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
    half, deep, each, high = box

    def out(t: float) -> float:
        value = 0.0
        for start, end, a, b in spans:
            if t >= start:
                u = min(1.0, (t - start) / (end - start))
                value = a + (b - a) * (u**1.6 if b == 0 else leap(u))
        return value

    geoms = [Geom("box", (half, 0.015, each * 0.46), (0, -deep, 0)), Geom("box", (half * 0.95, deep, 0.01), (0, 0, -each * 0.4)),
             Geom("box", (0.01, deep, each * 0.3), (half * 0.95, 0, -each * 0.1)),
             Geom("box", (0.01, deep, each * 0.3), (-half * 0.95, 0, -each * 0.1)),
             Geom("sphere", (each * 0.12,), (0, -deep - 0.03, 0), colour=w.colour())]  # fmt: skip
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
            w.sound(event, (0, -deep - out((start + end) / 2), high))
        if b == 0:
            w.hit(end, "drawer", drawer, material, 1.6 * a / (end - start), (0, -deep, high))


def racket(w: World) -> None:
    """A ball is kept up by a racket, or bounced on the ground by a hand."""
    scale, low = w.between(0.5, 1.0), w.chance(0.5)
    w.frame((0, 0, 0.48 * scale), scale * 0.6, (-30, 0), 40)
    w.stand()
    radius, gap = scale * w.between(0.05, 0.1), w.between(0.45, 0.85)
    times, points, kinds = [w.between(0.3, 1.0)], [], []
    while times[-1] < w.seconds + 1:
        times.append(times[-1] + gap * w.between(0.9, 1.1) * (0.5 if low else 1))
    for k in range(len(times)):
        ground = low and k % 2 == 1
        z = 0.0 if ground else scale * (0.62 if low else 0.25)
        points.append(vec(w.rng.normal(0, 0.06) * scale, w.rng.normal(0, 0.03) * scale, z + radius))
        kinds.append(ground)
    gravity = 9.81 if not low else 3.0
    flight = arcs([0.0, *times], [points[0] + vec(0, 0, 0), *points], gravity)
    ball = w.driven([Geom("sphere", (radius,))], w.pick("rubber", "plastic", "wood", "chip"),
                    lambda t: (flight(t), turn([1, 0.4, 0], t * 5)))  # fmt: skip
    ball.size = 2 * radius
    mine = []
    for time, point, ground in zip(times, points, kinds, strict=True):
        speed = w.between(0.8, 1.2) * gravity * gap / 2 + (1.0 if low else 0.5)
        if ground:
            w.hit(time, "ball", ball, w.ground, speed, point - vec(0, 0, radius))
        else:
            side = radius if low else -radius
            mine.append(Blow(time, point + vec(0, 0, side), vec(0, 0, -1 if not low else 1), scale * 0.12, 0.14))
            w.hit(time, "ball", ball, "soft" if low else "wood", speed, mine[-1].point)
    path = strokes(mine, w.rng)
    if low:
        press(w, path, 1, scale * 1.1)
        return
    face = scale * w.between(0.12, 0.2)
    geoms = [Geom("cylinder", (face, 0.012 * scale), (0, 0, -0.012 * scale)),
             Geom("capsule", (0.02 * scale, 0.12 * scale), (face + 0.12 * scale, 0, -0.012 * scale), aim([1, 0, 0]))]  # fmt: skip
    geoms += hand(w, vec(face + 0.22 * scale, 0, -0.012 * scale), unit(vec(1, 0, -0.2)), scale)
    tilt = wander(w.rng, 0.06)
    w.driven(geoms, w.pick("wood", "plastic", "metal"), lambda t: (path(t), turn([0, 1, 0], float(tilt(t)[0]))))


__all__ = ["chop", "claps", "doors", "drawers", "drums", "hammer", "handdrum", "racket", "rotate", "stick", "vessel"]
