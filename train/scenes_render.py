"""From a world to pictures: its MJCF, the simulation with the contacts, the camera and the renderer."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, tan

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")  # each worker draws on one core

import mujoco
import numpy as np
from numpy.typing import NDArray

from train.scenes_contacts import Log
from train.scenes_motion import Path3, Vector, unit, vec, wander
from train.scenes_world import MATTER, STEP, Hold, World, numbers, push

CROP = 0.8  # of the short side: what the encoders' centre crops leave, less some shake


class RenderError(OSError):
    """MuJoCo cannot draw on this machine."""


@dataclass(frozen=True)
class Camera:
    """Where the camera is: angles in degrees, opening in degrees over the height of the picture."""

    focus: Vector
    distance: float
    azimuth: float
    elevation: float
    opening: float
    moving: Path3 | None = None  # of right, up and turn, in units of the distance

    def at(self, t: float) -> "mujoco.MjvCamera":
        camera = mujoco.MjvCamera()
        side = self.moving(t) if self.moving else np.zeros(3)
        camera.lookat = self.focus + vec(side[0], 0, side[1]) * self.distance
        camera.distance = self.distance
        camera.azimuth, camera.elevation = self.azimuth + 40 * side[2], self.elevation
        return camera

    def facts(self) -> dict[str, object]:
        """For the clip's JSON."""
        return {
            "focus": np.round(self.focus, 4).tolist(), "distance": self.distance, "azimuth": self.azimuth,
            "elevation": self.elevation, "opening": self.opening, "moving": self.moving is not None,
        }  # fmt: skip

    @property
    def forward(self) -> Vector:
        a, e = np.radians(self.azimuth), np.radians(self.elevation)
        return vec(np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e))

    def sees(self, point: Vector, width: int, height: int) -> bool:
        """Whether a point is inside the square in the middle of the picture."""
        ahead = self.forward
        right = unit(np.cross(ahead, [0, 0, 1]))
        ray = point - (self.focus - ahead * self.distance)
        depth = float(ray @ ahead)
        if depth <= 0:
            return False
        half = tan(np.radians(self.opening / 2)) * min(1.0, width / height)
        return max(abs(float(ray @ right)), abs(float(ray @ np.cross(right, ahead)))) < half * depth


def draw_camera(world: World, width: int, height: int) -> Camera:
    """A camera that sees all frames of a world inside the middle square of a picture of that shape."""
    rng, frames = world.rng, world.frames
    low = np.min([f.focus - f.extent for f in frames], axis=0)
    high = np.max([f.focus + f.extent for f in frames], axis=0)
    extent = float((high - low).max() / 2) if len(frames) > 1 else frames[0].extent
    opening = rng.uniform(28, 62)
    half = tan(np.radians(opening / 2)) * min(1.0, width / height)
    first = frames[0]
    elevation = rng.uniform(*first.elevation)
    shift = rng.uniform(-0.08, 0.08, 3) * extent * [1, 0, 1]
    distance = extent / (CROP * half) * rng.uniform(0.85, 1.1)
    focus = (low + high) / 2 + shift
    if focus[2] - distance * np.sin(np.radians(elevation)) < 0.05:  # under the ground
        elevation = -4.0
    return Camera(focus, distance, 90 + rng.uniform(-1, 1) * first.swing, elevation, opening, world.moving)


# ---------------------------------------------------------------- model
def lights(world: World, camera: Camera, shadow: bool) -> str:
    """One to three lamps about the scene, the first perhaps with shadows."""
    rng, text = world.rng, []
    for k in range(int(rng.integers(1, 4))):
        angle, high = rng.uniform(0, 2 * pi), rng.uniform(0.8, 2.5)
        spot = camera.focus + camera.distance * vec(np.cos(angle), np.sin(angle), high)
        warm, power = rng.uniform(0.75, 1.0, 3), rng.uniform(0.35, 0.9) / (1 + k)
        cast = "true" if shadow and k == 0 else "false"
        kind = "directional" if rng.random() < 0.6 else "spot"
        opening = ' cutoff="70" exponent="2"' if kind == "spot" else ""
        text.append(
            f'<light type="{kind}" pos="{numbers(spot)}" dir="{numbers(camera.focus - spot)}" castshadow="{cast}" '
            f'diffuse="{numbers(warm * power)}" specular="{numbers(warm * power * 0.5)}"{opening}/>'
        )
    return "".join(text)


