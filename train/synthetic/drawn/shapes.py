"""What a drawn clip shows: looks of materials, shapes and their motion, and the `Stage` that scenes fill.

Lengths are in frame heights, y points down, times are in seconds, speeds in heights per second. Motions meet their
contact times exactly; times are never rounded to frames.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, exp, hypot, inf, log, pi, sin

import numpy as np
from numpy.typing import NDArray

from engines.length_adapter import interpolation_matrix
from train.synthetic.events import Event

Array = NDArray[np.float32]
Pose = tuple[float, float, float, float]  # x, y, angle, half length (0 unless it is a capsule)
Motion = Callable[[float], Pose | None]  # time -> pose; None: not in the picture
Path = Callable[[float], float]
Colour = tuple[int, int, int]
TEXELS = 48  # side of a shape's texture


@dataclass(frozen=True)
class Look:
    """How a material looks. Its name is also that of the group of recordings that it sounds like."""

    colour: Colour
    second: Colour
    pattern: str = "noise"
    gloss: float = 0.25
    opacity: float = 1.0
    vary: float = 18.0  # standard deviation of the colour from object to object


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
SHADOW = Look((12, 12, 16), (12, 12, 16), "plain", 0.0, 0.35, 0.0)


def pattern(rng: np.random.Generator, kind: str, height: int, width: int) -> Array:
    """A random pattern of one kind: weights [height, width] in [0, 1] that blend two colours."""
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
    """The texture [height, width, 3] of one object with this look, 0 to 255."""
    first, second = np.array([look.colour, look.second], np.float32) + rng.normal(0, look.vary, (2, 3))
    weight = pattern(rng, look.pattern, height, width)[..., None]
    grain = rng.normal(0, look.vary / 4, (height, width, 1))
    return np.clip(first + weight * (second - first) + grain, 0, 255).astype(np.float32)


@dataclass(eq=False)
class Shape:
    """A convex polygon, or with `corners` None a disc or capsule, and the material that it sounds like."""

    material: str
    size: float  # radius; for a polygon, of its circumscribed circle
    look: Look
    texture: Array  # [TEXELS, TEXELS, 3]
    voice: int = 0  # number of the object; it decides which recordings the object sounds like
    corners: Array | None = None  # [E, 2] clockwise on the screen
    motion: Motion = lambda t: None

    def depth(self, angle: float) -> float:
        """Distance from the centre down to the lowest point at this angle."""
        if self.corners is None:
            return self.size
        return float(np.max(self.corners @ np.array([sin(angle), cos(angle)])))

    def resting_angle(self, edge: int) -> float:
        """The angle at which this edge lies on the ground; 0 for a disc."""
        if self.corners is None:
            return 0.0
        a, b = self.corners[edge % len(self.corners)], self.corners[(edge + 1) % len(self.corners)]
        return pi - float(np.arctan2(b[1] - a[1], b[0] - a[0]))

    def draw(self, frame: Array, t: float, view: tuple[float, float, float]) -> None:
        """Blend the shape at time t into frame [H, W, 3], in place.

        `view` is the frame's left and top in the world, and its pixels per frame height.
        """
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


@dataclass
class Stage:
    """The part of the picture that a scene may use, and the shapes and events that it has added."""

    rng: np.random.Generator
    seconds: float
    left: float
    right: float
    ground: float
    floor: str = "floor"  # material of the ground
    width: float = 1.5  # width of the whole picture
    shapes: list[Shape] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def add(self, material: str, size: float, sides: int = 0, look: Look | None = None, wide: float = 1.0) -> Shape:
        """Add a shape in front of the others. 0 sides make a disc, 4 sides with `wide` a box.

        The caller sets the shape's motion.
        """
        look, corners = look or LOOKS[material], None
        if sides:
            turn = 2 * pi * (np.arange(sides) + 0.5) / sides
            corners = np.stack([np.cos(turn) * wide, np.sin(turn)], 1)
            corners = (corners * size / np.hypot(*corners.T).max()).astype(np.float32)
        voice = int(self.rng.integers(1 << 30))
        self.shapes.append(Shape(material, size, look, paint(self.rng, look, TEXELS, TEXELS), voice, corners))
        return self.shapes[-1]

    def solid(self, low: float, high: float) -> Shape:
        """Add a disc, box or polygon of a random solid material, with a size between low and high."""
        high = min(high, (self.right - self.left) * 0.3)
        low, sides = min(low, high), int(self.rng.choice([0, 0, 3, 4, 4, 5, 6]))
        wide = self.rng.uniform(0.6, 1.8) if sides == 4 else 1.0
        return self.add(str(self.rng.choice(SOLIDS)), self.rng.uniform(low, high), sides, None, wide)

    def limb(self, thick: float, ends: Callable[[float], tuple[float, float, float, float]], look: Look) -> None:
        """Add a capsule between two moving points: `ends` maps time to (x, y, x, y)."""

        def motion(t: float) -> Pose:
            ax, ay, bx, by = ends(t)
            return (ax + bx) / 2, (ay + by) / 2, float(np.arctan2(by - ay, bx - ax)), hypot(bx - ax, by - ay) / 2

        self.add("limb", thick, look=look).motion = motion

    def hit(self, time: float, kind: str, shape: Shape, strength: float, end: float = 0.0) -> None:
        """Add an event of this shape, unless it lies outside the clip or is too soft to be heard."""
        if 0.03 <= time < self.seconds - 0.05 and strength >= 0.02:
            level = min(1.0, float(strength))
            self.events.append(Event(float(time), kind, shape.material, shape.size, level, shape.voice, end))

    def rhythm(self, low: float = 0.22, high: float = 1.3) -> tuple[Array, Array]:
        """Random times of strikes, regular or irregular, with rests; and 64 strengths, one for each strike."""
        gap, loose = exp(self.rng.uniform(log(low), log(high))), self.rng.choice([0.02, 0.35])
        steps = gap * np.exp(self.rng.normal(0, loose, 64)) * self.rng.choice([1, 1, 1, 1, 1, 1, 2, 4], 64)
        times = self.rng.uniform(0.3, 1.2) + np.cumsum(np.maximum(steps, 0.15))
        return times[times < self.seconds - 0.1], self.rng.uniform(0.35, 1, 64)

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def lift(times: Array, heights: Array, fall: float, hold: float = 0.0) -> Path:
    """Height over a target that is struck at `times`.

    It is 0 at each strike and for `hold` seconds after it. Before strike k it rises to at most heights[k], and it
    falls in the last `fall` seconds.
    """

    def height(t: float) -> float:
        k = int(np.searchsorted(times, t, "right"))
        after = t - times[k - 1] - hold if k else inf
        before = (times[k] - t) / fall if k < len(times) else inf
        down = 1 - (1 - before) ** 2 if before < 1 else 0.55 + 0.45 * exp(-3 * (before - 1))
        return float(heights[min(k, len(heights) - 1)]) * min(1 - exp(-max(after, 0.0) / 0.07), down)

    return height


def stops(times: Array, places: Array, stay: float) -> Path:
    """A coordinate that is places[k] at times[k]. It stays there for the share `stay` of each gap, then moves on."""
    if not len(times):
        return lambda t: float(places[0])
    gaps = np.diff(times, append=times[-1] + 1)
    knots = np.stack([times, times + stay * gaps], 1).ravel()
    values = np.repeat(places[: len(times)], 2)
    return lambda t: float(np.interp(t, knots, values))


def trembling(x: float, y: float, angle: float, blows: list[tuple[float, float]]) -> Motion:
    """The motion of something that stands still, and trembles after every blow (time, strength)."""
    times = np.array([b[0] for b in blows])

    def motion(t: float) -> Pose:
        k = int(np.searchsorted(times, t, "right")) - 1
        after = t - blows[k][0] if k >= 0 else inf
        return x, y + (0.012 * blows[k][1] * exp(-after / 0.09) * sin(55 * after) if after < 1 else 0.0), angle, 0.0

    return motion
