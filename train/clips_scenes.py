"""What happens and what is seen in a made-up clip: shapes, how they look, and motion with exact contact times.

Lengths are in frame heights, y points down, times are seconds, speeds are heights per second. A scene function adds
shapes (drawn in order) and events to a `Stage`; contact times are solved, never rounded to frames.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, exp, hypot, inf, log, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from engines.contract import interpolation_matrix

Array = NDArray[np.float32]
Pose = tuple[float, float, float, float]  # x, y, angle, half length (of a capsule; else 0)
Motion = Callable[[float], Pose | None]  # None: not in the picture
Path = Callable[[float], float]
Colour = tuple[int, int, int]
TEXELS = 48  # side of a shape's texture


@dataclass(frozen=True)
class Look:
    """How a material is seen. A material is also the name of the group of recordings it sounds like."""

    colour: Colour
    second: Colour
    pattern: str = "noise"
    gloss: float = 0.25
    opacity: float = 1.0
    vary: float = 18.0  # spread of the colour from object to object


LOOKS = {
    "wood": Look((150, 100, 55), (110, 70, 35), "stripes"),
    "metal": Look((140, 150, 165), (195, 200, 210), "noise", 0.6),
    "bell": Look((205, 165, 60), (235, 205, 110), "gradient", 0.7),
    "stone": Look((125, 122, 118), (80, 78, 76)),
    "glass": Look((185, 225, 235), (140, 200, 225), "gradient", 0.5, 0.6),
    "soft": Look((200, 110, 140), (230, 175, 195), "dots"),
    "ceramic": Look((235, 232, 225), (70, 110, 190), "stripes", 0.4),
    "plastic": Look((220, 120, 40), (240, 200, 60), "checks", 0.4, 1, 75),
    "kick": Look((45, 45, 60), (70, 70, 90), "dots", 0.2),
    "snare": Look((225, 225, 220), (150, 150, 155), "stripes", 0.3),
    "tom": Look((180, 35, 40), (215, 70, 60), "gradient", 0.4),
    "hihat": Look((225, 200, 90), (190, 165, 60), "stripes", 0.5),
    "cymbal": Look((210, 180, 70), (240, 220, 130), "gradient", 0.7),
    "cajon": Look((185, 140, 85), (150, 105, 60), "stripes"),
    "clap": Look((215, 165, 135), (195, 140, 110), "noise", 0.2, 1, 30),
    "card": Look((240, 238, 232), (190, 50, 50), "checks", 0.1),
    "chip": Look((190, 40, 45), (240, 235, 230), "stripes", 0.2, 1, 75),
    "chop": Look((110, 170, 70), (230, 130, 60), "noise", 0.2),
    "boards": Look((165, 120, 75), (130, 90, 55), "stripes"),
    "floor": Look((140, 138, 135), (115, 113, 112)),
    "grass": Look((85, 140, 60), (60, 105, 45)),
    "snow": Look((235, 240, 248), (210, 220, 235)),
    "carpet": Look((130, 50, 70), (90, 40, 60), "dots"),
    "grating": Look((110, 120, 130), (75, 80, 90), "checks"),
}
GROUNDS = ("boards", "floor", "grass", "snow", "carpet", "grating")
SOLIDS = ("wood", "metal", "bell", "stone", "glass", "soft", "ceramic", "plastic")
SHADE = Look((12, 12, 16), (12, 12, 16), "plain", 0.0, 0.35, 0.0)  # shadows


def pattern(rng: np.random.Generator, kind: str, height: int, width: int) -> Array:
    """Weight [height, width] in [0, 1] between two colours."""
    y, x = np.mgrid[0:height, 0:width] / float(height)
    angle, scale = rng.uniform(0, pi), rng.uniform(2.5, 9)
    along = (x * cos(angle) + y * sin(angle)) * scale
    if kind == "stripes":
        weight = np.clip(0.5 + rng.uniform(0.5, 3) * np.sin(2 * pi * along), 0, 1)
    elif kind == "checks":
        weight = (np.floor(x * scale) + np.floor(y * scale)) % 2
    elif kind == "dots":
        weight = np.hypot((x * scale) % 1 - 0.5, (y * scale) % 1 - 0.5) < 0.3
    elif kind == "gradient":
        weight = (along - along.min()) / np.ptp(along)
    else:
        weight = np.full((height, width), 0.5)
        for cells in (3, 8, 21) if kind == "noise" else ():
            grid = rng.uniform(-0.4, 0.4, (cells + 1, max(2, cells * width // height + 1)))
            weight += interpolation_matrix(height, grid.shape[0]) @ grid @ interpolation_matrix(width, grid.shape[1]).T
    return np.clip(weight, 0, 1).astype(np.float32)


def paint(rng: np.random.Generator, look: Look, height: int, width: int) -> Array:
    """Texture [height, width, 3], 0 to 255, of one object of this look."""
    first, second = np.array([look.colour, look.second], np.float32) + rng.normal(0, look.vary, (2, 3))
    weight = pattern(rng, look.pattern, height, width)[..., None]
    grain = rng.normal(0, look.vary / 4, (height, width, 1))
    return np.clip(first + weight * (second - first) + grain, 0, 255).astype(np.float32)


@dataclass(eq=False)
class Shape:
    """A disc or capsule (`corners` None) or a convex polygon, with the material that it sounds like."""

    material: str
    size: float  # radius; of a polygon, the circumscribed one
    look: Look
    texture: Array  # [TEXELS, TEXELS, 3]
    voice: int = 0  # objects of one material differ in their recordings
    corners: Array | None = None  # [E, 2] clockwise on the screen
    motion: Motion = lambda t: None

    def depth(self, angle: float) -> float:
        """From the centre down to the lowest point."""
        if self.corners is None:
            return self.size
        return float(np.max(self.corners @ np.array([sin(angle), cos(angle)])))

    def flat(self, edge: int) -> float:
        """The angle at which an edge of a polygon lies on the ground."""
        if self.corners is None:
            return 0.0
        a, b = self.corners[edge % len(self.corners)], self.corners[(edge + 1) % len(self.corners)]
        return pi - float(np.arctan2(b[1] - a[1], b[0] - a[0]))

    def draw(self, frame: Array, t: float, view: tuple[float, float, float]) -> None:
        """Blend into frame [H, W, 3]; `view` is the frame's left and top in the world and pixels per height."""
        pose = self.motion(t)
        if pose is None:
            return
        (x, y, angle, length), (left, top, scale) = pose, view
        x, y, reach = (x - left) * scale, (y - top) * scale, (self.size + length) * scale + 1
        x0, y0 = max(0, int(x - reach)), max(0, int(y - reach))
        x1, y1 = min(frame.shape[1], int(x + reach) + 2), min(frame.shape[0], int(y + reach) + 2)
        if x0 >= x1 or y0 >= y1:
            return
        dx = (np.arange(x0, x1, dtype=np.float32) - x) / np.float32(scale)
        dy = ((np.arange(y0, y1, dtype=np.float32) - y) / np.float32(scale))[:, None]
        u, v = dx * cos(angle) + dy * sin(angle), dy * cos(angle) - dx * sin(angle)
        if self.corners is None:
            inside = self.size - np.hypot(np.maximum(np.abs(u) - length, 0), v)
        else:
            edges = np.roll(self.corners, -1, 0) - self.corners
            normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
            far = (normals * self.corners).sum(1)
            inside = np.minimum.reduce([f - n[0] * u - n[1] * v for n, f in zip(normals, far, strict=True)])
        alpha = np.clip(inside * scale + 0.5, 0, 1)[..., None] * np.float32(self.look.opacity)
        zoom = (TEXELS / 2 - 1) / (self.size + length)
        at = [np.clip(a * zoom + TEXELS / 2, 0, TEXELS - 1).astype(np.intp) for a in (v, u)]
        light = 1 - np.float32(self.look.gloss) * (dx + dy) / np.float32(self.size + length)
        region = frame[y0:y1, x0:x1]
        region += alpha * (self.texture[at[0], at[1]] * light[..., None] - region)


