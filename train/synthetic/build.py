"""Making many clips, drawn or simulated: the files of a clip, resuming, worker processes, and the command line.

`train.synthetic.drawn` and `train.synthetic.scenes` share this. Each gives a `ClipSpec` (what to make) whose
`ClipRenderer` makes one clip after the other.
"""

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
from train.parent_process import exit_with_parent
from train.synthetic.recordings import RATE, Floats, write_flac
from train.synthetic.splits import SPLITS

__all__ = ["RATE", "Clip", "ClipError", "ClipRenderer", "ClipSpec", "make_clips", "make_parser", "run_command"]


class ClipError(Exception):
    """A clip cannot be made. The message names the clip with its seed, split and index."""


@dataclass(frozen=True)
class Clip:
    """One made clip.

    metadata: the content of ID.json. audio: mono sound [L] at 44.1 kHz. write_video: writes the pictures as mp4.
    """

    metadata: dict[str, Any]
    audio: Floats
    write_video: Callable[[Path], None]


class ClipRenderer(Protocol):
    """Makes the clips of a ClipSpec. `skipped` holds "file: reason" for each sound file that cannot be used."""

    skipped: list[str]

    def render(self, index: int) -> Clip: ...


@dataclass(frozen=True)
class ClipSpec(ABC):
    """What to make. A clip depends on this and on its index alone, so the same values give the same clip."""

    out: Path
    sounds: Path
    split: str = "train"
    seed: int = 1
    seconds: float = 10.0
    kind: str | None = None  # None: a random mixture of kinds, with distractors
    fps: int | None = None  # None: each clip draws its own
    size: tuple[int, int] | None = None  # (width, height) in pixels; None: each clip draws its own

    @abstractmethod
    def renderer(self) -> ClipRenderer:
        """Load the recordings and looks, and return what makes the clips."""

    def clip_id(self, index: int) -> str:
        """The name of a clip's files, without suffix."""
        return f"{self.split}-{self.seed:04d}-{index:05d}"

    def seed_key(self, index: int) -> list[int]:
        """The numbers that seed a clip's random streams."""
        return [self.seed, index, SPLITS.index(self.split)]

    def is_complete(self, index: int) -> bool:
        """Whether all three files of a clip exist."""
        return all((self.out / f"{self.clip_id(index)}.{suffix}").exists() for suffix in ("mp4", "flac", "json"))


def make_clip(spec: ClipSpec, renderer: ClipRenderer, index: int) -> None:
    """Make one clip and write its files.

    Raises OSError if a file cannot be written. Every other failure becomes a ClipError that names the clip.
    """
    try:
        clip = renderer.render(index)
        writers = {
            "flac": lambda part: write_flac(part, clip.audio),
            "json": lambda part: part.write_text(json.dumps(clip.metadata, indent=1), encoding="utf-8"),
            "mp4": clip.write_video,
        }
        for suffix, write in writers.items():  # The video comes last: if it exists, the clip is complete.
            with replacing((spec.out / spec.clip_id(index)).with_suffix(f".{suffix}")) as part:
                write(part)
    except OSError:
        raise  # The disk fails, not this clip.
    except Exception as error:
        which = f"seed {spec.seed}, split {spec.split}, index {index}"
        raise ClipError(f"{spec.clip_id(index)} ({which}): {type(error).__name__}: {error}") from error


_worker: dict[str, tuple[ClipSpec, ClipRenderer]] = {}  # the state of a worker process


def _start_worker(spec: ClipSpec) -> None:
    exit_with_parent()
    _worker["job"] = (spec, spec.renderer())


def _make_in_worker(index: int) -> int:
    make_clip(*_worker["job"], index)
    return index


def make_clips(spec: ClipSpec, count: int, jobs: int = 1) -> int:
    """Make those of the clips 0 to count - 1 that are not complete yet, in `jobs` processes; return how many.

    Raises ClipError, MediaError or OSError.
    """
    spec.out.mkdir(parents=True, exist_ok=True)
    todo = [index for index in range(count) if not spec.is_complete(index)]
    renderer = spec.renderer()
    for line in renderer.skipped:
        print(f"skipped sound {line}", file=sys.stderr)
    print(f"{len(todo)} of {count} clips to make; {len(renderer.skipped)} sound files skipped", flush=True)
    if jobs == 1:
        for index in todo:
            make_clip(spec, renderer, index)
            print(spec.clip_id(index), flush=True)
    elif todo:
        # This process may have started OpenGL, which would hang in a forked process.
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_worker, initargs=(spec,)) as pool:
            for index in pool.map(_make_in_worker, todo):
                print(spec.clip_id(index), flush=True)
    return len(todo)


def make_parser(module: str, about: str, kinds: list[str]) -> argparse.ArgumentParser:
    """The options that both clip makers share. `about` is what --help says first."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for ID.mp4, ID.flac and ID.json; it is created if missing")
    parser.add_argument(
        "--sounds", type=Path, required=True, metavar="DIR", help="folder with sounds.csv and its recordings"
    )
    parser.add_argument(
        "--clips", type=int, default=100, metavar="N", help="number of clips, finished ones included (default: 100)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same seed gives the same clips (default: 1)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of worker processes (default: 1)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="use this split's recordings (default: train)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip (default: 10)")
    parser.add_argument(
        "--kind",
        choices=kinds,
        metavar="KIND",
        help=f"make only this kind of scene (default: a mixture): {', '.join(kinds)}",
    )
    parser.add_argument("--fps", type=int, metavar="N", help="frame rate of all clips (default: random for each clip)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="picture size in pixels, both numbers even (default: random for each clip)",
    )
    return parser


def check_options(spec: ClipSpec, count: int, jobs: int) -> None:
    """Raises OptionError if a value is out of range or the output folder is a file."""
    for name, value, least, most in (
        ("--clips", count, 1, 1_000_000),
        ("--jobs", jobs, 1, 1024),
        ("--seed", spec.seed, 0, 2**32),
        ("--seconds", spec.seconds, 1, 3600),
        ("--fps", 25 if spec.fps is None else spec.fps, 1, 240),
    ):
        if not least <= value <= most:
            raise OptionError(f"{name} is {value:g}; it must lie between {least} and {most}")
    if spec.size and any(side % 2 or not 32 <= side <= 4096 for side in spec.size):
        raise OptionError(f"--size is {spec.size[0]} {spec.size[1]}; both must be even, from 32 to 4096")
    if spec.out.exists() and not spec.out.is_dir():
        raise OptionError(f"{spec.out} is a file; give a folder")


def run_command(spec: ClipSpec, count: int, jobs: int) -> int:
    """Check the options and make the clips. Print an error in one line; return the exit status."""
    try:
        check_options(spec, count, jobs)
        make_clips(spec, count, jobs)
    except (ClipError, MediaError, OptionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
