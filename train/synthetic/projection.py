"""Where in the picture the events of a simulated scene are seen, from what ID.json says of camera and film."""

from math import radians, tan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.synthetic.scenes.film import Film
from train.synthetic.scenes.motion import ahead, unit


def project(points: NDArray[np.float64], camera: dict[str, Any]) -> NDArray[np.float64]:
    """Points [E, 3] in metres -> right and down of the canvas's middle [E, 2], in canvas heights."""
    forward = ahead(camera["azimuth"], camera["elevation"])
    right = unit(np.cross(forward, [0, 0, 1]))
    rays = points - (np.asarray(camera["focus"]) - forward * camera["distance"])
    side = np.stack([rays @ right, -(rays @ np.cross(right, forward))], 1)
    return side / np.maximum(rays @ forward, 1e-6)[:, None] / (2 * tan(radians(camera["opening"] / 2)))


def event_places(facts: dict[str, Any]) -> NDArray[np.float32]:
    """Column and row [E, 2] of every event, in short sides of the picture from its middle; NaN where it is not known.

    `facts` is the content of ID.json. Drawn clips do not say where their events are, nor do moving cameras.
    """
    events = facts["events"]
    unknown = np.full((len(events), 2), np.nan, np.float32)
    camera = facts.get("camera")
    if not events or not camera or camera.get("moving", True) or any("place" not in e for e in events):
        return unknown
    film = Film(**(facts["film"] | {"occluder": None}))
    canvas = np.array([film.canvas_width, film.canvas_height])
    pixels = project(np.array([e["place"] for e in events], float), camera) * film.canvas_height + canvas / 2
    views, times = film.views(), np.array(film.times())
    view = views[np.minimum(np.searchsorted(times, [e["time"] for e in events]), len(times) - 1)]
    shown = (pixels - view[:, 1::-1]) / view[:, 2:]
    return ((shown - np.array([film.width, film.height]) / 2) / min(film.width, film.height)).astype(np.float32)
