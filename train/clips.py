"""Made-up audio-visual clips: shapes that hit things, with recordings placed at the exact contact times.

    python -m train.clips OUT --clips 360 --seed 1 --sounds SOUNDS [--jobs 2] [--split train|val|test]

SOUNDS is a folder with sounds.csv (file, label, seconds) and the recordings. Each clip is ID.mp4 (h264, no sound),
ID.flac (mono 44.1 kHz, 16 bits) and ID.json (events, sounds used, seed). The video is written last; a complete clip is
not made again. The same seed gives the same clip whatever --jobs is; splits share no recording and no seed.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.audio import MediaError, replacing
from train.clips_draw import GROUNDS, LOOKS, SOLIDS, Array, Look, Stage, paint
from train.clips_scenes import SCENES, drift, still
from train.clips_sound import SPLITS, PoolError, Sounds, mix, write_flac
from train.mp4 import RATES, write_mp4

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


def draw_film(rng: np.random.Generator, order: "Order") -> Film:
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


# ---------------------------------------------------------------- files
class ClipError(Exception):
    """A clip cannot be made: which one."""


@dataclass(frozen=True)
class Order:
    """What to make: one clip is a pure function of this and of the clip's number."""

    out: Path
    sounds: Path
    split: str = "train"
    seed: int = 1
    seconds: float = 10.0
    kind: str | None = None  # else drawn, with distractors
    fps: int | None = None
    size: tuple[int, int] | None = None

    def name(self, index: int) -> str:
        return f"{self.split}-{self.seed:04d}-{index:05d}"

    def complete(self, index: int) -> bool:
        return all((self.out / f"{self.name(index)}.{end}").exists() for end in ("mp4", "flac", "json"))


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


def make_clip(order: Order, sounds: Sounds, index: int) -> None:
    """Write one clip. Raises OSError, or ClipError with the clip's seed and index whatever else fails in its scene."""
    try:
        draw_clip(order, sounds, index)
    except OSError:
        raise  # of the disk, not of this clip
    except Exception as error:
        which = f"seed {order.seed}, split {order.split}, index {index}"
        raise ClipError(f"{order.name(index)} ({which}): {type(error).__name__}: {error}") from error


def draw_clip(order: Order, sounds: Sounds, index: int) -> None:
    """Pictures and sound have their own random streams, so the pictures do not depend on the pool."""
    key = [order.seed, index, SPLITS.index(order.split)]
    seen, heard = np.random.default_rng([*key, 0]), np.random.default_rng([*key, 1])
    film = draw_film(seen, order)
    stage, kinds = draw_stage(seen, film, order.kind)
    audio, used = mix(stage.events, sounds, heard, order.seconds)
    facts = {
        "id": order.name(index), "split": order.split, "seed": order.seed, "index": index, "scenes": kinds,
        "silent": not stage.events, "sounds": sorted(set(used)), "film": asdict(film),
        "events": [asdict(e) | {"sound": name} for e, name in zip(stage.events, used, strict=False)],
    }  # fmt: skip
    target = order.out / order.name(index)
    writers = {
        "flac": lambda part: write_flac(part, audio),
        "json": lambda part: part.write_text(json.dumps(facts, indent=1), encoding="utf-8"),
        "mp4": lambda part: write_mp4(part, frames(stage, film, seen), film.fps),
    }
    for end, write in writers.items():  # the video last: who finds it finds all
        with replacing(target.with_suffix(f".{end}")) as part:
            write(part)


_state: dict[str, tuple[Order, Sounds]] = {}  # of a worker process


def _start(order: Order) -> None:
    _state["job"] = (order, Sounds.load(order.sounds, order.split))


def _work(index: int) -> int:
    make_clip(*_state["job"], index)
    return index


def make_clips(order: Order, count: int, jobs: int = 1) -> int:
    """Make the clips 0 to count - 1 that are not complete yet; how many were made."""
    order.out.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(count) if not order.complete(k)]
    sounds = Sounds.load(order.sounds, order.split)
    for line in sounds.skipped:
        print(f"skipped sound {line}", file=sys.stderr)
    print(f"{len(todo)} of {count} clips to make; {len(sounds.skipped)} sound files skipped", flush=True)
    if jobs == 1:
        for index in todo:
            make_clip(order, sounds, index)
            print(order.name(index), flush=True)
    elif todo:
        with ProcessPoolExecutor(jobs, initializer=_start, initargs=(order,)) as pool:
            for index in pool.map(_work, todo):
                print(order.name(index), flush=True)
    return len(todo)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.clips", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sounds", type=Path, required=True, help="folder with sounds.csv and the recordings")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kind", choices=list(SCENES), help="one kind of scene instead of a mixture")
    parser.add_argument("--fps", type=int)
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="in pixels, both even")
    args = parser.parse_args(arguments)
    size = tuple(args.size) if args.size else None
    order = Order(args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size)
    try:
        make_clips(order, args.clips, args.jobs)
    except (MediaError, OSError, PoolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
