"""The kinds of drawn scenes: each adds shapes and events to a `Stage`. `KINDS` lists them.

Shapes are drawn in the order in which they were added. Contact times are computed exactly, never rounded to frames.
Units are those of train.synthetic.drawn.shapes.
"""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from train.synthetic.drawn.flight import fly
from train.synthetic.drawn.shapes import LOOKS, SOLIDS, Look, Path, Pose, Shape, Stage, lift, stops, trembling


def bounce(s: Stage) -> None:
    """One to five shapes are thrown in and bounce."""
    gravity, spring = s.rng.uniform(2.5, 6), s.rng.uniform(0.35, 0.85)
    for x in (s.left - 0.012, s.right + 0.012):  # the walls
        s.limb(0.012, lambda t, x=x: (x, -0.2, x, s.ground), LOOKS[s.floor])
    for start in s.rng.uniform(0, s.seconds * 0.75, int(s.rng.integers(1, 6))):
        fly(s, s.solid(0.06, 0.19), start, gravity, spring)


def play(s: Stage, pads: list[Shape], kind: str, tool: str, gap: float = 0.0) -> None:
    """One or two tools move from pad to pad and hit each at an exact time. With a `gap` they stop short, silently."""
    rng, look = s.rng, LOOKS["clap" if tool == "hand" else "metal" if tool == "knife" else "wood"]
    xs = np.linspace(s.left, s.right, len(pads) + 2)[1:-1] + rng.uniform(-0.03, 0.03, len(pads))
    tops = np.array([s.ground - p.depth(p.resting_angle(0)) * 2 for p in pads])
    blows: list[list[tuple[float, float]]] = [[] for _ in pads]
    for _ in range(2 if len(pads) > 1 and rng.random() < 0.6 else 1):
        times, levels = s.rhythm()
        which = rng.integers(len(pads), size=max(1, len(times)))
        if tool == "knife":
            xs, which = s.middle + np.linspace(0.2, -0.2, len(times) + 1), np.arange(len(times) + 1)
            tops = np.full(len(xs), tops[0])
        across, over = stops(times, xs[which], 0.3), stops(times, tops[which], 0.3)
        up = lift(times, rng.uniform(0.18, 0.4) * levels, rng.uniform(0.1, 0.2))
        lean, long, tip = rng.choice([-1, 1]) * rng.uniform(0.2, 0.9), rng.uniform(0.12, 0.25), rng.uniform(0.02, 0.05)

        def ends(t: float, a: Path = across, b: Path = over, up: Path = up, d: float = lean, n: float = long,
                 r: float = tip) -> tuple[float, float, float, float]:  # fmt: skip
            x, y, turn = a(t), b(t) - up(t) - r - gap, d * (1 - 1.2 * up(t))
            return x, y, x + n * sin(turn) * 2, y - n * cos(turn) * 2

        if tool == "knife":
            blade = s.add("limb", 0.17, 4, look, 2.5)
            down = tip - blade.depth(0)
            blade.motion = lambda t, e=ends, d=down: (e(t)[0], e(t)[1] + d, 0.0, 0.0)
        else:
            s.limb(tip * (0.4 if tool == "stick" else 0.8), ends, look)
            s.add("limb", tip, look=look).motion = lambda t, e=ends: (*e(t)[:2], 0.0, 0.0)
        for time, pad, level in zip(times, which, levels, strict=False):
            if not gap:
                target = 0 if tool == "knife" else pad
                s.hit(time, kind, pads[target], level)
                blows[target].append((time, level))
    for pad, x, top, blow in zip(pads, xs, tops, blows, strict=False):
        place = s.middle if tool == "knife" else float(x)
        pad.motion = trembling(place, float(s.ground + top) / 2, pad.resting_angle(0), sorted(blow))


def hammer(s: Stage, gap: float = 0.0) -> None:
    """A stick, a mallet or a hand strikes one object."""
    pad = s.add(str(s.rng.choice([*SOLIDS, "cajon"])), s.rng.uniform(0.13, 0.26), 4, None, s.rng.uniform(0.7, 2))
    play(s, [pad], "strike", str(s.rng.choice(["stick", "mallet", "hand"])), gap)