@dataclass(frozen=True)
class Event:
    """One contact, or from `time` to `end` one sustained sound whose level follows a half sine."""

    time: float
    kind: str
    material: str
    size: float
    strength: float  # 0 to 1
    voice: int
    end: float = 0.0


@dataclass
class Stage:
    """The part of the picture that a scene may use, and what it has put there."""

    rng: np.random.Generator
    seconds: float
    left: float
    right: float
    ground: float
    floor: str = "floor"  # material of the ground
    width: float = 1.5  # of the whole picture
    shapes: list[Shape] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def add(self, material: str, size: float, sides: int = 0, look: Look | None = None, wide: float = 1.0) -> Shape:
        """A new shape in front of the others; sides 0 is a disc, 4 with `wide` a box. Its motion is set afterwards."""
        look, corners = look or LOOKS[material], None
        if sides:
            turn = 2 * pi * (np.arange(sides) + 0.5) / sides
            corners = np.stack([np.cos(turn) * wide, np.sin(turn)], 1)
            corners = (corners * size / np.hypot(*corners.T).max()).astype(np.float32)
        voice = int(self.rng.integers(1 << 30))
        self.shapes.append(Shape(material, size, look, paint(self.rng, look, TEXELS, TEXELS), voice, corners))
        return self.shapes[-1]

    def solid(self, low: float, high: float) -> Shape:
        """A disc, box or polygon of a random solid material and of a size between low and high."""
        high = min(high, (self.right - self.left) * 0.3)
        low, sides = min(low, high), int(self.rng.choice([0, 0, 3, 4, 4, 5, 6]))
        wide = self.rng.uniform(0.6, 1.8) if sides == 4 else 1.0
        return self.add(str(self.rng.choice(SOLIDS)), self.rng.uniform(low, high), sides, None, wide)

    def limb(self, thick: float, ends: Callable[[float], tuple[float, float, float, float]], look: Look) -> None:
        """A capsule between two moving points (x, y, x, y)."""

        def motion(t: float) -> Pose:
            ax, ay, bx, by = ends(t)
            return (ax + bx) / 2, (ay + by) / 2, float(np.arctan2(by - ay, bx - ax)), hypot(bx - ax, by - ay) / 2

        self.add("limb", thick, look=look).motion = motion

    def hit(self, time: float, kind: str, shape: Shape, strength: float, end: float = 0.0) -> None:
        if 0.03 <= time < self.seconds - 0.05 and strength >= 0.02:
            level = min(1.0, float(strength))
            self.events.append(Event(float(time), kind, shape.material, shape.size, level, shape.voice, end))

    def rhythm(self, low: float = 0.22, high: float = 1.3) -> tuple[Array, Array]:
        """Times of strikes, regular or not, with rests, and their strengths."""
        gap, loose = exp(self.rng.uniform(log(low), log(high))), self.rng.choice([0.02, 0.35])
        steps = gap * np.exp(self.rng.normal(0, loose, 64)) * self.rng.choice([1, 1, 1, 1, 1, 1, 2, 4], 64)
        times = self.rng.uniform(0.3, 1.2) + np.cumsum(np.maximum(steps, 0.15))
        return times[times < self.seconds - 0.1], self.rng.uniform(0.35, 1, 64)

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def lift(times: Array, heights: Array, fall: float, hold: float = 0.0) -> Path:
    """Height over a target that is struck at `times`: 0 then (and for `hold` after), up to heights[k] before hit k."""

    def height(t: float) -> float:
        k = int(np.searchsorted(times, t, "right"))
        after = t - times[k - 1] - hold if k else inf
        before = (times[k] - t) / fall if k < len(times) else inf
        down = 1 - (1 - before) ** 2 if before < 1 else 0.55 + 0.45 * exp(-3 * (before - 1))
        return float(heights[min(k, len(heights) - 1)]) * min(1 - exp(-max(after, 0.0) / 0.07), down)

    return height


