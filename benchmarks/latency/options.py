"""Options of `benchmarks.latency`, and what is refused before anything is measured."""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common.report import find_clips, make_plots_folder, check_writable
from benchmarks.latency.clip import BOUNCE
from benchmarks.latency.points import GRIDS, Load, grid
from benchmarks.latency.subjects import RANDOM, named
from engines.backends import BACKENDS, PRECISIONS
from engines.manifest import Manifest, sha256
from runtime.errors import OptionError
from runtime.video import Video


def get_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=description)
    add = parser.add_argument
    add("--sizes", nargs="+", choices=RANDOM, help="mini is the shipped bundle; small and base get random weights, "
        "made and exported here (default: mini, unless bundles are given)")  # fmt: skip
    add("--engines", nargs="+", default=[], metavar="[NAME=]DIR", help="bundles to measure")
    add("--system", nargs="+", default=[], metavar="[NAME=]DIR",
        help="system folders: exported here, and the baselines use their weights")  # fmt: skip
    add("--grid", choices=GRIDS, default="default", help="which points (default: default)")
    add("--quick", action="store_const", dest="grid", const="quick", help="the same as --grid quick")
    add("--steps", type=int, nargs="+", help="these step counts, in place of a grid")
    add("--candidates", type=int, nargs="+", help="these candidate counts, in place of a grid")
    add("--seconds", type=int, nargs="+", help="clips of these lengths, in place of a grid")
    add("--backend", nargs="+", help=f"of {', '.join(BACKENDS)} (default: all that are installed)")
    add("--precision", choices=PRECISIONS, help="only this precision of the step (default: all that a bundle has)")
    add("--threads", type=int, default=0, help="CPU threads, ours and PyTorch's (default: the cores)")
    add("--clip", type=Path, help="video to use in place of clips that are made here")
    add("--guidance", type=float, default=3.0, help="guidance (default: 3)")
    add("--repeat", type=int, default=3, help="warm runs of each point, and pairs (default: 3)")
    add("--limit", type=float, default=90, help="seconds after which a point repeats no more (default: 90)")
    add("--pair-steps", type=int, help="steps of the pairs with PyTorch (default: 32 for mini, 8 for others)")
    add("--no-points", action="store_true", help="only the pairs")
    add("--baselines", choices=("all", "eager", "none"), default="all", help="PyTorch, also compiled (default: all)")
    add("--no-quality", action="store_true", help="without token agreement")
    add("--clips", type=Path, help="folder of clips with true sound, for onset F1 (slow)")
    add("--clips-limit", type=int, default=8, help="at most so many of them (default: 8)")
    add("--bars", action="store_true",
        help="also, of the first bundle: whole process, loading, a 10-minute clip, size")  # fmt: skip
    add("--cache", type=Path, default=None, help="folder for systems made here (default: the user's cache folder)")
    add("--out", type=Path, help="also write the JSON to this file")
    add("--tables", type=Path, help="also write the tables to this Markdown file")
    add("--plots", type=Path, help="folder for latency-*.png")
    add("--compare", type=Path, nargs=2, metavar="JSON", help="measure nothing: ratios of two results")
    return parser


def loads_of(args: argparse.Namespace, first: bool) -> list[Load]:
    """The points of one size. Raises OptionError for what the runtime would refuse."""
    if args.steps or args.candidates or args.seconds:
        triples = [(s, c, t) for t in args.seconds or [10] for c in args.candidates or [1] for s in args.steps or [32]]
        loads = [Load(*triple) for triple in triples]
    else:
        loads = grid(args.grid, first)
    for load in loads:
        load.sampling(args.guidance)
        if load.clip_seconds < 1:
            raise OptionError(f"--seconds {load.clip_seconds}: clips are of 1 second or more")
    if args.clip is not None:  # its length is what it is
        loads = list(dict.fromkeys(Load(load.steps, load.candidates) for load in loads))
    return loads


def check(args: argparse.Namespace) -> None:
    """Refuse now what would be refused in an hour."""
    least = {"repeat": 1, "limit": 0, "clips_limit": 1}
    for name, low in least.items():
        if not (value := getattr(args, name)) >= low:
            raise OptionError(f"--{name.replace('_', '-')} is {value:g}; it must be {low} or more")
    if not 0 <= args.threads <= 1024:
        raise OptionError(f"--threads is {args.threads}; it must be from 0 to 1024")
    if args.clip is not None:
        with Video(args.clip):  # raises for what is no video
            pass
    if args.clips is not None:
        find_clips(args.clips, args.clips_limit)
    loads_of(args, True)
    if args.pair_steps is not None:
        try:
            Load(args.pair_steps).sampling(args.guidance)
        except OptionError as error:
            raise OptionError(f"--pair-steps: {error}") from error
    named(args.system, "--system")
    for folder in named(args.engines, "--engines").values():
        Manifest.load(folder)
    check_writable(args.tables, "--tables")
    make_plots_folder(args.plots)


def settings(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """What decides about the work of a point, for the result; files by name and hash."""
    clip = args.clip or BOUNCE
    kept = {name: getattr(args, name) for name in ("guidance", "repeat", "limit", "grid", "precision", "baselines")}
    return kept | {"threads": threads, "clip": f"{clip.name} {sha256(clip)[:16]}"}
