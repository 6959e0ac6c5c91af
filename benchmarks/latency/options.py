"""Options of benchmarks.latency, and their checks before anything is measured."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.random_system import RANDOM
from benchmarks.common.report import add_output_options, check_writable, command_parser, find_videos, make_plots_folder
from benchmarks.latency.points import GRIDS, Workload, grid
from benchmarks.latency.subjects import named_folders
from benchmarks.latency.video import BOUNCE
from engines.backends import BACKENDS, PRECISIONS
from engines.manifest import Manifest, sha256
from runtime.errors import OptionError
from runtime.video import Video


def get_parser(doc: str | None) -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.latency", doc)
    add = parser.add_argument
    add("--sizes", nargs="+", choices=RANDOM, help="mini is the bundle that ships with MaskVAT; small and base "
        "are made and exported with random weights (default: mini, unless --engines or --system is given)")  # fmt: skip
    add("--engines", nargs="+", default=[], metavar="[NAME=]DIR", help="bundles to measure")
    add("--system", nargs="+", default=[], metavar="[NAME=]DIR",
        help="system folders to export and measure; the PyTorch baselines use their weights")  # fmt: skip
    add("--grid", choices=GRIDS, default="default", help="set of points (default: default)")
    add("--quick", action="store_const", dest="grid", const="quick", help="same as --grid quick")
    add("--steps", type=int, nargs="+", help="step counts, instead of a grid")
    add("--candidates", type=int, nargs="+", help="numbers of candidates, instead of a grid")
    add("--seconds", type=int, nargs="+", help="clip lengths in seconds, instead of a grid")
    add("--backend", nargs="+", help=f"backends, from {', '.join(BACKENDS)} (default: all that are installed)")
    add("--precision", choices=PRECISIONS, help="precision of the step graph (default: all that a bundle has)")
    add_work_options(add)
    add(
        "--cache",
        type=Path,
        help="folder for systems and bundles made by this command (default: the user's cache folder)",
    )
    add("--tables", type=Path, help="also write the tables to this Markdown file")
    add("--compare", type=Path, nargs=2, metavar="JSON",
        help="measure nothing; compare two JSON results of this command")  # fmt: skip
    add_output_options(parser, plots="folder for latency-*.png")
    return parser


def add_work_options(add: Callable[..., object]) -> None:
    """Add the options that say what each point does, and what is measured beside the points."""
    add("--threads", type=int, default=0, help="CPU threads of MaskVAT and of PyTorch (default: number of cores)")
    add("--clip", type=Path, help="video to use instead of the built-in example")
    add("--guidance", type=float, default=3.0, help="guidance (default: 3)")
    add("--repeat", type=int, default=3, help="warm runs of each point, and number of pairs (default: 3)")
    add("--limit", type=float, default=90, help="seconds after which a point is not repeated any more (default: 90)")
    add("--pair-steps", type=int, help="steps in the pairs with PyTorch (default: 32 for mini, 8 for others)")
    add("--no-points", action="store_true", help="leave out the points")
    add("--baselines", choices=("all", "eager", "none"), default="all",
        help="PyTorch baselines: all adds torch.compile to eager (default: all)")  # fmt: skip
    add("--no-profiles", action="store_true", help="do not profile operators and kernels")
    add("--no-quality", action="store_true", help="do not measure token agreement")
    add("--clips", type=Path, help="folder of clips with true sound: also measure onset F1 (slow)")
    add("--clips-limit", type=int, default=8, help="largest number of these clips (default: 8)")
    add("--bars", action="store_true",
        help="for the first bundle, also measure whole process, loading, a 10-minute clip, installed size")  # fmt: skip
    add("--first-sound", action="store_true",
        help="for the first bundle, also measure how soon a 10-minute clip is heard")  # fmt: skip
    add("--at-once", action="store_true",
        help="for the first bundle, also measure one to four clips at once in one process")  # fmt: skip


def workloads(args: argparse.Namespace, first: bool) -> list[Workload]:
    """The points of one size. Raises OptionError for values that the runtime refuses."""
    if args.steps or args.candidates or args.seconds:
        triples = [(s, c, t) for t in args.seconds or [10] for c in args.candidates or [1] for s in args.steps or [32]]
        loads = [Workload(*triple) for triple in triples]
    else:
        loads = grid(args.grid, first)
    for load in loads:
        load.sampling(args.guidance)
        if load.clip_seconds < 1:
            raise OptionError(f"--seconds {load.clip_seconds}: the length of a clip must be 1 second or more")
    if args.clip is not None:  # a given clip has one length
        loads = list(dict.fromkeys(Workload(load.steps, load.candidates) for load in loads))
    return loads


def check(args: argparse.Namespace) -> None:
    """Raise OptionError for bad options now, not after an hour of measuring."""
    least = {"repeat": 1, "limit": 0, "clips_limit": 1}
    for name, low in least.items():
        if not (value := getattr(args, name)) >= low:
            raise OptionError(f"--{name.replace('_', '-')} is {value:g}; it must be {low} or more")
    if not 0 <= args.threads <= 1024:
        raise OptionError(f"--threads is {args.threads}; it must be from 0 to 1024")
    if args.clip is not None:
        with Video(args.clip):  # raises if it is not a video
            pass
    if args.clips is not None:
        find_videos(args.clips, args.clips_limit)
    workloads(args, True)
    if args.pair_steps is not None:
        try:
            Workload(args.pair_steps).sampling(args.guidance)
        except OptionError as error:
            raise OptionError(f"--pair-steps: {error}") from error
    named_folders(args.system, "--system")
    for folder in named_folders(args.engines, "--engines").values():
        Manifest.load(folder)
    check_writable(args.tables, "--tables")
    make_plots_folder(args.plots)


def settings(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """The settings that decide the work of a point, for the result. The clip has its name and hash."""
    video = args.clip or BOUNCE
    kept = {name: getattr(args, name) for name in ("guidance", "repeat", "limit", "grid", "precision", "baselines")}
    return kept | {"threads": threads, "clip": f"{video.name} {sha256(video)[:16]}"}
