"""Calculate how many clips a card makes per hour, and how long a user waits, and check it with a simulation.

    python -m benchmarks.scaling RESULT.json [--card TFLOPS GBPS]

RESULT.json is a result of benchmarks.latency, or the card.json of benchmarks.card, with points of 1, 4 and 10
candidates: their seconds by stage are the measured times. --card calculates them for a card that nobody has measured.

Prints clips per hour for every batch size, seconds of a clip at several loads, and the round trip below which a server
that joins the steps of several clients (Triton) pays. The last line is one JSON object. docs/SCALING.md explains it.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.report import (
    add_output_options,
    command_parser,
    finish,
    format_number,
    make_result,
    run_command,
    table,
)
from benchmarks.scaling.model import Stages, card_on_paper, chosen_points, stages_from
from benchmarks.scaling.simulate import simulate
from engines.contract import SIZES
from runtime.errors import OptionError

HOUR = 3600


def read(path: Path) -> dict[str, Any]:
    """Read a result. Raises OptionError."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["benchmark"] not in ("latency", "card"):
            raise ValueError(f"it is a result of benchmarks.{values['benchmark']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path} cannot be used ({error}); give a result of benchmarks.latency or card") from error
    return values


def stages_for(args: Namespace, values: dict[str, Any]) -> Stages:
    """The stages that the options ask for. Raises OptionError."""
    wanted = {"size": args.size, "backend": args.backend, "precision": args.precision, "steps": args.steps}
    points = chosen_points(values, wanted | {"clip_seconds": 10})
    if args.card is None:
        return stages_from(points)
    first = min(points, key=lambda p: p["candidates"])
    return card_on_paper(values, first, SIZES[args.size]["n_blocks"], *args.card)


def full_load(stages: Stages, batches: Sequence[int], cores: int) -> list[dict[str, Any]]:
    """Clips per hour of each batch size, on paper and simulated with all clips there from the start."""
    rows = []
    for batch in batches:
        found = simulate(stages, float("inf"), batch, cores)
        row = {"batch": batch, "model": stages.most(batch, cores) * HOUR, "simulated": found.rate * HOUR}
        rows.append(row | {"service_seconds": stages.service(batch), "busy": found.busy})
    return rows


def at_loads(stages: Stages, most: int, loads: Sequence[float], cores: int) -> list[dict[str, Any]]:
    """Seconds of a clip, one at a time and joined, at shares of the clips per hour that are made one at a time."""
    alone = stages.most(1, cores)
    rows = []
    for load in loads:
        for batch in (1, most):
            expected = stages.latency(load * alone, batch > 1, cores)
            if load * alone < 0.97 * stages.most(batch, cores):  # otherwise the queue only grows
                found = simulate(stages, load * alone, batch, cores)
                row = {"load": load, "batch": batch, "clips_per_hour": load * alone * HOUR}
                rows.append(row | {"model": expected, "simulated": asdict(found)})
    return rows


def tables(values: dict[str, Any]) -> str:
    """The three tables as text."""
    full = [[str(r["batch"]), f"{r['service_seconds']:.3f}", f"{r['model']:,.0f}", f"{r['simulated']:,.0f}",
             f"{r['busy']:.0%}"] for r in values["full_load"]]  # fmt: skip
    loads = [[f"{r['load']:.1f}", str(r["batch"]), f"{r['clips_per_hour']:,.0f}", format_number(r["model"], ".3f"),
              *(format_number(r["simulated"][k], ".3f") for k in ("mean", "p95")),
              format_number(r["simulated"]["batch"])] for r in values["loads"]]  # fmt: skip
    trips = [[str(b), f"{1000 * seconds:.3f}"] for b, seconds in values["triton_pays_below_seconds"].items()]
    parts = (
        (("batch", "card seconds", "clips/hour, model", "simulated", "card busy"), full),
        (("load", "batch at most", "clips/hour", "seconds, model", "simulated", "95 %", "joined"), loads),
        (("clips joined", "a server pays below, ms per step"), trips),
    )
    return "\n\n".join(table(header, rows) for header, rows in parts)


def run(args: Namespace) -> None:
    """Calculate, simulate, print."""
    if min(args.batches) < 1 or args.cores < 1 or not all(0 < load for load in args.loads):
        raise OptionError("--batches and --cores must be at least 1, --loads above 0")
    if args.card is not None and min(args.card) <= 0:
        raise OptionError("--card needs two numbers above 0: TFLOP/s that are reached, and GB/s")
    stages = stages_for(args, read(args.result))
    values: dict[str, Any] = {
        "stages": asdict(stages),
        "options": {k: getattr(args, k) for k in ("size", "backend", "precision", "steps", "cores", "card")},
        "full_load": full_load(stages, args.batches, args.cores),
        "loads": at_loads(stages, max(args.batches), args.loads, args.cores),
        "triton_pays_below_seconds": {str(b): stages.pays(b) for b in args.batches if b > 1},
    }
    print(f"seconds of a clip: {', '.join(f'{k} {v:.4g}' for k, v in asdict(stages).items())}")
    print(tables(values))
    finish(make_result("scaling", values | {"of": args.result.name}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("benchmarks.scaling", __doc__)
    add = parser.add_argument
    add("result", type=Path, metavar="RESULT", help="result of benchmarks.latency or benchmarks.card")
    add("--size", choices=SIZES, default="mini", help="size of the points (default: %(default)s)")
    add("--backend", default="cpu", help="backend of the points (default: %(default)s)")
    add("--precision", default="int8", help="precision of the points (default: %(default)s)")
    add("--steps", type=int, default=8, help="steps of the points (default: %(default)s)")
    add("--card", type=float, nargs=2, metavar=("TFLOPS", "GBPS"),
        help="calculate the times of a card that reaches these rates, in place of the measured ones")  # fmt: skip
    add("--cores", type=int, default=8, help="cores beside a GPU (default: %(default)s)")
    add("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="largest numbers of clips that are joined")
    add("--loads", type=float, nargs="+", default=[0.3, 0.6, 0.9, 1.2],
        help="clips that arrive, as shares of the most without joining")  # fmt: skip
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
