"""Simulates a world with MuJoCo: the positions of everything at the film's times, and all contacts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.synthetic.scenes.contacts import ContactLog
from train.synthetic.scenes.gl import mujoco
from train.synthetic.scenes.world import STEP, Hold, World


@dataclass
class States:
    """The joints' positions at the film's times: T arrays [nq]."""

    joints: list[NDArray[np.float64]]


def set_driven_poses(world: World, data: "mujoco.MjData", t: float, solid: bool) -> None:
    """Move the driven bodies to their poses at time t. With `solid`, only those that push other bodies."""
    slot = 0
    for body in world.bodies:
        if body.pose:
            if body.solid or not solid:
                data.mocap_pos[slot], data.mocap_quat[slot] = body.pose(t)
            slot += 1


def apply_hold(hold: Hold, joint: object, data: "mujoco.MjData", t: float) -> bool:
    """Keep a held body in place, or release it when its time has come. Returns whether it is still held."""
    position, velocity = joint.qposadr[0], joint.dofadr[0]  # type: ignore[attr-defined]
    waits = t < hold.time
    data.qpos[position : position + 3] = hold.at(t) if waits else hold.start
    data.qvel[velocity : velocity + 6] = 0 if waits else hold.speed
    return waits


def simulate(world: World, model: "mujoco.MjModel", times: list[float]) -> tuple[States, ContactLog]:
    """Simulate to the end of the clip. Returns the states at `times` (seconds) and the contacts of free bodies."""
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
        holds = [pair for pair in holds if apply_hold(*pair, data, t)]
        while len(states.joints) < len(times) and times[len(states.joints)] <= t + STEP / 2:
            states.joints.append(data.qpos.copy())
        while kicks and kicks[0].time <= t:
            kick = kicks.pop(0)
            start = model.joint(kick.body.name).dofadr[0]
            data.qvel[start : start + len(kick.change)] += kick.change
        if solids:
            set_driven_poses(world, data, t, True)
        if model.nv:
            speeds.append(data.qvel.copy())
            mujoco.mj_step(model, data)
            if data.ncon and free:
                touch = data.contact
                pushing = np.flatnonzero(touch.efc_address >= 0)
                address = touch.efc_address[pushing]
                rows.append((step, of_geom[touch.geom[pushing]], data.efc_force[address], touch.pos[pushing]))
    states.joints += [data.qpos.copy()] * (len(times) - len(states.joints))
    return states, contact_log(rows, speeds, model, free)


def contact_log(rows: list, speeds: list, model: "mujoco.MjModel", free: dict) -> ContactLog:
    history = np.array(speeds) if speeds else np.zeros((0, 0))
    mass = {k: float(model.body_mass[joint_body(model, j)]) for k, j in free.items()}
    return ContactLog(
        np.concatenate([np.full(len(r[1]), r[0]) for r in rows]) if rows else np.zeros(0, np.int64),
        np.sort(np.concatenate([r[1] for r in rows]), axis=1) if rows else np.zeros((0, 2), np.int64),
        np.concatenate([r[2] for r in rows]) if rows else np.zeros(0),
        np.concatenate([r[3] for r in rows]) if rows else np.zeros((0, 3)),
        mass,
        {k: history[:, j.dofadr[0] : j.dofadr[0] + 6] for k, j in free.items()},
    )


def joint_body(model: "mujoco.MjModel", joint: object) -> int:
    return int(model.jnt_bodyid[joint.id])  # type: ignore[attr-defined]