def drums(s: Stage) -> None:
    """Sticks play two to five drums and cymbals."""
    names = s.rng.permutation(["kick", "snare", "tom", "hihat", "cymbal", "cajon"])[: s.rng.integers(2, 6)]
    wide = {"kick": 1.1, "cajon": 0.8, "hihat": 3.5, "cymbal": 5.0}
    room = (s.right - s.left) / (len(names) + 1) * 0.6
    play(s, [s.add(str(n), min(0.2, room), 4, None, wide.get(str(n), 1.7)) for n in names], "drum", "stick")


def bars(s: Stage) -> None:
    """Mallets play the bars of one instrument, tuned by their size."""
    name, n = str(s.rng.choice(["wood", "metal", "bell", "glass", "plastic"])), int(s.rng.integers(3, 7))
    pads = [s.add(name, size, 4, None, 1.4) for size in np.linspace(0.2, 0.07, n)]
    for pad in pads:
        pad.voice = pads[0].voice  # one instrument
    play(s, pads, "strike", "mallet")


def chop(s: Stage) -> None:
    """A knife cuts along a piece of food."""
    play(s, [s.add("chop", 0.28, 4, None, s.rng.uniform(4, 8))], "chop", "knife")


def clap(s: Stage) -> None:
    """Two hands clap."""
    times, levels = s.rhythm(0.25, 1.0)
    x, y, thick, palm = s.middle, s.rng.uniform(0.35, 0.65), s.rng.uniform(0.035, 0.07), s.rng.uniform(0.09, 0.18)
    apart = lift(times, s.rng.uniform(0.1, 0.3) * levels, s.rng.uniform(0.1, 0.25))
    look = LOOKS["clap"]
    for side in (-1, 1):

        def edge(t: float, side: int = side) -> float:
            return x + side * (thick + apart(t))

        s.limb(thick * 0.9, lambda t, e=edge, q=side: (e(t), y + palm, x + q * 0.45, 1.1), look)
        hand = s.add("clap", thick, look=look)
        hand.motion = lambda t, e=edge, q=side: (e(t), y, pi / 2 + q * 0.5 * apart(t), palm)
    for time, level in zip(times, levels, strict=False):
        s.hit(time, "clap", hand, level)


def walk(s: Stage) -> None:
    """Two legs that step in turn; a foot stands where it landed until it is lifted again."""
    rng, height, look = s.rng, s.rng.uniform(0.25, 0.5), Look((60, 70, 110), (90, 60, 60), vary=45)
    gap, stride = rng.uniform(0.28, 0.75), rng.choice([0.0, 1.0]) * rng.uniform(0.08, 0.2)
    times = rng.uniform(0.2, 1.2) + gap * np.arange(64) + rng.normal(0, 0.02, 64)
    times = times[times < min(s.seconds, rng.choice([s.seconds, rng.uniform(4, 9)]))]
    if not len(times):
        return  # The clip is too short for a step.
    room = max(0.1, s.right - s.left - 0.3)
    path = s.left + 0.15 + np.abs((rng.uniform(0, room) + stride * np.arange(len(times)) + room) % (2 * room) - room)
    shoe, voice = rng.uniform(0.022, 0.04), int(rng.integers(1 << 30))
    body = stops(times, path, 0.0)
    bob = lift(times, np.full(64, 0.03), gap * 0.6)
    s.limb(0.07, lambda t: (body(t), s.ground - height - bob(t), body(t), s.ground - height - 0.25 - bob(t)), look)
    for foot in (0, 1):
        mine, places = times[foot::2], path[foot::2] + (0 if stride else (foot - 0.5) * 0.12)
        if not len(mine):
            continue
        x, up = stops(mine, places, 0.5), lift(mine, np.full(64, rng.uniform(0.05, 0.13)), gap * 0.5, gap * 0.6)
        s.limb(0.032, lambda t, x=x, up=up: (body(t), s.ground - height - bob(t), x(t), s.ground - shoe - up(t)), look)
        shape = s.add(s.floor, shoe, look=Look((40, 30, 30), (90, 80, 70), vary=30))
        shape.motion, shape.voice = (lambda t, x=x, up=up: (x(t) + shoe, s.ground - shoe - up(t), 0.0, shoe)), voice
        for time in mine:
            s.hit(time, "step", shape, rng.uniform(0.4, 0.7))


