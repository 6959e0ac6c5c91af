"""`python -m benchmarks.latency`: where the time of a clip goes, against PyTorch and against what the machine could do.

Every point is a process of its own, which imports `runtime`, loads the bundle, makes one clip cold and then --repeat
clips warm. The default takes a few minutes on two cores: the shipped bundle along each axis of the grid, and pairs with
PyTorch. docs/BENCHMARKS.md says how to read it. Prints Markdown tables, and as the last line one JSON object.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.report import run_command, finish, save_result, make_result
from benchmarks.latency.compare import compare, comparison_document, read_result
from benchmarks.latency.options import check, get_parser, loads_of, settings
from benchmarks.latency.points import Load
from benchmarks.latency.session import Session, card_in_torch
from benchmarks.latency.subjects import Subject, exported, named, random_subject
from benchmarks.latency.tables import document
from benchmarks.latency.utilisation import add_shares
from engines.backends import availability, choose
from engines.manifest import MINI
from engines.plans import default_cache
from runtime.errors import MaskVATError, OptionError


def subjects(session: Session, cache: Path) -> list[tuple[Subject, Subject | None]]:
    """What is measured, and with which weights PyTorch is: the shipped bundle's pairs use random ones of its size."""
    args = session.args
    found: list[tuple[Subject, Subject | None]] = []
    for name, folder in named(args.system, "--system").items():
        subject = Subject(name, exported(folder, name, cache), folder)
        found.append((subject, subject))
    for name, folder in named(args.engines, "--engines").items():
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
    from benchmarks.latency.roofline import machine_floor

    args, chosen = session.args, subjects(session, cache)
    session.values["machine_floor"] = machine_floor(session.threads, card_in_torch() and session.backends != ["cpu"])
    for subject, twin in chosen:
        try:
            measure_size(session, subject, twin)
        finally:  # of what there is
            add_shares(session.values, subject.name, subject.config, session.gflop.get(subject.name, {}))
    if args.clips is None:
        session.note("no onset F1: --clips names a folder of clips with true sound")


def measure_size(session: Session, subject: Subject, twin: Subject | None) -> None:
    """Floors, points, pairs, profiles, bars and quality of one size."""
    from benchmarks.latency.encoder_flops import window_gflop
    from benchmarks.latency.end_to_end import Way, bars

    args, name = session.args, subject.name
    session.networks(subject, twin)
    if twin is not None and twin.system is not None:
        session.gflop[name] = window_gflop(twin.system, twin.config, 2 if args.guidance else 1)
    for measured in dict.fromkeys((subject, twin or subject)):
        session.floors(measured)
    if not args.no_points:
        session.points(subject, loads_of(args, first=name == "mini" or subject.trained))
    if twin is not None and args.baselines != "none":
        steps = args.pair_steps if args.pair_steps is not None else (32 if name == "mini" else 8)
        session.pairs(twin, Load(steps))
    for profiled in dict.fromkeys((subject, twin or subject)):
        session.profiles(profiled)
    if args.bars and "bars" not in session.values:  # of the first bundle
        way = Way(subject.bundle, (args.backend or ["auto"])[0], args.precision or "auto", args.threads)
        session.values["bars"] = {}
        for what, value in bars(way, session.folder, args.repeat):
            session.values["bars"][what] = value
    if not args.no_quality and not args.no_points:  # last, for nothing of a size is timed after it
        session.quality(subject)


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
        try:
            measure(session, cache)
        except BaseException as error:  # Ctrl-C, too
            if session.measured:
                session.note(f"ended early by {type(error).__name__}: this is what was measured until then")
            raise
        finally:
            if session.measured:
                report(session)
    if not session.measured:
        raise MaskVATError("nothing could be measured; the notes above say why")


def report(session: Session) -> None:
    """The JSON first, then tables and pictures, which may fail."""
    args = session.args
    values = make_result("latency", {"settings": settings(args, session.threads)} | session.values)
    try:
        save_result(values, args.out)
        text = document(values)
        print(text)
        if args.tables is not None:
            args.tables.write_text(text, encoding="utf-8")
        if args.plots is not None:
            from benchmarks.latency.plots import draw

            draw(args.plots, values)
    finally:
        print(json.dumps(values))  # the last line


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run_command(run, get_parser((__doc__ or "").split("\n")[0]).parse_args(argv))
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs deaf to the first
        signal.signal(end, signal.default_int_handler)
    sys.exit(main())
