"""Makes one simulated clip: chooses a kind of scene, simulates it, films it, and adds the sound.

Needs the extra `scenes`, and OpenGL without a screen (docs/SCENES.md).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from train.extras import requires_extra
from train.synthetic.build import Clip, ClipSpec
from train.synthetic.scenes.contacts import AudibleEvent, audible_events
from train.synthetic.scenes.film import Film, draw_film
from train.synthetic.scenes.kinds.balls import racket
from train.synthetic.scenes.kinds.falling import drop, pour, roll, slide, spill, topple, volley
from train.synthetic.scenes.kinds.played import claps, drums, handdrum, stick
from train.synthetic.scenes.kinds.silent import distract, floating, passing, pendulum, tour, wave
from train.synthetic.scenes.kinds.walk import steps, taps
from train.synthetic.scenes.kinds.work import chop, doors, drawers, hammer, rub
from train.synthetic.scenes.look import Looks
from train.synthetic.scenes.sound import Foley
from train.synthetic.scenes.world import World

with requires_extra("scenes", __name__):
    from train.synthetic.scenes.gl import open_context
    from train.synthetic.scenes.physics import simulate
    from train.synthetic.scenes.render import Camera, compile_world, draw_camera, pictures, walking

KINDS: dict[str, tuple[Callable[[World], None], float]] = {  # name -> (scene, relative frequency)
    "drop": (drop, 3), "spill": (spill, 1), "topple": (topple, 1), "volley": (volley, 1), "roll": (roll, 1.2),
    "slide": (slide, 0.6), "rub": (rub, 0.8), "pour": (pour, 0.9), "stick": (stick, 3.5), "drums": (drums, 2.5),
    "handdrum": (handdrum, 1.4),
    "claps": (claps, 1.3), "hammer": (hammer, 1.6), "chop": (chop, 1.3), "steps": (steps, 2.5), "taps": (taps, 0.6),
    "doors": (doors, 1), "drawers": (drawers, 0.9), "racket": (racket, 1.5), "pendulum": (pendulum, 0.7),
    "wave": (wave, 0.8), "tour": (tour, 0.7), "floating": (floating, 0.6), "passing": (passing, 0.6),
}  # fmt: skip
PAIRED = 0.12  # share of clips with two kinds of scenes
SHADOWS = 0.5  # share of clips with shadows, among those that are cheap to render
COSTLY = 350  # a clip with more pictures to render has no shadows, which would take too long


@dataclass(frozen=True)
class SceneClipSpec(ClipSpec):
    """Which simulated clips to make. `impacts` is PyImpact's folder; with None, only recordings are heard."""

    impacts: Path | None = None

    def renderer(self) -> "SceneClipRenderer":
        return SceneClipRenderer(self)


def draw_world(rng: np.random.Generator, looks: Looks, seconds: float, kind: str | None) -> tuple[World, list[str]]:
    """Plan one kind of scene, or two side by side, perhaps with silent distractors. Also returns the kinds' names."""
    names, chances = list(KINDS), np.array([chance for _, chance in KINDS.values()])
    count = 2 if rng.random() < PAIRED else 1
    kinds = [kind] if kind else [str(k) for k in rng.choice(names, count, p=chances / chances.sum(), replace=False)]
    world = World(rng, looks, seconds)
    for name in kinds:
        KINDS[name][0](world)
    if rng.random() < 0.25:
        distract(world, world.frames[-1].extent)
    if world.moving is None and rng.random() < 0.15:
        world.moving = walking(rng, rng.uniform(1.2, 2.2))
    return world, kinds


def events_in_view(world: World, contacts: list[AudibleEvent], camera: Camera, film: Film) -> list[AudibleEvent]:
    """The planned and simulated events that the camera sees, in the order of time."""
    free = {hold.body.voice: hold.time for hold in world.holds}
    size = (film.width, film.height)
    found = [h for h in world.events if camera.sees(h[1], *size)]
    for event, point in contacts:
        inside = free.get(event.voice, -1) <= event.time and 0.02 <= event.time < world.seconds - 0.03
        if inside and camera.sees(point, *size):
            found.append((event, point))
    return sorted(found, key=lambda item: item[0].time)


class SceneClipRenderer:
    """Makes the clips of a spec."""

    def __init__(self, spec: SceneClipSpec) -> None:
        open_context()
        self.spec, self.looks = spec, Looks.load(spec.split)
        self.foley = Foley.load(spec.sounds, spec.impacts, spec.split)
        self.skipped = self.foley.skipped

    def render(self, index: int) -> Clip:
        """Make one clip. Film, scene and sound use separate random streams. Raises RenderError if it cannot draw."""
        spec, key = self.spec, self.spec.seed_key(index)
        scene_rng, sound_rng, film_rng = (np.random.default_rng([*key, stream]) for stream in range(3))
        film = draw_film(film_rng, spec.seconds, spec.size, spec.fps)
        world, kinds = draw_world(scene_rng, self.looks, spec.seconds, spec.kind)
        camera, times = draw_camera(world, film.width, film.height), film.times()
        shadow = bool(film_rng.random() < SHADOWS and len(times) <= COSTLY)
        model = compile_world(world, camera, film.canvas_width, film.canvas_height, shadow)
        states, log = simulate(world, model, times)
        found = events_in_view(world, audible_events(log, world.bodies, world.ground), camera, film)
        events = [event for event, _ in found]
        audio, used = self.foley.mix(events, sound_rng, spec.seconds)
        metadata = {
            "id": spec.clip_id(index), "split": spec.split, "seed": spec.seed, "index": index, "scenes": kinds,
            "silent": not events, "sounds": sorted(set(used)), "film": asdict(film), "camera": camera.to_dict(),
            "events": [asdict(e) | {"place": np.round(p, 3).tolist()} for e, p in found],
        }  # fmt: skip

        def write(path: Path) -> None:
            film.write(path, film.develop(pictures(world, model, camera, states, times), film_rng))

        return Clip(metadata, audio, write)
