"""A scene before it is simulated: bodies, what moves them, what they will sound like, and where the camera is."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from train.synthetic.events import Event
from train.synthetic.scenes.motion import LEVEL, Path3, Pose, Vector, ease, strength_of, vec

STEP = 0.001  # seconds of simulation
STIFF = 500.0  # rad/s: how fast contacts push back
SOFTEST = 0.03  # strength below which a contact is not heard
# Material: density in kg/m3, restitution, friction, specular
MATTER = {
    "wood": (600, 0.45, 0.6, 0.2), "metal": (5000, 0.5, 0.4, 0.8), "glass": (2500, 0.55, 0.35, 1.0),
    "stone": (2600, 0.35, 0.7, 0.1), "ceramic": (2200, 0.5, 0.45, 0.7), "plastic": (950, 0.6, 0.4, 0.5),
    "soft": (300, 0.12, 0.9, 0.0), "rubber": (1100, 0.82, 0.9, 0.2), "cardboard": (250, 0.25, 0.6, 0.0),
    "card": (400, 0.15, 0.4, 0.2), "chip": (1200, 0.4, 0.35, 0.4), "bell": (7000, 0.5, 0.4, 0.9),
    "boards": (700, 0.8, 0.6, 0.2), "floor": (2400, 0.85, 0.7, 0.1), "grass": (1000, 0.2, 0.9, 0.0),
    "snow": (300, 0.1, 0.6, 0.1), "carpet": (300, 0.3, 0.9, 0.0), "grating": (4000, 0.8, 0.6, 0.6),
}  # fmt: skip
GROUNDS = ("boards", "floor", "grass", "snow", "carpet", "grating")
SOLIDS = ("wood", "metal", "glass", "stone", "ceramic", "plastic", "soft", "rubber", "cardboard", "bell", "chip")


class Textures(Protocol):
    """What the scenes need of train.synthetic.scenes.look.Looks: pictures uint8 [H, W, 3]."""

    def material(self, rng: np.random.Generator, material: str, size: int = 64) -> NDArray[np.uint8]: ...
    def surface(self, rng: np.random.Generator, size: int = 128) -> NDArray[np.uint8]: ...
    def backdrop(self, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Geom:
    """One shape of a body. Size as in MJCF: half lengths in metres, and of capsules and cylinders radius, half length.
    Paint is the body's material unless it is a colour."""

    shape: str
    size: tuple[float, ...]
    at: ArrayLike = (0.0, 0.0, 0.0)
    quat: ArrayLike = (1.0, 0.0, 0.0, 0.0)
    colour: tuple[float, float, float] | None = None
    material: str = ""


@dataclass
class Body:
    name: str
    material: str
    voice: int
    size: float
    free: bool = False
    round: bool = False
    pose: Pose | None = None  # of a driven body
    solid: bool = False  # driven, and pushes free bodies
    start: Vector = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Kick:
    """A sudden change of speed of a free or hinged body at a moment that was planned."""

    time: float
    body: Body
    change: Vector  # of its velocities: 6 of a free body, else one for each hinge


@dataclass(frozen=True)
class Hold:
    """A free body is not let go before `time`; carried, it comes down from above to where it starts, else it is away
    until then. Speed is what it has when it is let go, m/s and rad/s."""

    time: float
    body: Body
    start: Vector
    speed: Vector
    above: float  # metres; 0: away

    def at(self, t: float) -> Vector:
        if not self.above:
            return self.start + vec(0, 0, 100 + self.body.voice * 5)
        return self.start + vec(0, 0, self.above * (1 - ease(1 + (t - self.time + 0.1) / 0.7)))


@dataclass(frozen=True)
class Frame:
    """What must be seen: a ball about a point, inside the square that the encoders' centre crop leaves."""

    focus: Vector
    extent: float
    elevation: tuple[float, float]  # degrees, below 0 looks down
    swing: float  # degrees to either side


