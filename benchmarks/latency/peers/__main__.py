"""Measure published systems beside ours: seconds for a sound of about 8 s, by stage, on this machine's CPU.

    python -m benchmarks.latency.peers --ours mini base
    python -m benchmarks.latency.peers --mmaudio FOLDER --bigvgan FOLDER
    python -m benchmarks.latency.peers --v-aura FOLDER

The folders are checkouts of the systems' own code (docs/PEERS.md). Their networks have random weights, because speed
does not depend on weights. Without --whole, only a part of calls that are alike is computed, and the rest is charged.
With --table nothing is measured; it prints the table of results of --out. The last line is one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.machine import physical_cores
from benchmarks.common.random_system import RANDOM
from benchmarks.common.report import (
    add_output_options,
    check_writable,
    command_parser,
    make_result,
    run_command,
    save_result,
)
from benchmarks.latency.peers import systems, tables
from benchmarks.latency.peers.mmaudio import VOCODER
from benchmarks.latency.peers.v_aura import whole_units
from benchmarks.latency.points import WorkerError, Workload
from benchmarks.latency.video import write_video
from engines.plans import default_cache
from runtime.errors import MaskVATError, OptionError

LONGEST = 60  # seconds


def get_parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.latency.peers", __doc__)
    add = parser.add_argument
    add("--ours", nargs="*", choices=RANDOM, help="our sizes; mini is the shipped bundle, others have random weights "
        "and are made once (default: mini, unless a peer is given)")  # fmt: skip
    add("--steps", type=int, nargs="+", default=[8, 32], help="our numbers of steps (default: 8 32)")
    add("--mmaudio", type=Path, metavar="FOLDER", help="checkout of MMAudio: its small model")
    add("--bigvgan", type=Path, metavar="FOLDER",
        help="checkout of NVIDIA's BigVGAN, for MMAudio at 44.1 kHz (default: MMAudio at 16 kHz)")  # fmt: skip
    add("--v-aura", type=Path, metavar="FOLDER", help="checkout of V-AURA")
    add("--precision", choices=("auto", "fp32"), default="auto",
        help="of the peers: auto is what their own demo or script uses (default: auto)")  # fmt: skip
    add("--seconds", type=float, default=8.0, help="length of the sound; V-AURA rounds up to 0.64 s (default: 8)")
    add("--whole", action="store_true", help="compute all of the peers' work; minutes to hours")
    add("--repeat", type=int, default=1, help="sounds of each system; the fastest counts (default: 1)")
    add("--threads", type=int, default=0, help="CPU threads (default: number of cores)")
    add("--cache", type=Path, help="folder for our bundles with random weights (default: the user's cache folder)")
    add("--table", type=Path, nargs="+", metavar="JSON", help="measure nothing; print the table of these results")
    add("--docs", type=Path, metavar="FILE", help="also write the table into this guide")
    add_output_options(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise OptionError for bad options before anything is measured."""
    if args.repeat < 1 or not 0 <= args.threads <= 1024:
        raise OptionError(f"--repeat {args.repeat}, --threads {args.threads}: at least 1, and from 0 to 1024")
    if not 1 <= args.seconds <= LONGEST:
        raise OptionError(f"--seconds is {args.seconds:g}; it must be from 1 to {LONGEST}")
    for steps in args.steps:
        Workload(steps).sampling(systems.GUIDANCE)
    for option in systems.PEERS:
        if (folder := getattr(args, option)) is not None:
            systems.check_folder(option, folder)
    if args.bigvgan is not None and not (args.bigvgan / VOCODER).is_file():
        raise OptionError(
            f"--bigvgan {args.bigvgan} lacks {VOCODER}; give the folder of a checkout of NVIDIA's BigVGAN"
        )
    if args.bigvgan is not None and args.mmaudio is None:
        raise OptionError("--bigvgan is a part of MMAudio; give --mmaudio FOLDER, too")


def our_rows(args: argparse.Namespace, size: str, threads: int, video: Path) -> list[dict[str, Any]]:
    cache = args.cache or default_cache() / "latency"
    cache.mkdir(parents=True, exist_ok=True)
    bundle, shipped = systems.bundle_of(size, cache)
    rows = systems.measure_ours(size, args.steps, args.repeat, threads, bundle, video)
    weights = "the shipped bundle" if shipped else "random weights"
    return [row | {"name": f"ours, {size}", "weights": weights} for row in rows]


def peer_row(args: argparse.Namespace, option: str, threads: int, video: Path) -> dict[str, Any]:
    """One row of a peer."""
    order = {"folder": str(getattr(args, option).resolve()), "threads": threads, "seconds": args.seconds}
    order |= {"bigvgan": str(args.bigvgan.resolve()) if args.bigvgan else None, "video": str(video)}
    order |= {name: getattr(args, name) for name in ("precision", "repeat", "whole")}
    return systems.measure_peer(option, order) | {"weights": "random weights"}


def measure(args: argparse.Namespace, threads: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all systems, and what could not be measured."""
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    peers = [option for option in systems.PEERS if getattr(args, option) is not None]
    with tempfile.TemporaryDirectory() as folder:
        exact, longer = Path(folder) / "exact.mp4", Path(folder) / "longer.mp4"
        write_video(exact, args.seconds)
        write_video(longer, whole_units(args.seconds) + 1)  # peers take its beginning
        for size in args.ours if args.ours is not None else ([] if peers else ["mini"]):
            rows += our_rows(args, size, threads, exact)
        for option in peers:
            try:
                rows.append(peer_row(args, option, threads, longer))
            except WorkerError as error:
                missing.append(str(error))
                print(f"note: {error}", file=sys.stderr)
    return rows, missing


def run(args: argparse.Namespace) -> None:
    if args.table is not None:
        text = tables.block(tables.read_results(args.table))
        print(text)
        if args.docs is not None:
            tables.write_block(args.docs, text)
        return
    check(args)
    check_writable(args.docs, "--docs")
    threads = args.threads or physical_cores()
    rows, missing = measure(args, threads)
    if not rows:
        raise MaskVATError("nothing could be measured; see the notes above")
    settings = {name: getattr(args, name) for name in ("seconds", "repeat", "whole", "precision")}
    values = make_result("peers", {"settings": settings | {"threads": threads}, "systems": rows, "missing": missing})
    try:
        save_result(values, args.out)
        text = tables.block([values])
        print(text)
        if args.docs is not None:
            tables.write_block(args.docs, text)
    finally:
        print(json.dumps(values))  # the last line
    if missing:
        raise MaskVATError(f"{len(missing)} of the systems could not be measured; see the notes above")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(run, get_parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
