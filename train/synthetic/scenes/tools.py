"""Tools and hands that strike targets, and the plans of their blows."""

from train.synthetic.scenes.motion import LEVEL, Blow, Path3, Vector, aim, compose, turn, vec, wander
from train.synthetic.scenes.world import Body, Geom, World

UP = vec(0, 0, 1)


def blows(w: World, times: list[float], targets: list[tuple[Vector, Vector]], scale: float) -> list[tuple[Blow, int]]:
    """Plan a blow at each time on one of the targets (point, normal); also returns the target's number."""
    chosen, k = [], int(w.rng.integers(len(targets)))
    for n, time in enumerate(times):
        k = int(w.rng.integers(len(targets))) if w.chance(0.5) else k
        room = min(times[n] - times[n - 1] if n else 9.0, times[n + 1] - time if n + 1 < len(times) else 9.0)
        height = scale * w.between(0.15, 0.7) * min(1.0, 0.35 + room)
        chosen.append((Blow(time, *targets[k], height, min(0.4 * room, w.between(0.06, 0.16))), k))
    return chosen


def hand(w: World, tip: Vector, direction: Vector, scale: float = 1.0) -> list[Geom]:
    """A fist at `tip`, and a forearm along `direction`."""
    skin, sleeve = w.skin(), w.colour() if w.chance(0.6) else None
    far = aim(direction)
    return [
        Geom("ellipsoid", (0.045 * scale, 0.04 * scale, 0.055 * scale), tip, far, skin, "soft"),
        Geom("capsule", (0.033 * scale, 0.16 * scale), tip + direction * 0.2 * scale, far, sleeve or skin, "soft"),
    ]


def palm(w: World, scale: float) -> list[Geom]:
    """An open hand whose contact point is the origin. The fingers point along y, the back of the hand along z."""
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
    """Add a tool whose origin is its tip. It follows the path, points along `direction` and wobbles."""
    wobble = wander(w.rng, 0.05 + swing)
    return w.driven(geoms, "wood", lambda t: (path(t), aim(direction + wobble(t))))


def press(w: World, path: Path3, side: int, scale: float) -> None:
    """Add an open hand, palm down, that follows a path."""
    yaw, wobble = -side * w.between(0.1, 0.5), wander(w.rng, 0.08)

    def pose(t: float) -> tuple[Vector, Vector]:
        return path(t), compose(turn([1, 0, 0], float(wobble(t)[0]) * 0.5), turn([0, 0, 1], yaw))

    w.driven(palm(w, scale), "soft", pose)
