"""Made-up audio-visual clips: shapes that hit things, with recordings placed at the exact contact times.

    python -m train.synthetic.drawn OUT --clips 360 --seed 1 --sounds SOUNDS [--jobs 2] [--split train|val|test]

SOUNDS is a folder with sounds.csv (file, label, seconds) and the recordings. Each clip is ID.mp4 (h264, no sound),
ID.flac (mono 44.1 kHz, 16 bits) and ID.json (events, sounds used, seed). The video is written last; a complete clip is
not made again. The same seed gives the same clip whatever --jobs is; splits share no recording and no seed.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, sin

import numpy as np
from numpy.typing import NDArray

from train.synthetic.build import Clip, ClipError, make_clips
from train.synthetic.build import ClipSpec as BaseSpec
from train.synthetic.drawn.kinds import SCENES, drift, still
from train.synthetic.drawn.shapes import GROUNDS, LOOKS, SOLIDS, Array, Look, Stage, paint
from train.synthetic.mp4 import RATES, write_mp4
from train.synthetic.recordings import Sounds, mix

__all__ = ["ClipError", "ClipSpec", "Film", "frames", "make_clips"]

MARGIN = 0.2  # of the backdrop around the picture, in frame heights
SEEN = 0.86  # of the short side: what the encoders' centre crops leave, and where contacts are put
SIZES = ((192, 192), (256, 144), (240, 180), (224, 168), (144, 240), (176, 224), (288, 160))


# ---------------------------------------------------------------- picture
@dataclass(frozen=True)
class Film:
    """How a clip is filmed. Blur is the number of sub-frames that are averaged over the shutter."""

    width: int
    height: int
    fps: int
    seconds: float
    blur: int = 1
    shake: float = 0.0
    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    flicker: float = 0.0
    noise: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def view(self, t: float) -> tuple[float, float, float]:
        """Left and top of the picture in the world, and pixels per frame height."""
        turn, scale = t / self.seconds - 0.5, 1 + self.zoom * (0.5 + sin(1 + t * 0.7) / 2)
        x = self.shake * (sin(13 * t) + sin(29.3 * t + 1)) / 2 + self.pan[0] * turn
        y = self.shake * (sin(11 * t + 2) + sin(31.7 * t)) / 2 + self.pan[1] * turn
        shrink = (1 - 1 / scale) / 2
        return x + shrink * self.width / self.height, y + shrink, scale * self.height


def draw_film(rng: np.random.Generator, order: "ClipSpec") -> Film:
    width, height = SIZES[rng.integers(len(SIZES))]
    width, height = order.size or (width, height)
    rate = int(rng.choice(list(RATES), p=list(RATES.values())))
    rate = order.fps or rate
    often = rng.random(6)
    return Film(
        width, height, rate, order.seconds,
        blur=int(rng.integers(2, 5)) if often[0] < 0.35 and rate <= 30 else 1,
        shake=rng.uniform(0.003, 0.02) if often[1] < 0.3 else 0.0,
        pan=(rng.uniform(-0.25, 0.25), rng.uniform(-0.1, 0.1)) if often[2] < 0.2 else (0.0, 0.0),
        zoom=rng.uniform(0.05, 0.3) if often[3] < 0.25 else 0.0,
        flicker=rng.uniform(0.01, 0.08) if often[4] < 0.2 else 0.0,
        noise=rng.uniform(2, 12) if often[5] < 0.4 else 0.0,
        gains=tuple((rng.uniform(0.75, 1.15, 3) * rng.uniform(0.7, 1.1)).tolist()),
    )  # fmt: skip


def backdrop(stage: Stage, film: Film, rng: np.random.Generator) -> Array:
    """What stands still: a painted wall, and the ground's material below its line; MARGIN wider than the picture."""
    height, width = ceil(film.height * (1 + 2 * MARGIN)), ceil(film.width + film.height * 2 * MARGIN)
    tones = rng.uniform(20, 240, (2, 3))
    kind = str(rng.choice(["noise", "noise", "noise", "gradient", "gradient", "stripes", "dots", "checks", "plain"]))
    colours = [tuple(int(v) for v in tone.mean() + (tone - tone.mean()) * rng.uniform(0.1, 0.9)) for tone in tones]
    canvas = paint(rng, Look(*colours, kind, vary=rng.uniform(4, 16)), height, width)  # type: ignore[misc]
    top = round((stage.ground + MARGIN) * film.height)
    if top < height:
        canvas[top:] = paint(rng, LOOKS[stage.floor], height, width)[: height - top]
        canvas[top : top + 2] *= 0.6
    return canvas