def visits(times: Array, places: Array, stay: float) -> Path:
    """A coordinate that is places[k] at times[k] and for the share `stay` of the gap, and reaches the next in time."""
    if not len(times):
        return lambda t: float(places[0])
    gaps = np.diff(times, append=times[-1] + 1)
    knots = np.stack([times, times + stay * gaps], 1).ravel()
    values = np.repeat(places[: len(times)], 2)
    return lambda t: float(np.interp(t, knots, values))


def fly(s: Stage, shape: Shape, start: float, gravity: float, bounce: float) -> None:
    """Throw a shape that bounces on the ground and between the walls until it rests. Exact: the angle of every
    landing is chosen first, so the height of the centre at contact is known and the flight time solves a quadratic."""
    rng, r = s.rng, shape.size
    t, x, y = start, rng.uniform(s.left + r, s.right - r), -r - rng.uniform(0, 0.2)
    v, vx, tilt, edge = 0.0, rng.normal(0, 0.45), rng.normal(0, 0.7), int(rng.integers(8))
    angle = shape.flat(edge) + rng.normal(0, 2)
    knots, slides = [(t, y, v, angle)], [(t, x)]
    while (t < s.seconds and v >= 0.0) or len(knots) == 1:
        landing = shape.flat(edge) + (tilt if shape.corners is not None else angle + 4 * vx)
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
    times, heights, speeds, angles = np.array(knots).T
    when, where = np.array(slides).T

    def motion(t: float) -> Pose | None:
        k = min(int(np.searchsorted(times, t, "right")) - 1, len(times) - 1)
        if k < 0:
            return None
        rest = k == len(times) - 1
        fallen = 0.0 if rest else (gravity * (t - times[k]) / 2 - speeds[k]) * (t - times[k])
        return float(np.interp(t, when, where)), heights[k] + fallen, float(np.interp(t, times, angles)), 0.0

    shadow = s.add("shade", r * 0.35, look=SHADE)
    shadow.motion = lambda t: (p := motion(t)) and (p[0], s.ground + r * 0.1, 0.0, r * 0.7)
    s.shapes.append(s.shapes.pop(s.shapes.index(shape)))  # in front of its shadow
    shape.motion = motion