def scenery(world: World, camera: Camera, width: int, height: int) -> str:
    """Sky, ground, and in most scenes a wall far behind, with textures of their own."""
    rng, looks = world.rng, world.looks
    sky = looks.backdrop(rng, 128, 128)
    world.textures["sky"] = np.tile(sky, (6, 1, 1))
    world.assets.append('<texture name="sky" type="skybox" builtin="flat" width="128" height="128"/>')
    world.textures["ground"] = looks.surface(rng, 128) if rng.random() < 0.4 else looks.material(rng, world.ground, 128)
    repeat = max(0.3, 1.0 / camera.distance * rng.uniform(0.5, 3))
    world.assets.append(
        '<texture name="ground" type="2d" builtin="flat" width="128" height="128"/>'
        f'<material name="ground" texture="ground" texuniform="true" texrepeat="{repeat:.3f} {repeat:.3f}" '
        f'specular="{MATTER[world.ground][3] * rng.uniform(0, 0.5):.3f}"/>'
    )
    text = (
        f'<geom name="ground" type="plane" size="0 0 1" material="ground" contype="1" conaffinity="0" condim="4" '
        f'{push(world.ground, False)} friction="{MATTER[world.ground][2]} 0.005 0.0003"/>'
    )
    if rng.random() < 0.75:
        ahead = unit(camera.forward * [1, 1, 0])
        far = camera.distance * rng.uniform(0.9, 2.5) + 0.5
        size = (camera.distance + far) * tan(np.radians(camera.opening / 2)) * max(1.0, width / height) * 1.6
        world.textures["wall"] = looks.backdrop(rng, 160, 240)
        world.assets.append(
            '<texture name="wall" type="2d" builtin="flat" width="240" height="160"/>'
            f'<material name="wall" texture="wall" emission="{rng.uniform(0.1, 0.6):.3f}" specular="0"/>'
        )
        at, right = camera.focus + ahead * far, np.cross(ahead, [0, 0, 1])
        at[2] = 0.55 * size
        text += (
            f'<geom type="plane" size="{size:.4f} {size * 0.67:.4f} 1" pos="{numbers(at)}" material="wall" '
            f'xyaxes="{numbers(right)} 0 0 1" contype="0" conaffinity="0"/>'
        )
    return text


def compile_world(world: World, camera: Camera, width: int, height: int, shadow: bool) -> "mujoco.MjModel":
    """The MuJoCo model of a world, with its textures, for pictures of that shape."""
    rng = world.rng
    outside = scenery(world, camera, width, height)
    ambient, head = rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.45)
    model = mujoco.MjModel.from_xml_string(f"""<mujoco>
      <option timestep="{STEP}" cone="elliptic" integrator="implicitfast" iterations="20"/>
      <size memory="40M"/>
      <statistic center="{numbers(camera.focus)}" extent="{camera.distance:.4f}"/>
      <visual><global fovy="{camera.opening:.3f}"/>
        <quality shadowsize="512" offsamples="0" numslices="16" numstacks="10"/>
        <headlight ambient="{numbers([ambient] * 3)}" diffuse="{numbers([head] * 3)}" specular="0.1 0.1 0.1"/>
        <map znear="0.02" zfar="40" fogstart="{rng.uniform(0.8, 1.2):.2f}" fogend="{rng.uniform(2.5, 6):.2f}"/>
        <rgba fog="{numbers([*rng.uniform(0.4, 0.95, 3), 1])}"/></visual>
      <asset>{"".join(world.assets)}</asset>
      <worldbody>{lights(world, camera, shadow)}{outside}{"".join(world.parts)}</worldbody></mujoco>""")
    for name, pixels in world.textures.items():
        k = model.texture(name).id
        start = model.tex_adr[k]
        model.tex_data[start : start + pixels.size] = pixels.ravel()
    return model


# ---------------------------------------------------------------- simulation
@dataclass
class States:
    """Positions at the film's times: of the joints [T, nq]."""

    joints: list[NDArray[np.float64]]


def drive(world: World, data: "mujoco.MjData", t: float, solid: bool) -> None:
    """Put the driven bodies where they are at t; with `solid`, only those that push."""
    slot = 0
    for body in world.bodies:
        if body.pose:
            if body.solid or not solid:
                data.mocap_pos[slot], data.mocap_quat[slot] = body.pose(t)
            slot += 1


def held(hold: Hold, joint: object, data: "mujoco.MjData", t: float) -> bool:
    """Keep a body where its hand has it, or let it go at its time."""
    position, velocity = joint.qposadr[0], joint.dofadr[0]  # type: ignore[attr-defined]
    waits = t < hold.time
    data.qpos[position : position + 3] = hold.at(t) if waits else hold.start
    data.qvel[velocity : velocity + 6] = 0 if waits else hold.speed
    return waits


