"""Test, measure and train on a machine with an NVIDIA GPU and no network, for some minutes at a time.

    python -m benchmarks.card --pack FOLDER                 on a machine with a network: make the folder that travels
    python -m benchmarks.card --time-limit 540              there, in that folder: do what is not done yet
    python -m benchmarks.card --rehearse                    on any machine: try all of it on a made-up GPU

It first prints what it will do and how long each part may take, and writes the result of each part at once. The same
command goes on where the last one ended. docs/CARD.md is its guide.

Exit status: 0 if all parts are done or cannot be done here, 75 if some wait for the next run, 1 after an error.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime.errors import MaskVATError, OptionError

ROOT = Path(__file__).resolve().parents[2]
SITE = "MASKVAT_CARD_SITE"  # set in the process that has the pack's wheels
NAME = re.compile(r"[a-z0-9_-]{1,40}")


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--time-limit", type=float, metavar="SECONDS", help="end by then, with everything written (default: none)")
    add("--max-output", metavar="FILES:MB", default="8:16",
        help="at most so many files of at most so many MB each in --out (default: %(default)s)")  # fmt: skip
    add("--work", type=Path, default=Path("card-work"), help="folder of this machine (default: %(default)s)")
    add("--out", type=Path, default=Path("card-out"), help="folder to take home (default: %(default)s)")
    add("--only", nargs="+", metavar="PART", help="only these parts, also if they are done; * matches any letters")
    add("--plan", action="store_true", help="only say what would be done")
    add("--rehearse", action="store_true", help="try every branch on a made-up GPU; needs none, and no pack")
    add("--join", type=Path, nargs=2, metavar=("OUT", "FOLDER"),
        help="at home: put the results and states of --out together in a new folder")  # fmt: skip
    pack = parser.add_argument_group("options of --pack")
    add = pack.add_argument
    add("--pack", type=Path, metavar="FOLDER", help="make the folder that travels")
    add("--pack-limit", type=float, default=55, metavar="MB", help="largest size of a volume (default: %(default)s)")
    add("--volumes", type=int, default=1, help="divide the pack into so many folders (default: %(default)s)")
    add("--with-bundle", action="store_true", help="take the shipped bundle along (50 MB)")
    add("--have", type=Path, metavar="FILE", help="output of `pip freeze` on the machine with the GPU")
    add("--python", default="3.12", help="Python version there (default: %(default)s)")
    add("--no-wheels", action="store_true", help="take no wheels along")
    add("--train", nargs="+", default=[], metavar="NAME=RECIPE", help="recipes of train.fit, with their data")
    add("--run", nargs="+", default=[], metavar="NAME=DIR", help="runs of these recipes to go on with")
    add("--results", type=Path, metavar="OUT", help="the --out folder of the last run: its parts are not done again")
    return parser


def named(texts: Sequence[str], option: str) -> dict[str, Path]:
    """NAME=PATH by name. Raises OptionError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not NAME.fullmatch(name) or not Path(path).exists():
            raise OptionError(f"{option} {text}: give NAME=PATH, a name of a-z, 0-9, - and _, and a path that exists")
        found[name] = Path(path)
    return found


def with_wheels(work: Path, arguments: Sequence[str]) -> None:
    """Install the wheels of the pack beside the machine's own packages, and start this command again with them."""
    wheels = sorted((ROOT / "pack" / "wheels").glob("*.whl"))
    if not wheels or SITE in os.environ:
        return
    site = work.resolve() / f"site-{platform.python_version()}"
    ready = site / "ready.json"
    names = [wheel.name for wheel in wheels]
    if not ready.is_file() or json.loads(ready.read_text(encoding="utf-8")) != names:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
        command = [*pip, "--no-compile", "--upgrade", "--target", str(site), *map(str, wheels)]
        if subprocess.run(command).returncode:
            raise MaskVATError("the wheels of the pack cannot be installed; pip's words are above")
        ready.write_text(json.dumps(names), encoding="utf-8")
    environment = os.environ | {SITE: str(site), "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks.card", *arguments], environment)


def make_pack(args: argparse.Namespace) -> int:
    from train.extras import requires_extra

    with requires_extra("bench", __name__):
        from benchmarks.card import pack

    trainings, runs = named(args.train, "--train"), named(args.run, "--run")
    options = pack.Options(args.pack, trainings, runs, args.results, args.have, args.python, args.pack_limit)
    pack.make(replace(options, volumes=args.volumes, with_bundle=args.with_bundle, with_wheels=not args.no_wheels))
    return 0


def run(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Do what the options say; returns the exit status."""
    if args.pack is not None:
        return make_pack(args)
    if args.join is not None:
        from benchmarks.card.home import unpack

        card, runs = unpack(*args.join)
        print(f"{card}\n" + "".join(f"{folder}\n" for folder in runs.values()), end="")
        return 0
    if args.rehearse:
        from benchmarks.card.rehearse import rehearse

        return rehearse()
    from benchmarks.card.command import measure
    from benchmarks.card.pieces import join_all

    if problems := join_all(ROOT):
        raise MaskVATError(f"the pack is not complete: {'; '.join(problems)}; copy all volumes over each other")
    with_wheels(args.work, arguments)
    return measure(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return run(get_parser().parse_args(arguments), arguments)
    except (MaskVATError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on where this one ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that parts are stopped and results are written
    sys.exit(main())
