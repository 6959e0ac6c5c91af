"""Where the events of a simulated clip are in the picture, computed from the camera and film in its ID.json."""

from math import radians, tan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.synthetic.scenes.film import Film
from train.synthetic.scenes.motion import unit, view_direction


def project(points: NDArray[np.float64], camera: dict[str, Any]) -> NDArray[np.float64]:
    """Project points [E, 3] in metres to [E, 2]: right and down from the canvas's centre, in canvas heights.

    `camera` is the entry of that name in ID.json.
    """
    forward = view_direction(camera["azimuth"], camera["elevation"])
    right = unit(np.cross(forward, [0, 0, 1]))
    rays = points - (np.asarray(camera["focus"]) - forward * camera["distance"])
    side = np.stack([rays @ right, -(rays @ np.cross(right, forward))], 1)
    return side / np.maximum(rays @ forward, 1e-6)[:, None] / (2 * tan(radians(camera["opening"] / 2)))


def event_places(metadata: dict[str, Any]) -> NDArray[np.float32]:
    """Position [E, 2] of every event: right and down from the picture's centre, in lengths of its short side.

    `metadata` is the content of ID.json. Positions are NaN for drawn clips, which do not store them, and for clips
    with a moving camera.
    """
    events = metadata["events"]
    unknown = np.full((len(events), 2), np.nan, np.float32)
    camera = metadata.get("camera")
    if not events or not camera or camera.get("moving", True) or any("place" not in e for e in events):
        return unknown
    film = Film(**(metadata["film"] | {"occluder": None}))
    canvas = np.array([film.canvas_width, film.canvas_height])
    pixels = project(np.array([e["place"] for e in events], float), camera) * film.canvas_height + canvas / 2
    views, times = film.views(), np.array(film.times())
    view = views[np.minimum(np.searchsorted(times, [e["time"] for e in events]), len(times) - 1)]
    shown = (pixels - view[:, 1::-1]) / view[:, 2:]
    return ((shown - np.array([film.width, film.height]) / 2) / min(film.width, film.height)).astype(np.float32)
