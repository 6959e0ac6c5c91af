"""`World`: the plan of a scene before it is simulated, with its bodies, motions, planned events and view."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from train.synthetic.events import Event
from train.synthetic.scenes.motion import LEVEL, Path3, Pose, Vector, ease, strength_of, vec

STEP = 0.001  # seconds of simulation
STIFF = 500.0  # stiffness of contacts, rad/s
SOFTEST = 0.03  # weaker contacts are inaudible
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
    """The methods of train.synthetic.scenes.look.Looks that scenes use. Each returns a picture uint8 [H, W, 3]."""

    def material(self, rng: np.random.Generator, material: str, size: int = 64) -> NDArray[np.uint8]: ...
    def surface(self, rng: np.random.Generator, size: int = 128) -> NDArray[np.uint8]: ...
    def backdrop(self, rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Geom:
    """One shape of a body. Sizes are as in MJCF, in metres.

    Boxes and ellipsoids have half lengths; capsules and cylinders have a radius and a half length. Without a `colour`,
    the geom is painted with a look of its material; without a `material`, it has the body's.
    """

    shape: str
    size: tuple[float, ...]
    at: ArrayLike = (0.0, 0.0, 0.0)
    quat: ArrayLike = (1.0, 0.0, 0.0, 0.0)
    colour: tuple[float, float, float] | None = None
    material: str = ""


@dataclass
class Body:
    """One body of a scene. `pose` drives it along a plan; `free` leaves it to physics."""

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
    """A sudden change of a body's velocity at a planned time."""

    time: float
    body: Body
    change: Vector  # of the velocities: [6] for a free body, otherwise one per hinge


@dataclass(frozen=True)
class Hold:
    """Holds a free body until `time` and releases it with `speed` (m/s and rad/s).

    With `above`, the body is carried down from that height to its start; otherwise it is out of sight until then.
    """

    time: float
    body: Body
    start: Vector
    speed: Vector
    above: float  # metres; 0: out of sight

    def at(self, t: float) -> Vector:
        """The body's position [3] at time t, before it is released."""
        if not self.above:
            return self.start + vec(0, 0, 100 + self.body.voice * 5)
        return self.start + vec(0, 0, self.above * (1 - ease(1 + (t - self.time + 0.1) / 0.7)))


@dataclass(frozen=True)
class Frame:
    """What the camera must see: a sphere, inside the square that the encoders' centre crop keeps."""

    focus: Vector
    extent: float
    elevation: tuple[float, float]  # degrees, below 0 looks down
    swing: float  # degrees to either side