class World:
    """Local axes: the camera looks along y, x is right, z is up, the ground is z = 0. Metres and seconds."""

    def __init__(self, rng: np.random.Generator, looks: Textures, seconds: float) -> None:
        self.rng, self.looks, self.seconds = rng, looks, seconds
        self.bodies: list[Body] = []
        self.parts: list[str] = []  # of the MJCF's worldbody
        self.assets: list[str] = []
        self.textures: dict[str, NDArray[np.uint8]] = {}
        self.kicks: list[Kick] = []
        self.holds: list[Hold] = []
        self.events: list[tuple[Event, Vector]] = []  # planned ones, and where
        self.frames: list[Frame] = []
        self.shift = np.zeros(3)
        self.ground = ""
        self.moving: Path3 | None = None  # of the camera, in units of the frame's extent

    # ------------------------------------------------------------ place
    def frame(
        self, focus: ArrayLike, extent: float, elevation: tuple[float, float] = (-40, -6), swing: float = 35
    ) -> None:
        """Say what must be seen. A second kind of the same scene is put beside the first."""
        if self.frames:
            last = self.frames[-1]
            self.shift = vec(last.focus[0] + last.extent + extent * 0.9, 0, 0)
        self.frames.append(Frame(np.asarray(focus, float) + self.shift, extent, elevation, swing))

    def stand(self, *materials: str) -> str:
        """The ground's material: of the first kind of scene that asks."""
        self.ground = self.ground or str(self.rng.choice(materials or (*GROUNDS, "wood", "stone", "metal", "ceramic")))
        return self.ground

    # ------------------------------------------------------------ bodies
    def paint(self, material: str) -> str:
        """A new look of a material; the name of the MJCF material."""
        name, rng = f"look{len(self.textures)}", self.rng
        self.textures[name] = np.tile(self.looks.material(rng, material, 64), (6, 1, 1))
        shine = MATTER[material][3] if material in MATTER else 0.3
        alpha = rng.uniform(0.35, 0.9) if material == "glass" and rng.random() < 0.7 else 1.0
        self.assets.append(f'<texture name="{name}" type="cube" builtin="flat" width="64" height="64"/>')
        self.assets.append(
            f'<material name="{name}" texture="{name}" specular="{shine * rng.uniform(0.3, 1):.3f}" '
            f'shininess="{rng.uniform(0.1, 0.9):.3f}" rgba="1 1 1 {alpha:.3f}" '
            f'emission="{rng.uniform(0, 0.15):.3f}"/>'
        )
        return name

    def _geoms(self, body: Body, geoms: list[Geom], contacts: str) -> str:
        text, looks = [], {}
        for k, geom in enumerate(geoms):
            material = geom.material or body.material
            density, _, friction, _ = MATTER.get(material, MATTER["plastic"])
            if geom.colour:
                surface = f'rgba="{numbers((*geom.colour, 1.0))}"'
            else:
                looks[material] = looks.get(material) or self.paint(material)
                surface = f'material="{looks[material]}"'
            text.append(
                f'<geom name="{body.name}.{k}" type="{geom.shape}" size="{numbers(geom.size)}" '
                f'pos="{numbers(geom.at)}" quat="{numbers(geom.quat)}" density="{density}" {surface} {contacts} '
                f'{push(material, body.free)} friction="{friction} 0.005 0.0005"/>'
            )
        return "".join(text)

    def _body(self, geoms: list[Geom], material: str, **facts: object) -> Body:
        size = 2 * max(max(geom.size) for geom in geoms)
        facts = {"size": size, "round": geoms[0].shape in ("sphere", "capsule", "cylinder", "ellipsoid")} | facts
        self.bodies.append(Body(f"b{len(self.bodies)}", material, len(self.bodies) + 1, **facts))  # type: ignore[arg-type]
        return self.bodies[-1]

    def free(self, geoms: list[Geom], material: str, at: ArrayLike, quat: Vector = LEVEL) -> Body:
        """A body that moves by the laws of physics."""
        body = self._body(geoms, material, free=True, start=np.asarray(at, float) + self.shift)
        place = f'pos="{numbers(body.start)}" quat="{numbers(quat)}"'
        inside = self._geoms(body, geoms, 'contype="1" conaffinity="1" condim="4"')
        self.parts.append(f'<body name="{body.name}" {place}><freejoint name="{body.name}"/>{inside}</body>')
        return body

    def fixed(self, geoms: list[Geom], material: str, at: ArrayLike, quat: Vector = LEVEL, solid: bool = True) -> Body:
        """A body that never moves."""
        body = self._body(geoms, material)
        place = f'pos="{numbers(np.asarray(at) + self.shift)}" quat="{numbers(quat)}"'
        kind = f'contype="{int(solid)}" conaffinity="0" condim="4"'
        self.parts.append(f'<body name="{body.name}" {place}>{self._geoms(body, geoms, kind)}</body>')
        return body

    def sprung(self, geoms: list[Geom], material: str, at: ArrayLike, pace: float = 6.0, quat: Vector = LEVEL) -> Body:
        """A body that shakes about its place when it is kicked: hinges about x and y, `pace` in Hz."""
        body = self._body(geoms, material)
        place = f'pos="{numbers(np.asarray(at) + self.shift)}" quat="{numbers(quat)}"'
        inside = self._geoms(body, geoms, 'contype="1" conaffinity="0"')
        spring = f'type="hinge" armature="1" stiffness="{(6.28 * pace) ** 2:.2f}" damping="{1.1 * pace:.2f}"'
        hinges = f'<joint name="{body.name}" axis="1 0 0" {spring}/><joint axis="0 1 0" {spring}/>'
        self.parts.append(f'<body name="{body.name}" gravcomp="1" {place}>{hinges}{inside}</body>')
        return body

    def driven(self, geoms: list[Geom], material: str, pose: Pose, solid: bool = False, size: float = 0.0) -> Body:
        """A body that follows a plan. Unless solid, it passes through others: what it touches is planned too."""
        shift = self.shift.copy()

        def placed(t: float) -> tuple[Vector, Vector]:
            at, quat = pose(t)
            return at + shift, quat

        body = self._body(geoms, material, pose=placed, solid=solid, **({"size": size} if size else {}))
        at, quat = placed(0.0)
        inside = self._geoms(body, geoms, f'contype="{int(solid)}" conaffinity="0"')
        place = f'pos="{numbers(at)}" quat="{numbers(quat)}"'
        self.parts.append(f'<body name="{body.name}" mocap="true" {place}>{inside}</body>')
        return body

    def hold(self, body: Body, time: float, speed: ArrayLike, above: float = 0.0) -> None:
        self.holds.append(Hold(time, body, body.start, np.asarray(speed, float), above))

    def shove(self, body: Body, time: float, change: ArrayLike) -> None:
        self.kicks.append(Kick(time, body, np.asarray(change, float)))

    # ------------------------------------------------------------ sound
    def sound(self, event: Event, point: ArrayLike) -> None:
        """A planned event at a point; those outside of the clip or too soft are not heard."""
        if 0.02 <= event.time < self.seconds - 0.03 and event.strength >= SOFTEST:
            self.events.append((event, np.asarray(point, float) + self.shift))

    def hit(self, time: float, kind: str, body: Body, other: str, speed: float, point: ArrayLike) -> None:
        """A planned contact: `body` is heard."""
        event = Event(time, kind, body.material, body.size, strength_of(speed), body.voice, other=other)
        self.sound(event, point)

    # ------------------------------------------------------------ chance
    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *names: str) -> str:
        return str(self.rng.choice(names))

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def colour(self) -> tuple[float, float, float]:
        r, g, b = self.rng.uniform(0.05, 0.95, 3)
        return float(r), float(g), float(b)

    def skin(self) -> tuple[float, float, float]:
        """A colour of skin, or of a glove."""
        if self.chance(0.15):
            return self.colour()
        tone = self.between(0.25, 1.0)
        return 0.95 * tone, (0.78 - 0.1 * self.between(0, 1)) * tone**1.15, 0.62 * tone**1.35


def push(material: str, free: bool) -> str:
    """How a contact pushes back, in MJCF. Of two materials MuJoCo takes the one that damps more, so what stands still
    leaves the bounce to what falls on it unless it is soft."""
    restitution = MATTER.get(material, MATTER["plastic"])[1]
    log = np.log(restitution if free or restitution < 0.32 else 0.9)
    return f'solref="{-(STIFF**2):.0f} {2 * STIFF * log / np.hypot(np.pi, log):.2f}"'


def numbers(values: ArrayLike) -> str:
    return " ".join(f"{v:.6g}" for v in np.asarray(values, float).ravel())
