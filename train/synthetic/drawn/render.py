"""Makes one drawn clip: its film properties, its pictures, its sound, and its metadata.

The same seed gives the same clip, however many processes make it. Splits share no recording and no random stream.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, sin

import numpy as np
from numpy.typing import NDArray

from train.synthetic.build import Clip, ClipError, ClipSpec, make_clips
from train.synthetic.drawn.kinds import KINDS, drift, still
from train.synthetic.drawn.shapes import GROUNDS, LOOKS, SOLIDS, Array, Look, Stage, paint
from train.synthetic.mp4 import FRAME_RATES, write_mp4
from train.synthetic.recordings import Recordings, mix

__all__ = ["ClipError", "DrawnClipSpec", "Film", "make_clips", "render_frames"]

MARGIN = 0.2  # width of the backdrop around the picture, in frame heights
SEEN = 0.86  # share of the short side that the encoders' centre crops keep; contacts lie inside it
SIZES = ((192, 192), (256, 144), (240, 180), (224, 168), (144, 240), (176, 224), (288, 160))


# ---------------------------------------------------------------- picture
@dataclass(frozen=True)
class Film:
    """How a clip is filmed. Lengths are in frame heights; `blur` is the number of sub-frames averaged into a frame."""

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


def draw_film(rng: np.random.Generator, spec: "DrawnClipSpec") -> Film:
    """Draw random film properties. The spec's size and frame rate take precedence."""
    width, height = SIZES[rng.integers(len(SIZES))]
    width, height = spec.size or (width, height)
    rate = int(rng.choice(list(FRAME_RATES), p=list(FRAME_RATES.values())))
    rate = spec.fps or rate
    often = rng.random(6)
    return Film(
        width, height, rate, spec.seconds,
        blur=int(rng.integers(2, 5)) if often[0] < 0.35 and rate <= 30 else 1,
        shake=rng.uniform(0.003, 0.02) if often[1] < 0.3 else 0.0,
        pan=(rng.uniform(-0.25, 0.25), rng.uniform(-0.1, 0.1)) if often[2] < 0.2 else (0.0, 0.0),
        zoom=rng.uniform(0.05, 0.3) if often[3] < 0.25 else 0.0,
        flicker=rng.uniform(0.01, 0.08) if often[4] < 0.2 else 0.0,
        noise=rng.uniform(2, 12) if often[5] < 0.4 else 0.0,
        gains=tuple((rng.uniform(0.75, 1.15, 3) * rng.uniform(0.7, 1.1)).tolist()),
    )  # fmt: skip


def backdrop(stage: Stage, film: Film, rng: np.random.Generator) -> Array:
    """The static background [H, W, 3]: a painted wall above the ground. It is MARGIN wider than the picture."""
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


def render_frames(stage: Stage, film: Film, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """The pictures [H, W, 3]. Frame k shows the time k / fps."""
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
    """Draw one scene, or two side by side, perhaps with silent distractors behind and an occluder in front.

    Also returns the names of the kinds.
    """
    names, chances = list(KINDS), np.array([chance for _, chance in KINDS.values()])
    kinds = [str(k) for k in rng.choice(names, 2 if rng.random() < 0.2 else 1, p=chances / chances.sum())]
    kinds = [kind] if kind else kinds
    wide, floor = film.width / film.height, str(rng.choice(GROUNDS if "walk" in kinds else [*GROUNDS, *SOLIDS]))
    side = SEEN * min(1.0, wide)
    stage = Stage(rng, film.seconds, 0.0, wide, 0.5 + side * rng.uniform(0.25, 0.47), floor, wide)
    behind = rng.random()
    if behind < 0.4 and not kind:  # silent distractors
        (drift if behind < 0.2 else still)(stage)
    for k, name in enumerate(kinds):
        stage.left = wide / 2 + side * (k / len(kinds) - 0.5)
        stage.right = stage.left + side / len(kinds)
        KINDS[name][0](stage)
    if rng.random() < 0.08 and not kind:  # an occluder that passes in front
        bar, x, speed = stage.solid(0.1, 0.25), rng.uniform(0, wide), rng.normal(0, 0.15)
        bar.motion = lambda t: (x + speed * (t - 5), 0.5, 0.0, 0.0)
    stage.events.sort(key=lambda event: event.time)
    return stage, kinds


@dataclass(frozen=True)
class DrawnClipSpec(ClipSpec):
    """Which drawn clips to make."""

    def renderer(self) -> "DrawnClipRenderer":
        return DrawnClipRenderer(self)


class DrawnClipRenderer:
    """Draws the clips of a spec."""

    def __init__(self, spec: DrawnClipSpec) -> None:
        self.spec, self.sounds = spec, Recordings.load(spec.sounds, spec.split)
        self.skipped = self.sounds.skipped

    def render(self, index: int) -> Clip:
        """Make one clip. Pictures and sound use separate random streams, so recordings never change the pictures."""
        spec, key = self.spec, self.spec.seed_key(index)
        picture_rng, sound_rng = np.random.default_rng([*key, 0]), np.random.default_rng([*key, 1])
        film = draw_film(picture_rng, spec)
        stage, kinds = draw_stage(picture_rng, film, spec.kind)
        audio, used = mix(stage.events, self.sounds, sound_rng, spec.seconds)
        metadata = {
            "id": spec.clip_id(index), "split": spec.split, "seed": spec.seed, "index": index, "scenes": kinds,
            "silent": not stage.events, "sounds": sorted(set(used)), "film": asdict(film),
            "events": [asdict(e) | {"sound": name} for e, name in zip(stage.events, used, strict=False)],
        }  # fmt: skip
        return Clip(metadata, audio, lambda part: write_mp4(part, render_frames(stage, film, picture_rng), film.fps))
