"""Made-up audio-visual clips: shapes that hit things, with recordings placed at the exact contact times.

    python -m train.clips OUT --clips 360 --seed 1 --sounds SOUNDS [--jobs 2] [--split train|val]

SOUNDS is a folder with sounds.csv (file, label, seconds) and the recordings. Each clip is ID.mp4 (h264, no sound),
ID.flac (mono 44.1 kHz, 16 bits) and ID.json (events, sounds used, seed). The video is written last; a complete clip is
not made again. The same seed gives the same clip whatever --jobs is; train and val share no recording and no seed.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import ceil, pi, sin
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.clips_scenes import GROUNDS, LOOKS, SCENES, SOLIDS, Event, Look, Stage, drift, paint, still

Floats = NDArray[np.float32]
RATE = 44100
VAL_SHARE = 0.15
MARGIN = 0.2  # of the backdrop around the picture, in frame heights
SEEN = 0.86  # of the short side: what the encoders' centre crops leave, and where contacts are put
SIZES = ((192, 192), (256, 144), (240, 180), (224, 168), (144, 240), (176, 224), (288, 160))
RATES = {25: 0.35, 30: 0.25, 24: 0.15, 15: 0.05, 20: 0.05, 50: 0.05, 60: 0.05, 48: 0.05}
SPEECH = ("speech", "hurt", "zombie", "monster", "scream", "crowd", "radio", "news", "roar", "fatigue", "humming")
# Group: parts of labels. A label belongs to the first group that names a part of it; other labels are not used.
GROUPS = {
    "clap": ("handclap", "fingerclap"),
    "kick": ("kdrum",),
    "hihat": ("hihat",),
    "tom": ("tom1", "tom2", "tom3", "tom4"),
    "snare": ("snare",),
    "cymbal": ("crashl", "crashr", "china", "ride"),
    "cajon": ("cajon",),
    "boards": ("footstep_wood", "body_heel"),
    "floor": ("footstep_concrete", "walk_t_floor", "body_stomp"),
    "grass": ("footstep_grass", "walk_grass", "walk_t_grass"),
    "snow": ("footstep_snow",),
    "grating": ("walk_metal",),
    "carpet": ("footstep_carpet", "walk_t_carpet"),
    "chop": ("chop", "knife_slice", "small_cutting"),
    "card": ("card_place", "card_shove", "card_slide", "book_"),
    "chip": ("chip_lay", "chips_stack", "chips_collide"),
    "bell": ("impact_bell",),
    "glass": ("impact_glass", "fail_glass"),
    "ceramic": ("ceramic", "impact_plate"),
    "wood": ("impact_wood", "impact_plank", "fail_door_wood", "fail_wood"),
    "stone": ("mining", "brick", "fail_concrete"),
    "metal": ("impact_metal", "impact_tin", "fail_metal", "metal_pot", "gun_safe"),
    "plastic": ("plastic", "impact_generic"),
    "soft": ("impact_soft", "impact_punch", "body_belly", "chestthump", "drop_leather", "flesh_default"),
    "ambience": ("environment", "rain"),
}


class PoolError(Exception):
    """A folder of sounds cannot be used."""


def group_of(label: str) -> str | None:
    if any(part in label for part in SPEECH):
        return None
    return next((group for group, parts in GROUPS.items() if any(part in label for part in parts)), None)


def split_files(rows: list[dict[str, str]], split: str) -> set[str]:
    """The recordings of a split. By the hash of the file name, the lowest VAL_SHARE of each group are val's, and one
    at least, so that every group of two or more is heard in both."""
    files: dict[str | None, list[str]] = {}
    for row in rows:
        files.setdefault(group_of(row["label"]), []).append(row["file"])
    val: set[str] = set()
    for names in files.values():
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        val.update(names[: max(1, round(VAL_SHARE * len(names))) if len(names) > 1 else 0])
    return val if split == "val" else {row["file"] for row in rows} - val


def read_recording(path: Path, seconds: float) -> NDArray[np.int16]:
    """All samples of a mono 44.1 kHz file; ValueError or av.FFmpegError if it is anything else or too short."""
    with av.open(str(path)) as media:
        stream = next(iter(media.streams.audio), None)
        if stream is None or stream.rate != RATE or stream.channels != 1:
            raise ValueError(f"not mono {RATE} Hz")
        resampler = av.AudioResampler("s16", "mono", RATE)
        parts = [f.to_ndarray()[0] for frame in media.decode(stream) for f in resampler.resample(frame)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    if len(samples) < (seconds - 0.05) * RATE or not samples.any():
        raise ValueError(f"{len(samples) / RATE:.2f} s of sound, {seconds} s expected")
    return samples


def from_onset(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut what comes before the attack: 1 ms before the first millisecond with a quarter of the peak."""
    step = RATE // 1000
    level = np.abs(samples[: len(samples) // step * step].astype(np.int32)).reshape(-1, step).max(1)
    return samples[max(0, int(np.argmax(level >= level.max() / 4)) - 1) * step :]


@dataclass
class Sounds:
    """The recordings of one split: group -> label -> file -> samples."""

    groups: dict[str, dict[str, dict[str, NDArray[np.int16]]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # file: why

    @classmethod
    def load(cls, folder: Path, split: str) -> "Sounds":
        sounds = cls()
        with open(folder / "sounds.csv", encoding="utf-8", newline="") as table:
            reader = csv.DictReader(table)
            if not {"file", "label", "seconds"} <= set(reader.fieldnames or ()):
                raise PoolError(f"{table.name} must have the columns file, label and seconds")
            rows = [row for row in reader if group_of(row["label"])]
        files = split_files(rows, split)
        for row in rows:
            if row["file"] not in files:
                continue
            try:
                samples = read_recording(folder / row["file"], float(row["seconds"]))
            except (OSError, ValueError, av.FFmpegError) as error:
                sounds.skipped.append(f"{row['file']}: {error}")
                continue
            group = str(group_of(row["label"]))
            samples = samples if group == "ambience" else from_onset(samples)
            sounds.groups.setdefault(group, {}).setdefault(row["label"], {})[row["file"]] = samples
        if not set(sounds.groups) - {"ambience"}:
            raise PoolError(f"{folder / 'sounds.csv'} names no usable recording of the split {split}")
        return sounds

    def pick(self, group: str, voice: int, rng: np.random.Generator) -> tuple[str, Floats]:
        """One recording; an object (voice) keeps to one label. A group that the split lacks is stood in for."""
        if group not in self.groups:
            group = sorted(set(self.groups) - {"ambience"})[sum(map(ord, group)) % len(set(self.groups) - {"ambience"})]
        labels = self.groups[group]
        files = labels[sorted(labels)[voice % len(labels)]]
        name = sorted(files)[rng.integers(len(files))]
        samples = files[name].astype(np.float32)
        return name, samples / np.abs(samples).max()


# ---------------------------------------------------------------- sound
def reshape(samples: Floats, pitch: float, cutoff: float) -> Floats:
    """Play faster by `pitch` and soften above `cutoff` Hz, both in the spectrum; at most 4 s."""
    samples = samples[: 4 * RATE]
    padded = np.pad(samples, (0, 4096))  # so that filter tails wrap into silence
    length = max(64, round(len(padded) / pitch))
    bins = np.fft.rfft(padded)
    spectrum = np.zeros(length // 2 + 1, complex)
    n = min(len(bins), len(spectrum))
    spectrum[:n] = bins[:n]
    spectrum /= 1 + (np.arange(len(spectrum)) * RATE / length / cutoff) ** 2
    out = np.fft.irfft(spectrum, length)[: round(len(samples) / pitch)] * (length / len(padded))
    fade = min(len(out), 400)
    out[len(out) - fade :] *= np.linspace(1, 0, fade)
    return out.astype(np.float32)


def scrape(samples: Floats, length: int, rng: np.random.Generator) -> Floats:
    """Noise with the colour of a recording, under half a sine."""
    bins = np.abs(np.fft.rfft(samples, 4096))
    smooth = np.convolve(bins, np.hanning(41) / 20, "same")
    noise = np.fft.rfft(rng.normal(size=length))
    out = np.fft.irfft(noise * np.interp(np.linspace(0, 1, len(noise)), np.linspace(0, 1, len(smooth)), smooth), length)
    return (out / np.abs(out).max() * np.sin(pi * np.arange(length) / length)).astype(np.float32)


def mix(events: list[Event], sounds: Sounds, rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
    """The clip's sound [L] in [-1, 1], and the recordings in the order of the events (then the background's)."""
    audio, used = np.zeros(round(seconds * RATE), np.float32), []
    for event in events:
        name, samples = sounds.pick(event.material, event.voice, rng)
        used.append(name)
        start = round(event.time * RATE)
        if event.end:
            part = scrape(samples, round(event.end * RATE) - start, rng) * event.strength * 0.4
        else:
            pitch = float(np.clip((0.12 / event.size) ** 0.35 * np.exp(rng.normal(0, 0.02)), 0.6, 1.7))
            part = reshape(samples, pitch, 2500 + 17000 * event.strength) * event.strength * 0.7
        end = min(len(audio), start + len(part))
        audio[start:end] += part[: end - start]
    if not events:
        return audio, used  # silent clips are digital silence
    if rng.random() < 0.35:
        tail = round(rng.uniform(0.1, 0.6) * RATE)
        room = rng.normal(size=tail) * np.exp(-6.9 * np.arange(tail) / tail) * np.minimum(np.arange(tail) / 300, 1)
        size = 1 << (len(audio) + tail - 1).bit_length()
        wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[: len(audio)]
        audio += (wet * rng.uniform(0.05, 0.25) / np.linalg.norm(room)).astype(np.float32)
    audio *= rng.uniform(0.5, 1.0) * min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))
    draw = rng.random()
    if draw < 0.2:
        audio += rng.normal(0, 10 ** rng.uniform(-3.2, -2.5), len(audio)).astype(np.float32)
    elif draw < 0.4 and "ambience" in sounds.groups:
        name, samples = sounds.pick("ambience", int(rng.integers(1 << 30)), rng)
        used.append(name)
        audio += np.resize(samples, len(audio)) * np.float32(10 ** rng.uniform(-2.5, -1.5))
    return audio * np.float32(min(1.0, 0.95 / max(1e-9, float(np.abs(audio).max())))), used


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


def backdrop(stage: Stage, film: Film, rng: np.random.Generator) -> Floats:
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
def write_mp4(path: Path, pictures: Iterator[NDArray[np.uint8]], film: Film) -> None:
    with av.open(str(path), "w", format="mp4") as media:
        # with the macroblock tree, x264 gives other bytes from run to run
        options = {"crf": "23", "preset": "veryfast", "x264-params": "threads=1:mbtree=0"}
        stream = media.add_stream("libx264", rate=film.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        stream.time_base = Fraction(1, film.fps)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, film.fps)
            media.mux(stream.encode(frame))
        media.mux(stream.encode(None))


def write_flac(path: Path, audio: Floats) -> None:
    with av.open(str(path), "w", format="flac") as media:
        stream = media.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.round(audio * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))


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
    """Write one clip. Pictures and sound have their own random streams, so the pictures do not depend on the pool."""
    key = [order.seed, index, int(order.split == "val")]
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
        "mp4": lambda part: write_mp4(part, frames(stage, film, seen), film),
    }
    for end, write in writers.items():  # the video last: who finds it finds all
        part = target.with_suffix(f".{end}.part")
        write(part)
        os.replace(part, target.with_suffix(f".{end}"))


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
    parser.add_argument("--split", choices=("train", "val"), default="train")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--kind", choices=list(SCENES), help="one kind of scene instead of a mixture")
    parser.add_argument("--fps", type=int)
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="in pixels, both even")
    args = parser.parse_args(arguments)
    size = tuple(args.size) if args.size else None
    order = Order(args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size)
    try:
        make_clips(order, args.clips, args.jobs)
    except (OSError, PoolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