def simulate(world: World, model: "mujoco.MjModel", times: list[float]) -> tuple[States, Log]:
    """Run the physics to the end of the clip; what is seen at `times`, and all contacts of free bodies."""
    data = mujoco.MjData(model)
    free = {k: model.joint(b.name) for k, b in enumerate(world.bodies) if b.free}
    holds = [(hold, model.joint(hold.body.name)) for hold in world.holds]
    kicks = sorted(world.kicks, key=lambda kick: kick.time)
    solids = any(body.solid and body.pose for body in world.bodies)
    owner = np.full(model.nbody, -1)
    for k, body in enumerate(world.bodies):
        owner[model.body(body.name).id] = k
    of_geom = owner[model.geom_bodyid]
    steps, states, rows, speeds = round(world.seconds / STEP), States([]), [], []
    for step in range(steps):
        t = step * STEP
        holds = [pair for pair in holds if held(*pair, data, t)]
        while len(states.joints) < len(times) and times[len(states.joints)] <= t + STEP / 2:
            states.joints.append(data.qpos.copy())
        while kicks and kicks[0].time <= t:
            kick = kicks.pop(0)
            start = model.joint(kick.body.name).dofadr[0]
            data.qvel[start : start + len(kick.change)] += kick.change
        if solids:
            drive(world, data, t, True)
        if model.nv:
            speeds.append(data.qvel.copy())
            mujoco.mj_step(model, data)
            if data.ncon and free:
                touch = data.contact
                pushing = np.flatnonzero(touch.efc_address >= 0)
                address = touch.efc_address[pushing]
                rows.append((step, of_geom[touch.geom[pushing]], data.efc_force[address], touch.pos[pushing]))
    states.joints += [data.qpos.copy()] * (len(times) - len(states.joints))
    return states, log_of(rows, speeds, model, free)


def log_of(rows: list, speeds: list, model: "mujoco.MjModel", free: dict) -> Log:
    history = np.array(speeds) if speeds else np.zeros((0, 0))
    mass = {k: float(model.body_mass[joint_body(model, j)]) for k, j in free.items()}
    return Log(
        np.concatenate([np.full(len(r[1]), r[0]) for r in rows]) if rows else np.zeros(0, np.int64),
        np.sort(np.concatenate([r[1] for r in rows]), axis=1) if rows else np.zeros((0, 2), np.int64),
        np.concatenate([r[2] for r in rows]) if rows else np.zeros(0),
        np.concatenate([r[3] for r in rows]) if rows else np.zeros((0, 3)),
        mass,
        {k: history[:, j.dofadr[0] : j.dofadr[0] + 6] for k, j in free.items()},
    )


def joint_body(model: "mujoco.MjModel", joint: object) -> int:
    return int(model.jnt_bodyid[joint.id])  # type: ignore[attr-defined]


# ---------------------------------------------------------------- pictures
def renderer(model: "mujoco.MjModel", width: int, height: int) -> "mujoco.Renderer":
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:
        raise RenderError(
            f"MuJoCo cannot draw with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}); install Debian's libegl1 and "
            "libgl1-mesa-dri, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error


def check_renderer() -> None:
    """Raise RenderError if nothing can be drawn here."""
    renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 16, 16).close()


def pictures(
    world: World, model: "mujoco.MjModel", camera: Camera, shape: tuple[int, int], states: States, times: list[float]
) -> Iterator[NDArray[np.uint8]]:
    """The canvases [height, width, 3] at the times. The shape is width and height."""
    data = mujoco.MjData(model)
    fog = world.rng.random() < 0.06
    with renderer(model, *shape) as draw:
        model.vis.global_.offwidth, model.vis.global_.offheight = shape
        flags = draw.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        flags[mujoco.mjtRndFlag.mjRND_HAZE] = 0
        flags[mujoco.mjtRndFlag.mjRND_FOG] = fog
        for t, joints in zip(times, states.joints, strict=True):
            data.qpos[:] = joints
            drive(world, data, t, False)
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            draw.update_scene(data, camera.at(t))
            yield draw.render().copy()


def walking(rng: np.random.Generator, pace: float) -> Path3:
    """A hand-held or walking camera: right, up and turn, in shares of the distance."""
    sway = wander(rng, 0.02, 0.3)
    bob = rng.uniform(0.004, 0.015)
    return lambda t: sway(t) + bob * vec(np.sin(pi * pace * t), abs(np.sin(pi * pace * t)), 0)
