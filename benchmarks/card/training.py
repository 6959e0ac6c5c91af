"""Train one network of the pack from where its last run ended.

python -m benchmarks.card.training NAME --work DIR --out FILE

It is train.fit with the recipe and folders of the pack, so SIGTERM ends it with a state, and exit code 75.
"""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.card.home import step_of
from benchmarks.common.machine import ROOT
from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command
from runtime.errors import MaskVATError, OptionError

LINES = 100  # of the log that are kept


def start_folder(training: dict[str, Any], work: Path, pack: Path) -> Path:
    """The folder of the run: that of this machine, else the one that came with the pack, else a new one."""
    run = work / "runs" / training["name"]
    came = pack / training["run"] if training.get("run") else None
    if came is not None and step_of(came) > step_of(run):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(came, run)
    return run


def curve(run: Path) -> list[dict[str, Any]]:
    """Lines of the log, at most LINES, evenly, and all with a validation."""
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    every = max(1, len(lines) // LINES)
    return [x for n, x in enumerate(lines) if n % every == 0 or any(k.startswith("validation_") for k in x)]


def run(args: Namespace) -> None:
    from train import fit

    pack = args.pack or ROOT / "pack"
    trainings = {t["name"]: t for t in json.loads((pack / "pack.json").read_text(encoding="utf-8"))["trainings"]}
    if args.name not in trainings:
        raise OptionError(f"the pack has no training {args.name}; it has {', '.join(trainings) or 'none'}")
    training = trainings[args.name]
    folder = start_folder(training, args.work, pack)
    before = step_of(folder)
    changes = [
        word for key, path in training["set"].items() for word in ("--set", f"{key}={json.dumps(str(pack / path))}")
    ]
    args.code = fit.main([str(pack / training["recipe"]), "--out", str(folder), *changes])
    values = {"training": args.name, "first_step": before, "last_step": step_of(folder), "log": curve(folder)}
    finish(make_result("card-training", values | {"finished": args.code == 0}), args.out)
    if args.code not in (0, fit.STOPPED):
        raise MaskVATError(f"the training ended with exit code {args.code}; its words are above")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of train.fit: 75 if it was stopped and can go on."""
    parser = command_parser("benchmarks.card.training", __doc__)
    parser.add_argument("name", help="name of a training of the pack")
    parser.add_argument("--work", type=Path, required=True, help="folder with the runs")
    parser.add_argument("--pack", type=Path, help="folder of the pack (default: pack)")
    add_output_options(parser)
    args = parser.parse_args(argv)
    return run_command(run, args) or args.code


if __name__ == "__main__":
    sys.exit(main())
