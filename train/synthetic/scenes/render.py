"""Draws a world: its camera, its MuJoCo model (MJCF) with lights and scenery, and its pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, tan

import numpy as np
from numpy.typing import NDArray

from train.synthetic.scenes.gl import Drawing, mujoco
from train.synthetic.scenes.motion import Path3, Vector, unit, vec, view_direction, wander
from train.synthetic.scenes.physics import States, set_driven_poses
from train.synthetic.scenes.world import MATTER, STEP, World, mjcf, solref

CROP = 0.8  # share of the short side that the encoders' centre crops keep, less some room for shake


@dataclass(frozen=True)
class Camera:
    """The camera's position and angles, in metres and degrees. `opening` is its vertical field of view."""

    focus: Vector
    distance: float
    azimuth: float
    elevation: float
    opening: float
    moving: Path3 | None = None  # time -> right, up and turn, in units of the distance

    def at(self, t: float) -> "mujoco.MjvCamera":
        """MuJoCo's camera at time t."""
        camera = mujoco.MjvCamera()
        side = self.moving(t) if self.moving else np.zeros(3)
        camera.lookat = self.focus + vec(side[0], 0, side[1]) * self.distance
        camera.distance = self.distance
        camera.azimuth, camera.elevation = self.azimuth + 40 * side[2], self.elevation
        return camera

    def to_dict(self) -> dict[str, object]:
        """The camera's entry in ID.json."""
        return {
            "focus": np.round(self.focus, 4).tolist(), "distance": self.distance, "azimuth": self.azimuth,
            "elevation": self.elevation, "opening": self.opening, "moving": self.moving is not None,
        }  # fmt: skip

    @property
    def forward(self) -> Vector:
        return view_direction(self.azimuth, self.elevation)

    def sees(self, point: Vector, width: int, height: int) -> bool:
        """Whether a point [3] lies inside the square in the middle of the picture."""
        forward = self.forward
        right = unit(np.cross(forward, [0, 0, 1]))
        ray = point - (self.focus - forward * self.distance)
        depth = float(ray @ forward)
        if depth <= 0:
            return False
        half = tan(np.radians(self.opening / 2)) * min(1.0, width / height)
        return max(abs(float(ray @ right)), abs(float(ray @ np.cross(right, forward)))) < half * depth


def draw_camera(world: World, width: int, height: int) -> Camera:
    """Draw a camera that sees all frames of a world inside the middle square of a picture of this size."""
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
    """MJCF of one to three lamps around the scene. With `shadow`, the first one casts shadows."""
    rng, text = world.rng, []
    for k in range(int(rng.integers(1, 4))):
        angle, high = rng.uniform(0, 2 * pi), rng.uniform(0.8, 2.5)
        spot = camera.focus + camera.distance * vec(np.cos(angle), np.sin(angle), high)
        warm, power = rng.uniform(0.75, 1.0, 3), rng.uniform(0.35, 0.9) / (1 + k)
        cast = "true" if shadow and k == 0 else "false"
        kind = "directional" if rng.random() < 0.6 else "spot"
        opening = ' cutoff="70" exponent="2"' if kind == "spot" else ""
        text.append(
            f'<light type="{kind}" pos="{mjcf(spot)}" dir="{mjcf(camera.focus - spot)}" castshadow="{cast}" '
            f'diffuse="{mjcf(warm * power)}" specular="{mjcf(warm * power * 0.5)}"{opening}/>'
        )
    return "".join(text)


def scenery(world: World, camera: Camera, width: int, height: int) -> str:
    """MJCF of sky, ground, and in most scenes a wall far behind. Adds their textures to the world."""
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
        f'{solref(world.ground, False)} friction="{MATTER[world.ground][2]} 0.005 0.0003"/>'
    )
    if rng.random() < 0.75:
        away = unit(camera.forward * [1, 1, 0])
        far = camera.distance * rng.uniform(0.9, 2.5) + 0.5
        size = (camera.distance + far) * tan(np.radians(camera.opening / 2)) * max(1.0, width / height) * 1.6
        world.textures["wall"] = looks.backdrop(rng, 160, 240)
        world.assets.append(
            '<texture name="wall" type="2d" builtin="flat" width="240" height="160"/>'
            f'<material name="wall" texture="wall" emission="{rng.uniform(0.1, 0.6):.3f}" specular="0"/>'
        )
        at, right = camera.focus + away * far, np.cross(away, [0, 0, 1])
        at[2] = 0.55 * size
        text += (
            f'<geom type="plane" size="{size:.4f} {size * 0.67:.4f} 1" pos="{mjcf(at)}" material="wall" '
            f'xyaxes="{mjcf(right)} 0 0 1" contype="0" conaffinity="0"/>'
        )
    return text


def compile_world(world: World, camera: Camera, width: int, height: int, shadow: bool) -> "mujoco.MjModel":
    """The MuJoCo model of a world, with its textures, for pictures of this size."""
    rng = world.rng
    outside = scenery(world, camera, width, height)
    ambient, head = rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.45)
    model = mujoco.MjModel.from_xml_string(f"""<mujoco>
      <option timestep="{STEP}" cone="elliptic" integrator="implicitfast" iterations="20"/>
      <size memory="40M"/>
      <statistic center="{mjcf(camera.focus)}" extent="{camera.distance:.4f}"/>
      <visual><global fovy="{camera.opening:.3f}" offwidth="{width}" offheight="{height}"/>
        <quality shadowsize="512" offsamples="0" numslices="16" numstacks="10"/>
        <headlight ambient="{mjcf([ambient] * 3)}" diffuse="{mjcf([head] * 3)}" specular="0.1 0.1 0.1"/>
        <map znear="0.02" zfar="40" fogstart="{rng.uniform(0.8, 1.2):.2f}" fogend="{rng.uniform(2.5, 6):.2f}"/>
        <rgba fog="{mjcf([*rng.uniform(0.4, 0.95, 3), 1])}"/></visual>
      <asset>{"".join(world.assets)}</asset>
      <worldbody>{lights(world, camera, shadow)}{outside}{"".join(world.parts)}</worldbody></mujoco>""")
    for name, pixels in world.textures.items():
        k = model.texture(name).id
        start = model.tex_adr[k]
        model.tex_data[start : start + pixels.size] = pixels.ravel()
    return model


# ---------------------------------------------------------------- pictures
def pictures(
    world: World, model: "mujoco.MjModel", camera: Camera, states: States, times: list[float]
) -> Iterator[NDArray[np.uint8]]:
    """Draw the canvases [height, width, 3] at the times."""
    data = mujoco.MjData(model)
    fog = world.rng.random() < 0.06
    drawing = Drawing(model)
    drawing.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = fog
    try:
        for t, joints in zip(times, states.joints, strict=True):
            data.qpos[:] = joints
            set_driven_poses(world, data, t, False)
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
            yield drawing.draw(data, camera.at(t))
    finally:
        drawing.close()


def walking(rng: np.random.Generator, pace: float) -> Path3:
    """The motion of a hand-held or walking camera: right, up and turn, in units of the distance."""
    sway = wander(rng, 0.02, 0.3)
    bob = rng.uniform(0.004, 0.015)
    return lambda t: sway(t) + bob * vec(np.sin(pi * pace * t), abs(np.sin(pi * pace * t)), 0)
