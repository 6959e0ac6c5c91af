"""Measure the time to generate a sound, and compare it with PyTorch and with the limits of the machine.

    python -m benchmarks.latency [--quick]

Measures points of a grid of step counts, candidates and clip lengths. Every point runs in a new process, which imports
`runtime`, loads the bundle, generates one sound (cold) and then --repeat sounds (warm). By default it measures the
bundle that ships with MaskVAT and pairs with PyTorch; this takes a few minutes on two cores.

Prints Markdown tables (docs/BENCHMARKS.md explains them). Notes on stderr say what was left out and why. The last line
is one JSON object.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.random_system import has_shipped_bundle
from benchmarks.common.report import finish, make_result, run_command, save_result
from benchmarks.latency.compare import compare, comparison_document, read_result
from benchmarks.latency.options import check, get_parser, settings, workloads
from benchmarks.latency.points import Workload
from benchmarks.latency.session import Session, card_in_torch
from benchmarks.latency.subjects import Subject, cached_export, named_folders, random_weights_subject
from benchmarks.latency.tables import document
from benchmarks.latency.utilisation import add_shares
from engines.backends import availability, choose
from engines.manifest import MINI, Manifest
from engines.plans import default_cache
from runtime.errors import MaskVATError, OptionError


def subjects(session: Session, cache: Path) -> list[tuple[Subject, Subject | None]]:
    """The bundles to measure, each with the system that PyTorch runs in the pairs.

    For the bundle that ships with MaskVAT that is a system of the same size with random weights.
    """
    args = session.args
    chosen: list[tuple[Subject, Subject | None]] = []
    for name, folder in named_folders(args.system, "--system").items():
        subject = Subject(name, cached_export(folder, name, cache), folder)
        chosen.append((subject, subject))
    for name, folder in named_folders(args.engines, "--engines").items():
        chosen.append((Subject(name, folder), None))
        session.note(f"no PyTorch baselines for {name}; give its system folder with --system to get them")
    for size in args.sizes or ([] if chosen else ["mini"]):
        twin, shipped = None, size == "mini" and has_shipped_bundle()
        if not shipped or args.baselines != "none":
            try:
                twin = random_weights_subject(size, cache)
            except OptionError as error:
                session.note(str(error))
        if size == "mini" and not shipped:
            session.note("mini has random weights, because the shipped bundle is not in this checkout")
        if shipped:
            chosen.append((Subject("mini", MINI), twin))
        elif twin is not None:
            chosen.append((twin, twin))
    return chosen


def measure(session: Session, cache: Path) -> None:
    """Measure everything, one size after the other."""
    from benchmarks.latency.roofline import machine_floor

    args, chosen = session.args, subjects(session, cache)
    session.values["machine_floor"] = machine_floor(session.threads, card_in_torch() and session.backends != ["cpu"])
    for subject, twin in chosen:
        try:
            measure_size(session, subject, twin)
        finally:  # also after an error, for the points measured so far
            add_shares(session.values, subject.name, subject.config, session.gflop.get(subject.name, {}))
    if args.clips is None:
        session.note("no onset F1; give a folder of clips with true sound with --clips to get it")


def measure_size(session: Session, subject: Subject, twin: Subject | None) -> None:
    """Measure floors, points, pairs, profiles, end-to-end figures and quality of one size."""
    from benchmarks.latency.at_once import measure_at_once
    from benchmarks.latency.encoder_flops import window_gflop
    from benchmarks.latency.end_to_end import RunOptions, measure_bars
    from benchmarks.latency.first_sound import measure_first_sound
    from benchmarks.latency.op_profile import profile_steps

    args, name = session.args, subject.name
    if args.guidance and Manifest.read(subject.bundle).distilled_guidance:
        raise OptionError(f"the guidance of {name} is distilled, so it takes one pass; measure it with --guidance 0")
    session.record_networks(subject, twin)
    if twin is not None and twin.system is not None:
        session.gflop[name] = window_gflop(twin.system, twin.config, 2 if args.guidance else 1)
    for measured in dict.fromkeys((subject, twin or subject)):
        session.measure_floors(measured)
    if not args.no_points:
        session.measure_points(subject, workloads(args, first=name == "mini" or subject.trained))
    if twin is not None and args.baselines != "none":
        steps = args.pair_steps if args.pair_steps is not None else (32 if name == "mini" else 8)
        session.measure_pairs(twin, Workload(steps))
    for profiled in () if args.no_profiles else dict.fromkeys((subject, twin or subject)):
        profile_steps(session, profiled)
    options = RunOptions(subject.bundle, (args.backend or ["auto"])[0], args.precision or "auto", args.threads)
    if args.bars and "bars" not in session.values:  # for the first bundle only
        session.values["bars"] = {}
        for name_of_figure, value in measure_bars(options, session.folder, args.repeat):
            session.values["bars"][name_of_figure] = value
    if args.first_sound and "first_sound" not in session.values:
        session.values["first_sound"] = measure_first_sound(options, session.folder, args.repeat)
    if args.at_once and "at_once" not in session.values:
        session.values["at_once"] = measure_at_once(options, session.folder, args.repeat, session.threads)
    if not args.no_quality and not args.no_points:  # last, because its memory use could disturb timings
        session.measure_quality(subject)


def run(args: argparse.Namespace) -> None:
    if args.compare:
        comparison = compare(*(read_result(path) for path in args.compare))
        print(comparison_document(comparison))
        finish(comparison, args.out)
        return
    check(args)
    backends = args.backend or [name for name, reason in availability().items() if reason is None]
    for name in backends:
        choose(name)  # raises if it cannot be used
    cache = args.cache or default_cache() / "latency"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as folder:
        session = Session(args, Path(folder), backends)
        try:
            measure(session, cache)
        except BaseException as error:  # Ctrl-C, too
            if session.measured:
                session.note(f"ended early by {type(error).__name__}; the result has what was measured until then")
            raise
        finally:
            if session.measured:
                report(session)
    if not session.measured:
        raise MaskVATError("nothing could be measured; see the notes above")


def report(session: Session) -> None:
    """Write the JSON result first, because tables and plots may fail."""
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
        return run_command(run, get_parser(__doc__).parse_args(argv))
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # background jobs of a shell start with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