def bounce(s: Stage) -> None:
    gravity, spring = s.rng.uniform(2.5, 6), s.rng.uniform(0.35, 0.85)
    for x in (s.left - 0.012, s.right + 0.012):  # the walls
        s.limb(0.012, lambda t, x=x: (x, -0.2, x, s.ground), LOOKS[s.floor])
    for start in s.rng.uniform(0, s.seconds * 0.75, int(s.rng.integers(1, 6))):
        fly(s, s.solid(0.06, 0.19), start, gravity, spring)


def play(s: Stage, pads: list[Shape], kind: str, tool: str, gap: float = 0.0) -> None:
    """One or two tools go from pad to pad and hit each at an exact time; with a gap they stop short, in silence."""
    rng, look = s.rng, LOOKS["clap" if tool == "hand" else "metal" if tool == "knife" else "wood"]
    xs = np.linspace(s.left, s.right, len(pads) + 2)[1:-1] + rng.uniform(-0.03, 0.03, len(pads))
    tops = np.array([s.ground - p.depth(p.flat(0)) * 2 for p in pads])
    blows: list[list[tuple[float, float]]] = [[] for _ in pads]
    for _ in range(2 if len(pads) > 1 and rng.random() < 0.6 else 1):
        times, levels = s.rhythm()
        which = rng.integers(len(pads), size=max(1, len(times)))
        if tool == "knife":
            xs, which = s.middle + np.linspace(0.2, -0.2, len(times) + 1), np.arange(len(times) + 1)
            tops = np.full(len(xs), tops[0])
        across, over = visits(times, xs[which], 0.3), visits(times, tops[which], 0.3)
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
        pad.motion = shaken(place, float(s.ground + top) / 2, pad.flat(0), sorted(blow))


def shaken(x: float, y: float, angle: float, blows: list[tuple[float, float]]) -> Motion:
    """Stands still, and trembles after every blow (time, strength)."""
    times = np.array([b[0] for b in blows])

    def motion(t: float) -> Pose:
        k = int(np.searchsorted(times, t, "right")) - 1
        after = t - blows[k][0] if k >= 0 else inf
        return x, y + (0.012 * blows[k][1] * exp(-after / 0.09) * sin(55 * after) if after < 1 else 0.0), angle, 0.0

    return motion


def hammer(s: Stage, gap: float = 0.0) -> None:
    pad = s.add(str(s.rng.choice([*SOLIDS, "cajon"])), s.rng.uniform(0.13, 0.26), 4, None, s.rng.uniform(0.7, 2))
    play(s, [pad], "strike", str(s.rng.choice(["stick", "mallet", "hand"])), gap)


def drums(s: Stage) -> None:
    names = s.rng.permutation(["kick", "snare", "tom", "hihat", "cymbal", "cajon"])[: s.rng.integers(2, 6)]
    wide = {"kick": 1.1, "cajon": 0.8, "hihat": 3.5, "cymbal": 5.0}
    room = (s.right - s.left) / (len(names) + 1) * 0.6
    play(s, [s.add(str(n), min(0.2, room), 4, None, wide.get(str(n), 1.7)) for n in names], "drum", "stick")