def collide(s: Stage) -> None:
    """Two things slide into each other and part again, several times."""
    times, levels = s.rhythm(0.5, 1.6)
    for side in (-1, 1):
        shape = s.solid(0.1, 0.2)
        half = shape.depth(shape.resting_angle(0) + pi / 2)  # to its side
        away = lift(times, levels * s.rng.uniform(0.1, 0.3), s.rng.uniform(0.15, 0.35))
        angle = shape.resting_angle(0)
        y = s.ground - shape.depth(angle)
        shape.motion = lambda t, q=side, h=half, a=away, y=y, g=angle: (s.middle + q * (h + a(t)), y, g, 0.0)
    for time, level in zip(times, levels, strict=False):
        s.hit(time, "collide", shape, level)


def cradle(s: Stage) -> None:
    """A hanging ball swings against another ball or a wall. Contacts are half a period of the swing apart."""
    rng, omega, keep = s.rng, s.rng.uniform(2.5, 6), s.rng.uniform(0.75, 0.95)
    first, long, top, wall = rng.uniform(0.5, 2.5), rng.uniform(0.35, 0.6), rng.uniform(-0.1, 0.1), rng.random() < 0.4
    balls = [s.solid(0.07, 0.13)]
    balls.append(s.add(balls[0].material, balls[0].size))
    balls[0].corners, swing = None, rng.uniform(0.4, 0.9)

    def angle(t: float, side: int) -> float:
        k = int((t - first) * omega // pi)  # contacts so far, less one
        if k < 0:
            return 0.0 if side else -swing * (sin(omega * (first - t)) if first - t < pi / 2 / omega else 1.0)
        out = swing * keep ** (k + 1) * sin(omega * (t - first) - pi * k)
        return (-out if wall or k % 2 else 0.0) if not side else (out if not wall and k % 2 == 0 else 0.0)

    for side, ball in enumerate(balls):
        pivot = s.middle + (2 * side - 1) * ball.size

        def at(t: float, side: int = side, pivot: float = pivot) -> tuple[float, float, float, float]:
            return pivot, top, pivot + long * sin(angle(t, side)), top + long * cos(angle(t, side))

        s.limb(0.006, at, LOOKS["floor"])
        ball.motion = lambda t, at=at: (*at(t)[2:], 0.0, 0.0)
        s.shapes.append(s.shapes.pop(s.shapes.index(ball)))
    for k in range(64):
        s.hit(first + k * pi / omega, "collide", balls[0], swing * omega / 5 * keep**k)


def pile(s: Stage) -> None:
    """Cards, chips or books fall on a growing pile."""
    name = str(s.rng.choice(["card", "chip", "plastic", "wood"]))
    (times, levels), size = s.rhythm(0.2, 0.8), s.rng.uniform(0.12, 0.22)
    wide, voice = s.rng.uniform(4, 9), int(s.rng.integers(1 << 30))
    for k, time in enumerate(times[:24]):
        item, drop, x = s.add(name, size, 4, None, wide), s.rng.uniform(0.2, 0.45), s.middle + s.rng.normal(0, 0.01)
        y, g, turn = s.ground - item.depth(0.0) * (2 * k + 1), s.rng.uniform(4, 8), s.rng.normal(0, 1.5)
        item.voice = voice

        def motion(t: float, y: float = y, g: float = g, turn: float = turn, x: float = x, d: float = drop,
                   time: float = time) -> Pose | None:  # fmt: skip
            left = max(time - t, 0.0)
            return (x + turn * left * 0.03, y - g * left * left / 2, turn * left, 0.0) if left < 1.2 else None

        item.motion = motion
        s.hit(time, "pile", item, float(levels[k]))


def slide(s: Stage) -> None:
    """Something is pushed to and fro. Its scraping is as loud as it is fast (a half sine)."""
    shape, t = s.solid(0.1, 0.22), float(s.rng.uniform(0.2, 1.5))
    low, high = s.left + shape.size, s.right - shape.size
    knots = [(0.0, float(s.rng.uniform(low, high)))]
    while t < s.seconds - 0.4:
        end, place = min(t + s.rng.uniform(0.25, 1.6), s.seconds), float(s.rng.uniform(low, high))
        if abs(place - knots[-1][1]) > 0.1:
            s.hit(t, "slide", shape, abs(place - knots[-1][1]) / (end - t) * 0.8, end)
            knots += [(t, knots[-1][1]), (end, place)]
        t = end + s.rng.choice([0.05, s.rng.uniform(0.2, 1.5)])
    when, where = np.array(knots).T

    def x(t: float) -> float:
        k = int(np.clip(np.searchsorted(when, t, "right"), 1, len(when) - 1))
        share = np.clip((t - when[k - 1]) / max(when[k] - when[k - 1], 1e-6), 0, 1)
        return float(where[k - 1] + (where[k] - where[k - 1]) * (1 - cos(pi * share)) / 2)

    angle = shape.resting_angle(0)
    if s.rng.random() < 0.6:
        s.limb(0.035, lambda t: (x(t), s.ground - shape.size, x(t) + 0.3, -0.2), LOOKS["clap"])
    shape.motion = lambda t: (x(t), s.ground - shape.depth(angle), angle, 0.0)


def drift(s: Stage) -> None:
    """Shapes fly through the picture and touch nothing."""
    for _ in range(int(s.rng.integers(1, 5))):
        shape, start, spin = s.solid(0.06, 0.2), s.rng.uniform(-1, s.seconds - 1), s.rng.normal(0, 2)
        side, speed = s.rng.choice([-1, 1]), s.rng.uniform(0.3, 1.5)
        y, vy, g = s.rng.uniform(0.1, 0.7), s.rng.normal(0, 0.2), s.rng.choice([0.0, 0.5])
        edge = (0.0 if side > 0 else s.width) - side * 0.3
        shape.motion = lambda t, a=start, b=edge, v=side * speed, y=y, w=vy, z=spin, g=g: (
            b + v * (t - a), y + (w + g * (t - a) / 2) * (t - a) / 2, z * t, 0.0) if t > a else None  # fmt: skip


def sway(s: Stage) -> None:
    """Pendulums swing in the air and reeds wave."""
    for _ in range(int(s.rng.integers(1, 6))):
        x, long, omega = s.rng.uniform(s.left, s.right), s.rng.uniform(0.2, 0.6), s.rng.uniform(1, 6)
        swing, phase, up = s.rng.uniform(0.1, 0.7), s.rng.uniform(0, 6), s.rng.choice([-1, 1])
        base = s.ground if up < 0 else s.rng.uniform(-0.1, 0.2)

        def at(t: float, x=x, n=up * long, w=omega, a=swing, p=phase, y=base) -> tuple[float, float, float, float]:
            turn = a * sin(w * t + p)
            return x, y, x + n * sin(turn), y + n * cos(turn)

        s.limb(0.02 if up < 0 else 0.006, at, LOOKS["grass" if up < 0 else "floor"])
        if up > 0:
            s.solid(0.04, 0.1).motion = lambda t, at=at: (*at(t)[2:], 0.0, 0.0)


def miss(s: Stage) -> None:
    """A tool strikes at an object but never reaches it."""
    hammer(s, gap=s.rng.uniform(0.08, 0.15))


def still(s: Stage) -> None:
    """Up to three things stand still."""
    for _ in range(int(s.rng.integers(0, 4))):
        shape = s.solid(0.06, 0.25)
        shape.motion = trembling(
            s.rng.uniform(s.left, s.right), s.ground - shape.depth(shape.resting_angle(0)), shape.resting_angle(0), []
        )


KINDS: dict[str, tuple[Callable[[Stage], None], float]] = {  # name -> (scene, relative frequency)
    "bounce": (bounce, 3), "hammer": (hammer, 2.5), "drums": (drums, 3), "bars": (bars, 1), "chop": (chop, 1.2),
    "clap": (clap, 1.5), "walk": (walk, 2.5), "collide": (collide, 1.2), "cradle": (cradle, 1), "pile": (pile, 1.2),
    "slide": (slide, 1.5), "drift": (drift, 0.7), "sway": (sway, 0.7), "miss": (miss, 0.7), "still": (still, 0.6),
}  # fmt: skip
