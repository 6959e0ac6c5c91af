"""Scenes in which someone strikes things: with a stick, with drum sticks, or with hands."""

from dataclasses import dataclass
from math import pi

import numpy as np

from train.synthetic.events import Event
from train.synthetic.scenes.kinds.falling import solid
from train.synthetic.scenes.motion import (
    Blow,
    Path3,
    Vector,
    compose,
    moments,
    strength_of,
    strokes,
    turn,
    unit,
    vec,
    wander,
)
from train.synthetic.scenes.tools import UP, blows, hand, palm, press, tool
from train.synthetic.scenes.world import GROUNDS, SOLIDS, Body, Geom, World


@dataclass
class Target:
    """Something to hit at `point`, from the direction `normal`. A loose thing falls over at the first blow."""

    body: Body | None  # None: the ground
    point: Vector
    normal: Vector
    loose: bool = False


def standing(w: World, at: Vector, scale: float) -> Target:
    """Add a thing on the ground that is fastened by a spring, or stands loose."""
    geom = solid(w, scale * w.between(0.13, 0.24), w.pick("box", "cylinder", "box", "sphere"))
    high = geom.size[1] if geom.shape == "cylinder" else geom.size[-1]
    material, loose = w.pick(*SOLIDS), geom.shape == "box" and w.chance(0.4)
    if loose:
        body = w.free([geom], material, at + UP * high)
    else:
        body = w.sprung([Geom(geom.shape, geom.size, (0, 0, high))], material, at, w.between(2.5, 8))
    return Target(body, at + UP * 2 * high, unit(vec(0, -0.25, 1)), loose)


def struck(w: World, blow: Blow, target: Target) -> None:
    """Add the effects of a blow on its target: a sound, and a shake or a fall."""
    if target.body is None:
        event = Event(blow.time, "stick", w.ground, 0.3, strength_of(blow.speed) * 0.8, 0, other="wood")
        w.add_event(event, target.point)
        return
    w.add_impact(blow.time, "stick", target.body, "wood", blow.speed, target.point)
    if target.loose:
        push = vec(w.rng.normal(0, 0.3), w.between(0.3, 1.0), 0.2, w.rng.normal(0, 2) - 3, w.rng.normal(0, 3), 0)
        w.kick(target.body, blow.time, push * min(1.0, blow.speed / 2))
    else:
        w.kick(target.body, blow.time, w.rng.normal(0, 1.0, 2) * blow.speed)


def stick(w: World) -> None:
    """A stick, seen by the person who holds it, pokes and taps things, which shake or tip over."""
    scale = w.between(0.4, 0.8)
    w.frame((0, 0, scale * 0.25), scale * 0.66, (-50, -15), 20)
    w.choose_ground(*GROUNDS, *GROUNDS, "wood", "stone", "metal")
    count, targets = int(w.rng.integers(1, 6)), []
    for k in range(count):
        angle = 2 * pi * k / count + w.between(-0.3, 0.3)
        radius = scale * (0.4 if count > 1 else 0)
        targets.append(standing(w, vec(np.cos(angle), np.sin(angle), 0) * radius, scale))
    ground = Target(None, vec(0, -0.5 * scale, 0), UP)
    spots = [(t.point, t.normal) for t in [*targets, ground]]
    final: list[Blow] = []
    for blow, k in blows(w, moments(w.rng, w.seconds, 0.25, 1.6), spots, 0.5 * scale):
        target = [*targets, ground][k]
        gone = target.loose and any(b.gap == 0 and np.array_equal(b.point, target.point) for b in final)
        target = ground if gone else target  # a loose thing has fallen
        gap = w.between(0.04, 0.1) * scale if w.chance(0.06) else 0.0
        final.append(Blow(blow.time, target.point, target.normal, blow.height, blow.fall, gap))
        if not gap:
            struck(w, blow, target)
    toward = unit(vec(w.rng.choice([-1, 1]) * w.between(0.2, 0.9), -1, w.between(0.1, 0.45)))
    long, thick = scale * w.between(0.6, 0.9), scale * w.between(0.012, 0.03)
    geoms = [Geom("capsule", (thick, long / 2), (0, 0, long / 2 + thick))]
    if w.chance(0.6):
        geoms += hand(w, vec(0, 0, long), UP, scale * 1.5)
    tool(w, strokes(final, w.rng), toward, geoms)


# Drum: radius and half depth in metres
PIECES = {
    "snare": (0.18, 0.08),
    "tom": (0.15, 0.11),
    "hihat": (0.18, 0.012),
    "cymbal": (0.25, 0.008),
    "cajon": (0.17, 0.22),
}