class World:
    """The plan of one scene. Kinds of scenes fill it; physics, render and compose read it.

    The camera looks along y, x is right, z is up, and the ground is z = 0. Units are metres and seconds.
    """

    def __init__(self, rng: np.random.Generator, looks: Textures, seconds: float) -> None:
        self.rng, self.looks, self.seconds = rng, looks, seconds
        self.bodies: list[Body] = []
        self.parts: list[str] = []  # MJCF elements of the worldbody
        self.assets: list[str] = []
        self.textures: dict[str, NDArray[np.uint8]] = {}
        self.kicks: list[Kick] = []
        self.holds: list[Hold] = []
        self.events: list[tuple[Event, Vector]] = []  # planned events and their positions
        self.frames: list[Frame] = []
        self.shift = np.zeros(3)
        self.ground = ""
        self.moving: Path3 | None = None  # motion of the camera, in units of its distance

    # ------------------------------------------------------------ place
    def frame(
        self, focus: ArrayLike, extent: float, elevation: tuple[float, float] = (-40, -6), swing: float = 35
    ) -> None:
        """Set what the camera must see. A second kind of scene is placed beside the first."""
        if self.frames:
            last = self.frames[-1]
            self.shift = vec(last.focus[0] + last.extent + extent * 0.9, 0, 0)
        self.frames.append(Frame(np.asarray(focus, float) + self.shift, extent, elevation, swing))

    def choose_ground(self, *materials: str) -> str:
        """Draw the ground's material, unless the first of two kinds has already chosen it."""
        self.ground = self.ground or str(self.rng.choice(materials or (*GROUNDS, "wood", "stone", "metal", "ceramic")))
        return self.ground

    # ------------------------------------------------------------ bodies
    def paint(self, material: str) -> str:
        """Make a new look of a material; returns the name of the MJCF material."""
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
                surface = f'rgba="{mjcf((*geom.colour, 1.0))}"'
            else:
                looks[material] = looks.get(material) or self.paint(material)
                surface = f'material="{looks[material]}"'
            text.append(
                f'<geom name="{body.name}.{k}" type="{geom.shape}" size="{mjcf(geom.size)}" '
                f'pos="{mjcf(geom.at)}" quat="{mjcf(geom.quat)}" density="{density}" {surface} {contacts} '
                f'{solref(material, body.free)} friction="{friction} 0.005 0.0005"/>'
            )
        return "".join(text)

    def _body(self, geoms: list[Geom], material: str, **facts: object) -> Body:
        size = 2 * max(max(geom.size) for geom in geoms)
        facts = {"size": size, "round": geoms[0].shape in ("sphere", "capsule", "cylinder", "ellipsoid")} | facts
        self.bodies.append(Body(f"b{len(self.bodies)}", material, len(self.bodies) + 1, **facts))  # type: ignore[arg-type]
        return self.bodies[-1]

    def free(self, geoms: list[Geom], material: str, at: ArrayLike, quat: Vector = LEVEL) -> Body:
        """Add a body that physics moves."""
        body = self._body(geoms, material, free=True, start=np.asarray(at, float) + self.shift)
        place = f'pos="{mjcf(body.start)}" quat="{mjcf(quat)}"'
        inside = self._geoms(body, geoms, 'contype="1" conaffinity="1" condim="4"')
        self.parts.append(f'<body name="{body.name}" {place}><freejoint name="{body.name}"/>{inside}</body>')
        return body

    def fixed(self, geoms: list[Geom], material: str, at: ArrayLike, quat: Vector = LEVEL, solid: bool = True) -> Body:
        """Add a body that never moves."""
        body = self._body(geoms, material)
        place = f'pos="{mjcf(np.asarray(at) + self.shift)}" quat="{mjcf(quat)}"'
        kind = f'contype="{int(solid)}" conaffinity="0" condim="4"'
        self.parts.append(f'<body name="{body.name}" {place}>{self._geoms(body, geoms, kind)}</body>')
        return body

    def sprung(self, geoms: list[Geom], material: str, at: ArrayLike, pace: float = 6.0, quat: Vector = LEVEL) -> Body:
        """Add a body that shakes when it is kicked: sprung hinges about x and y, with a frequency of `pace` Hz."""
        body = self._body(geoms, material)
        place = f'pos="{mjcf(np.asarray(at) + self.shift)}" quat="{mjcf(quat)}"'
        inside = self._geoms(body, geoms, 'contype="1" conaffinity="0"')
        spring = f'type="hinge" armature="1" stiffness="{(6.28 * pace) ** 2:.2f}" damping="{1.1 * pace:.2f}"'
        hinges = f'<joint name="{body.name}" axis="1 0 0" {spring}/><joint axis="0 1 0" {spring}/>'
        self.parts.append(f'<body name="{body.name}" gravcomp="1" {place}>{hinges}{inside}</body>')
        return body

    def driven(self, geoms: list[Geom], material: str, pose: Pose, solid: bool = False, size: float = 0.0) -> Body:
        """Add a body that follows a plan. Unless `solid`, it passes through others; its contacts are planned too."""
        shift = self.shift.copy()

        def placed(t: float) -> tuple[Vector, Vector]:
            at, quat = pose(t)
            return at + shift, quat

        body = self._body(geoms, material, pose=placed, solid=solid, **({"size": size} if size else {}))
        at, quat = placed(0.0)
        inside = self._geoms(body, geoms, f'contype="{int(solid)}" conaffinity="0"')
        place = f'pos="{mjcf(at)}" quat="{mjcf(quat)}"'
        self.parts.append(f'<body name="{body.name}" mocap="true" {place}>{inside}</body>')
        return body

    def hold(self, body: Body, time: float, speed: ArrayLike, above: float = 0.0) -> None:
        """Hold a free body until `time`; see Hold."""
        self.holds.append(Hold(time, body, body.start, np.asarray(speed, float), above))

    def kick(self, body: Body, time: float, change: ArrayLike) -> None:
        """Change a body's velocity at `time`; see Kick."""
        self.kicks.append(Kick(time, body, np.asarray(change, float)))

    # ------------------------------------------------------------ sound
    def add_event(self, event: Event, point: ArrayLike) -> None:
        """Plan an event at a point [3]. Events outside the clip and those too soft to be heard are dropped."""
        if 0.02 <= event.time < self.seconds - 0.03 and event.strength >= SOFTEST:
            self.events.append((event, np.asarray(point, float) + self.shift))

    def add_impact(self, time: float, kind: str, body: Body, other: str, speed: float, point: ArrayLike) -> None:
        """Plan the sound of `body` as it hits `other` (a material) at `speed` (m/s)."""
        event = Event(time, kind, body.material, body.size, strength_of(speed), body.voice, other=other)
        self.add_event(event, point)

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
        """A random colour of skin, or of a glove."""
        if self.chance(0.15):
            return self.colour()
        tone = self.between(0.25, 1.0)
        return 0.95 * tone, (0.78 - 0.1 * self.between(0, 1)) * tone**1.15, 0.62 * tone**1.35


def solref(material: str, free: bool) -> str:
    """The MJCF attribute that sets how a contact pushes back.

    MuJoCo uses the more damped of two materials. So a fixed body that is not soft damps hardly at all, and the body
    that falls on it decides the bounce.
    """
    restitution = MATTER.get(material, MATTER["plastic"])[1]
    log = np.log(restitution if free or restitution < 0.32 else 0.9)
    return f'solref="{-(STIFF**2):.0f} {2 * STIFF * log / np.hypot(np.pi, log):.2f}"'


def mjcf(values: ArrayLike) -> str:
    """Numbers as the text of an MJCF attribute."""
    return " ".join(f"{v:.6g}" for v in np.asarray(values, float).ravel())
