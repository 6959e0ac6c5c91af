"""`python -m benchmarks.latency`: where the time of a clip goes, against PyTorch and against what the machine could do.

Every point is a process of its own, which imports `runtime`, loads the bundle, makes one clip cold and then --repeat
clips warm. The default takes a few minutes on two cores: the shipped bundle along each axis of the grid, and pairs with
PyTorch. docs/BENCHMARKS.md says how to read it. Prints Markdown tables, and as the last line one JSON object.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency_points import GRIDS, Load, grid
from benchmarks.latency_report import compare, comparison_document, document, read_result
from benchmarks.latency_run import Session, card_in_torch
from benchmarks.latency_shares import add_shares
from benchmarks.latency_systems import RANDOM, Subject, exported, named, random_subject
from benchmarks.report import command, finish, plots_folder, result
from engines.backends import BACKENDS, availability, choose
from engines.manifest import MINI, Manifest
from engines.plans import default_cache
from runtime.errors import MaskVATError, OptionError


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=(__doc__ or "").split("\n")[0])
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
    add("--precision", help="only this precision of the step (default: all that a bundle has)")
    add("--threads", type=int, default=0, help="CPU threads (default: the backend's choice)")
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
    add("--profile", action="store_true", help="also: a step's time by operator, on the CPU")
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
    if args.repeat < 1:
        raise OptionError(f"--repeat is {args.repeat}; it must be 1 or more")
    if args.clip is not None and not args.clip.is_file():
        raise OptionError(f"--clip {args.clip}: there is no such file")
    if args.clips is not None and not args.clips.is_dir():
        raise OptionError(f"--clips {args.clips}: there is no such folder")
    loads_of(args, True)
    plots_folder(args.plots)


def subjects(session: Session, cache: Path) -> list[tuple[Subject, Subject | None]]:
    """What is measured, and with which weights PyTorch is: the shipped bundle's pairs use random ones of its size."""
    args = session.args
    found: list[tuple[Subject, Subject | None]] = []
    for name, folder in named(args.system, "--system").items():
        subject = Subject(name, exported(folder, name, cache), folder)
        found.append((subject, subject))
    for name, folder in named(args.engines, "--engines").items():
        Manifest.load(folder)
        found.append((Subject(name, folder), None))
        session.note(f"no baselines for {name}: --system, the folder that it was exported from, gives them")
    for size in args.sizes or ([] if found else ["mini"]):
        twin = None
        if size != "mini" or args.baselines != "none":
            try:
                twin = random_subject(size, cache)
            except OptionError as error:
                session.note(str(error))
        if size == "mini":
            found.append((Subject("mini", MINI), twin))
        elif twin is not None:
            found.append((twin, twin))
    return found


def measure(session: Session, cache: Path) -> None:
    """Everything, size by size."""
    from benchmarks.latency_bars import bars
    from benchmarks.latency_floor import machine_floor
    from benchmarks.latency_networks import window_gflop

    args, chosen = session.args, subjects(session, cache)
    session.values["machine_floor"] = machine_floor(args.threads, card_in_torch() and session.backends != ["cpu"])
    for subject, twin in chosen:
        name = subject.name
        session.networks(subject)
        if twin is not None and twin.system is not None:
            session.gflop[name] = window_gflop(twin.system, twin.config, 2 if args.guidance else 1)
        for measured in dict.fromkeys((subject, twin or subject)):
            session.floors(measured)
        if not args.no_points:
            session.points(subject, loads_of(args, first=name == "mini" or subject.trained))
        if twin is not None and args.baselines != "none":
            session.pairs(twin, Load(args.pair_steps or (32 if name == "mini" else 8)))
        if args.profile:
            for profiled in dict.fromkeys((subject, twin or subject)):
                session.profiles(profiled)
        if args.bars and "bars" not in session.values:  # of the first bundle
            session.values["bars"] = bars(subject.bundle, session.folder, args.repeat)
        if not args.no_quality and not args.no_points:  # last, for nothing of a size is timed after it
            session.quality(subject)
        add_shares(session.values, name, subject.config, session.gflop.get(name, {}))
    if args.clips is None:
        session.note("no onset F1: --clips names a folder of clips with true sound")


def run(args: argparse.Namespace) -> None:
    if args.compare:
        found = compare(*(read_result(path) for path in args.compare))
        print(comparison_document(found))
        finish(found, args.out)
        return
    check(args)
    backends = args.backend or [name for name, reason in availability().items() if reason is None]
    for name in backends:
        choose(name)  # raises for one that cannot be used
    cache = args.cache or default_cache() / "latency"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as folder:
        session = Session(args, Path(folder), backends)
        measure(session, cache)
    settings = {"threads": args.threads, "guidance": args.guidance, "repeat": args.repeat, "grid": args.grid}
    values = result("latency", {"settings": settings} | session.values)
    if not any(values.get(name) for name in ("results", "pairs", "bars", "profiles")):
        raise MaskVATError("nothing could be measured; the notes above say why")
    text = document(values)
    print(text)
    if args.tables is not None:
        args.tables.write_text(text, encoding="utf-8")
    if args.plots is not None:
        from benchmarks.latency_plots import draw

        draw(args.plots, values)
    finish(values, args.out)


def main(argv: Sequence[str] | None = None) -> int:
    return command(run, get_parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
