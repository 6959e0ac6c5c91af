"""Making many clips, whether drawn or simulated: files, resuming, workers, errors."""

import argparse
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from runtime.audio import replacing
from runtime.errors import MediaError, OptionError
from train.synthetic.recordings import RATE, Floats, write_flac
from train.synthetic.splits import SPLITS

__all__ = ["RATE", "Clip", "ClipError", "ClipRenderer", "ClipSpec", "arguments", "make_clips", "run"]


class ClipError(Exception):
    """A clip cannot be made: which one."""


@dataclass(frozen=True)
class Clip:
    """What one clip is: its JSON, its sound [L] mono 44.1 kHz, and what writes its pictures as mp4."""

    facts: dict[str, Any]
    audio: Floats
    write: Callable[[Path], None]


class ClipRenderer(Protocol):
    """What makes the clips of an order. Skipped are the files that cannot be used, and why."""

    skipped: list[str]

    def draw(self, index: int) -> Clip: ...


@dataclass(frozen=True)
class ClipSpec(ABC):
    """What to make: one clip is a pure function of this and of the clip's number."""

    out: Path
    sounds: Path
    split: str = "train"
    seed: int = 1
    seconds: float = 10.0
    kind: str | None = None  # else drawn, with distractors
    fps: int | None = None
    size: tuple[int, int] | None = None

    @abstractmethod
    def renderer(self) -> ClipRenderer:
        """Load what the clips are made of."""

    def name(self, index: int) -> str:
        return f"{self.split}-{self.seed:04d}-{index:05d}"

    def key(self, index: int) -> list[int]:
        """Of the random streams of a clip."""
        return [self.seed, index, SPLITS.index(self.split)]

    def complete(self, index: int) -> bool:
        return all((self.out / f"{self.name(index)}.{end}").exists() for end in ("mp4", "flac", "json"))


def make_clip(order: ClipSpec, renderer: ClipRenderer, index: int) -> None:
    """Write one clip. Raises OSError, or ClipError with the clip's seed and index whatever else fails in its scene."""
    try:
        clip = renderer.draw(index)
        writers = {
            "flac": lambda part: write_flac(part, clip.audio),
            "json": lambda part: part.write_text(json.dumps(clip.facts, indent=1), encoding="utf-8"),
            "mp4": clip.write,
        }
        for end, write in writers.items():  # the video last: who finds it finds all
            with replacing((order.out / order.name(index)).with_suffix(f".{end}")) as part:
                write(part)
    except OSError:
        raise  # of the disk, not of this clip
    except Exception as error:
        which = f"seed {order.seed}, split {order.split}, index {index}"
        raise ClipError(f"{order.name(index)} ({which}): {type(error).__name__}: {error}") from error


_state: dict[str, tuple[ClipSpec, ClipRenderer]] = {}  # of a worker process


def _start(order: ClipSpec) -> None:
    _state["job"] = (order, order.renderer())


def _work(index: int) -> int:
    make_clip(*_state["job"], index)
    return index


def make_clips(order: ClipSpec, count: int, jobs: int = 1) -> int:
    """Make the clips 0 to count - 1 that are not complete yet; how many were made."""
    order.out.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(count) if not order.complete(k)]
    renderer = order.renderer()
    for line in renderer.skipped:
        print(f"skipped sound {line}", file=sys.stderr)
    print(f"{len(todo)} of {count} clips to make; {len(renderer.skipped)} sound files skipped", flush=True)
    if jobs == 1:
        for index in todo:
            make_clip(order, renderer, index)
            print(order.name(index), flush=True)
    elif todo:
        # OpenGL that this process has started would hang in a fork of it
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=(order,)) as pool:
            for index in pool.map(_work, todo):
                print(order.name(index), flush=True)
    return len(todo)


def arguments(name: str, about: str, kinds: list[str]) -> argparse.ArgumentParser:
    """The options that all makers of clips have."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for ID.mp4, ID.flac and ID.json; made where it is missing")
    parser.add_argument("--sounds", type=Path, required=True, help="folder with sounds.csv and the recordings")
    parser.add_argument("--clips", type=int, default=100, help="how many, complete ones included (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same clips (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that work side by side (default: 1)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="whose recordings are heard (default: train)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip (default: 10)")
    parser.add_argument("--kind", choices=kinds, help="one kind of scene instead of a mixture")
    parser.add_argument("--fps", type=int, help="frames a second of all clips (default: each clip's own)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="in pixels, both even")
    return parser


def check(order: ClipSpec, count: int, jobs: int) -> None:
    """Raises OptionError for numbers that no clip can be made with."""
    for name, value, least, most in (
        ("--clips", count, 1, 1_000_000),
        ("--jobs", jobs, 1, 1024),
        ("--seed", order.seed, 0, 2**32),
        ("--seconds", order.seconds, 1, 3600),
        ("--fps", 25 if order.fps is None else order.fps, 1, 240),
    ):
        if not least <= value <= most:
            raise OptionError(f"{name} is {value:g}; it must lie between {least} and {most}")
    if order.size and any(side % 2 or not 32 <= side <= 4096 for side in order.size):
        raise OptionError(f"--size is {order.size[0]} {order.size[1]}; both must be even, from 32 to 4096")
    if order.out.exists() and not order.out.is_dir():
        raise OptionError(f"{order.out} is a file; give a folder")


def run(order: ClipSpec, count: int, jobs: int) -> int:
    """Make clips for a command line: its exit status."""
    try:
        check(order, count, jobs)
        make_clips(order, count, jobs)
    except (ClipError, MediaError, OptionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