def piece(w: World, name: str, x: float, scale: float) -> tuple[Body, Vector]:
    """Add one drum or cymbal on its stand; also returns the point where it is hit."""
    radius, deep = PIECES[name][0] * scale, PIECES[name][1] * scale
    raised = 0.25 if name in ("cymbal", "hihat") else 0.12 if abs(x) > 0.2 * scale else 0.0
    top = scale * (0.6 + raised + w.between(-0.03, 0.03))
    at = vec(x, w.between(-0.03, 0.08) * scale + 0.1 * abs(x), top)
    geoms = [Geom("cylinder", (radius, deep), (0, 0, -deep))]
    if name == "cajon":
        geoms = [Geom("box", (radius, radius, deep), (0, 0, -deep))]
    if name in ("snare", "tom"):
        geoms.append(Geom("cylinder", (radius * 0.96, 0.004), colour=(0.9, 0.88, w.between(0.6, 0.9))))
    body = w.sprung(geoms, name, at, w.between(1.5, 4))
    body.size = 2 * radius
    half = (top - 2 * deep) / 2
    stand = Geom("cylinder", (0.012 * scale, half), colour=(0.5, 0.5, 0.55))
    w.fixed([stand], "metal", (at[0], at[1], half), solid=False)
    return body, at + vec(0, -radius * 0.4, 0.004)


def drums(w: World) -> None:
    """One or two sticks play a drum kit or a single drum."""
    scale = w.between(0.7, 1.2)
    kit = [str(name) for name in w.rng.permutation(["snare", "hihat", "tom", "cymbal", "tom"])]
    names = kit[: int(w.rng.integers(1, 6))] if w.chance(0.85) else ["cajon"]
    w.frame((0, 0, 0.62 * scale), scale * max(0.4, 0.15 + 0.125 * len(names)), (-45, -12), 40)
    w.choose_ground("boards", "carpet", "floor", "wood")
    kit_pieces = [piece(w, name, (k - (len(names) - 1) / 2) * 0.36 * scale, scale) for k, name in enumerate(names)]
    normal = unit(vec(0, -0.15, 1))
    for side in (-1, 1):
        if side > 0 and w.chance(0.25):
            continue
        mine = [(spot + vec(side * 0.05 * scale, 0, 0), normal) for _, spot in kit_pieces]
        plan = blows(w, moments(w.rng, w.seconds, 0.14, 0.9), mine, 0.35 * scale)
        for blow, k in plan:
            body = kit_pieces[k][0]
            w.add_impact(blow.time, "drum", body, "wood", blow.speed, blow.point)
            shake = 0.05 if body.material not in ("cymbal", "hihat") else 0.35
            w.kick(body, blow.time, w.rng.normal(0, 1, 2) * shake * blow.speed)
        away, thick = unit(vec(side * w.between(0.2, 0.5), -1, w.between(0.2, 0.6))), 0.012 * scale
        geoms = [Geom("capsule", (thick, 0.2 * scale), (0, 0, 0.2 * scale + thick))]
        geoms += hand(w, vec(0, 0, 0.38 * scale), UP, scale)
        tool(w, strokes([b for b, _ in plan], w.rng), away, geoms, 0.1)


def handdrum(w: World) -> None:
    """Two hands play on a drum or a box."""
    scale = w.between(0.8, 1.2)
    w.frame((0, 0, 0.4 * scale), scale * 0.42, (-50, -12), 40)
    w.choose_ground()
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
            w.add_impact(blow.time, "hand", drum, "soft", blow.speed, blow.point)
            w.kick(drum, blow.time, w.rng.normal(0, 0.04, 2) * blow.speed)
        press(w, strokes([b for b, _ in plan], w.rng), side, scale * 1.25)


def claps(w: World) -> None:
    """Two hands clap; sometimes they stop short of each other."""
    scale = w.between(0.8, 1.3)
    w.frame((0, 0, 0.5), 0.3 * scale, (-35, 20), 60)
    w.choose_ground()
    voice = len(w.bodies) + 1
    centre, plans = vec(0, 0, 0.5), moments(w.rng, w.seconds, 0.18, 1.2)
    heights = w.rng.uniform(0.06, 0.2, len(plans)) * scale
    falls = w.rng.uniform(0.05, 0.13, len(plans))
    missed = w.rng.random(len(plans)) < 0.06
    for time, height, fall, miss in zip(plans, heights, falls, missed, strict=True):
        if not miss:
            strength = strength_of(1.2 * height / fall)
            w.add_event(Event(time, "clap", "clap", 0.1 * scale, strength, voice, other="soft"), centre)
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