def frames(stage: Stage, film: Film, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The pictures [H, W, 3], frame k of the moment k / fps."""
    canvas, h, w = backdrop(stage, film, rng), film.height, film.width
    grain = rng.normal(0, film.noise, (h + 32, w + 32, 1)).astype(np.float32)
    gains = np.array(film.gains, np.float32)
    for k in range(round(film.seconds * film.fps)):
        total = np.zeros((h, w, 3), np.float32)
        for part in range(film.blur):
            t = (k + (part + 0.5) / film.blur * 0.8 - 0.4) / film.fps if film.blur > 1 else k / film.fps
            view = film.view(t)
            rows = np.clip((np.arange(h) / view[2] + view[1] + MARGIN) * h, 0, len(canvas) - 1).astype(np.intp)
            columns = np.clip((np.arange(w) / view[2] + view[0] + MARGIN) * h, 0, canvas.shape[1] - 1).astype(np.intp)
            picture = canvas[rows[:, None], columns]
            for shape in stage.shapes:
                shape.draw(picture, t, view)
            total += picture
        y, x = rng.integers(0, 32, 2)
        light = (1 + film.flicker * sin(k * 1.9) * sin(k * 0.37)) / film.blur
        yield np.clip(total * (gains * np.float32(light)) + grain[y : y + h, x : x + w], 0, 255).astype(np.uint8)


def draw_stage(rng: np.random.Generator, film: Film, kind: str | None) -> tuple[Stage, list[str]]:
    """One scene, or two side by side; perhaps distractors behind and an occluder in front."""
    names, chances = list(SCENES), np.array([chance for _, chance in SCENES.values()])
    kinds = [str(k) for k in rng.choice(names, 2 if rng.random() < 0.2 else 1, p=chances / chances.sum())]
    kinds = [kind] if kind else kinds
    wide, floor = film.width / film.height, str(rng.choice(GROUNDS if "walk" in kinds else [*GROUNDS, *SOLIDS]))
    side = SEEN * min(1.0, wide)
    stage = Stage(rng, film.seconds, 0.0, wide, 0.5 + side * rng.uniform(0.25, 0.47), floor, wide)
    behind = rng.random()
    if behind < 0.4 and not kind:  # nothing of this is heard
        (drift if behind < 0.2 else still)(stage)
    for k, name in enumerate(kinds):
        stage.left = wide / 2 + side * (k / len(kinds) - 0.5)
        stage.right = stage.left + side / len(kinds)
        SCENES[name][0](stage)
    if rng.random() < 0.08 and not kind:  # an occluder that passes in front
        bar, x, speed = stage.solid(0.1, 0.25), rng.uniform(0, wide), rng.normal(0, 0.15)
        bar.motion = lambda t: (x + speed * (t - 5), 0.5, 0.0, 0.0)
    stage.events.sort(key=lambda event: event.time)
    return stage, kinds


@dataclass(frozen=True)
class ClipSpec(BaseSpec):
    """What to draw."""

    def renderer(self) -> "DrawnClipRenderer":
        return DrawnClipRenderer(self)


class DrawnClipRenderer:
    """Draws the clips of an order."""

    def __init__(self, order: ClipSpec) -> None:
        self.order, self.sounds = order, Sounds.load(order.sounds, order.split)
        self.skipped = self.sounds.skipped

    def draw(self, index: int) -> Clip:
        """Pictures and sound have their own random streams, so the pictures do not depend on the pool."""
        order, key = self.order, self.order.key(index)
        seen, heard = np.random.default_rng([*key, 0]), np.random.default_rng([*key, 1])
        film = draw_film(seen, order)
        stage, kinds = draw_stage(seen, film, order.kind)
        audio, used = mix(stage.events, self.sounds, heard, order.seconds)
        facts = {
            "id": order.name(index), "split": order.split, "seed": order.seed, "index": index, "scenes": kinds,
            "silent": not stage.events, "sounds": sorted(set(used)), "film": asdict(film),
            "events": [asdict(e) | {"sound": name} for e, name in zip(stage.events, used, strict=False)],
        }  # fmt: skip
        return Clip(facts, audio, lambda part: write_mp4(part, frames(stage, film, seen), film.fps))