def bars(s: Stage) -> None:
    name, n = str(s.rng.choice(["wood", "metal", "bell", "glass", "plastic"])), int(s.rng.integers(3, 7))
    pads = [s.add(name, size, 4, None, 1.4) for size in np.linspace(0.2, 0.07, n)]
    for pad in pads:
        pad.voice = pads[0].voice  # one instrument, tuned by size
    play(s, pads, "strike", "mallet")


def chop(s: Stage) -> None:
    play(s, [s.add("chop", 0.28, 4, None, s.rng.uniform(4, 8))], "chop", "knife")


def clap(s: Stage) -> None:
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
    room = max(0.1, s.right - s.left - 0.3)
    path = s.left + 0.15 + np.abs((rng.uniform(0, room) + stride * np.arange(len(times)) + room) % (2 * room) - room)
    shoe, voice = rng.uniform(0.022, 0.04), int(rng.integers(1 << 30))
    body = visits(times, path, 0.0)
    bob = lift(times, np.full(64, 0.03), gap * 0.6)
    s.limb(0.07, lambda t: (body(t), s.ground - height - bob(t), body(t), s.ground - height - 0.25 - bob(t)), look)
    for foot in (0, 1):
        mine, places = times[foot::2], path[foot::2] + (0 if stride else (foot - 0.5) * 0.12)
        if not len(mine):
            continue
        x, up = visits(mine, places, 0.5), lift(mine, np.full(64, rng.uniform(0.05, 0.13)), gap * 0.5, gap * 0.6)
        s.limb(0.032, lambda t, x=x, up=up: (body(t), s.ground - height - bob(t), x(t), s.ground - shoe - up(t)), look)
        shape = s.add(s.floor, shoe, look=Look((40, 30, 30), (90, 80, 70), vary=30))
        shape.motion, shape.voice = (lambda t, x=x, up=up: (x(t) + shoe, s.ground - shoe - up(t), 0.0, shoe)), voice
        for time in mine:
            s.hit(time, "step", shape, rng.uniform(0.4, 0.7))


def collide(s: Stage) -> None:
    """Two things slide into each other and part again, several times, with exact meeting times."""
    times, levels = s.rhythm(0.5, 1.6)
    for side in (-1, 1):
        shape = s.solid(0.1, 0.2)
        half = shape.depth(shape.flat(0) + pi / 2)  # to its side
        away = lift(times, levels * s.rng.uniform(0.1, 0.3), s.rng.uniform(0.15, 0.35))
        angle = shape.flat(0)
        y = s.ground - shape.depth(angle)
        shape.motion = lambda t, q=side, h=half, a=away, y=y, g=angle: (s.middle + q * (h + a(t)), y, g, 0.0)
    for time, level in zip(times, levels, strict=False):
        s.hit(time, "collide", shape, level)


def cradle(s: Stage) -> None:
    """A hanging ball swings against another one, or a wall: harmonic, so contacts are half a period apart."""
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
    """Something is pushed to and fro; it scrapes as loudly as it is fast (half sine)."""
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

    angle = shape.flat(0)
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
    """Pendulums in the air, and reeds that wave."""
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
    hammer(s, gap=s.rng.uniform(0.08, 0.15))


def still(s: Stage) -> None:
    for _ in range(int(s.rng.integers(0, 4))):
        shape = s.solid(0.06, 0.25)
        shape.motion = shaken(s.rng.uniform(s.left, s.right), s.ground - shape.depth(shape.flat(0)), shape.flat(0), [])


SCENES: dict[str, tuple[Callable[[Stage], None], float]] = {  # and how often each is drawn
    "bounce": (bounce, 3), "hammer": (hammer, 2.5), "drums": (drums, 3), "bars": (bars, 1), "chop": (chop, 1.2),
    "clap": (clap, 1.5), "walk": (walk, 2.5), "collide": (collide, 1.2), "cradle": (cradle, 1), "pile": (pile, 1.2),
    "slide": (slide, 1.5), "drift": (drift, 0.7), "sway": (sway, 0.7), "miss": (miss, 0.7), "still": (still, 0.6),
}  # fmt: skip
