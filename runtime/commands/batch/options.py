"""The flags of `maskvat batch`: those of one video that make sense for several, and its own."""

import argparse
import os
from argparse import Namespace
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engines.backends import BACKENDS, choose
from runtime.commands.batch.sources import Entry
from runtime.commands.make import add_options, get_parser
from runtime.commands.option_groups import CommandParser, FlagGroups, HelpFormatter, RaisingParser
from runtime.errors import OptionError

ONE_FILE = (  # flags that name one file, and those that need it
    "--output", "--mux", "--report", "--timeline", "--save", "--from", "--redo", "--vary", "--extend", "--other-clip",
    "--stream",
)  # fmt: skip
MAX_JOBS = 64
MOST_JOBS = 4  # that are chosen without --jobs: each takes about 200 MB, and more with several candidates


def get_batch_parser(prog: str = "maskvat batch") -> argparse.ArgumentParser:
    """The parser of `maskvat batch`."""
    parser = CommandParser(
        prog=prog,
        description="Make sounds for several videos. The bundle is opened once. A video that fails does not end the "
        "batch: it is listed at the end, and the exit code is 1.",
        formatter_class=HelpFormatter,
        usage="%(prog)s VIDEO|FOLDER|TABLE.csv ... [options]",
    )
    parser.add_argument("sources", type=Path, nargs="+", metavar="VIDEO|FOLDER|TABLE.csv",
        help="videos, folders (not the folders in them), and tables with the columns clip, range, prompt, avoid, "
        "output, of which only clip is needed")  # fmt: skip
    add = parser.add_argument_group("the batch").add_argument
    add("--out-dir", type=Path, metavar="FOLDER",
        help="folder for the outputs; it is made if it is missing (default: beside each video)")  # fmt: skip
    add("--format", choices=("wav", "flac"), default="wav", help="sound files to write, where no table names them")
    add("--mux", action="store_true", default=False,
        help="also write each video with the best sound, as NAME.sound.SUFFIX beside the sound file")  # fmt: skip
    add("--skip-existing", action="store_true", help="leave out videos whose outputs all exist")
    add("--keep-going", action="store_true",
        help="count a video that fails the checks before the work as failed, and make the others")  # fmt: skip
    add("--jobs", type=int, default=argparse.SUPPRESS, metavar="N",
        help=f"videos at the same time, 1 to {MAX_JOBS}, which share the CPU threads (default: one for each core, at "
        f"most {MOST_JOBS}, or 2 with --candidates; 1 on a GPU)")  # fmt: skip
    add("--summary", type=Path, metavar="FILE.json", help="write what became of each video")
    add_options(FlagGroups(parser, without=ONE_FILE))
    return parser


def parse_batch(argv: Sequence[str] | None) -> Namespace:
    """Parse a command line. Videos and flags may alternate. Exits with status 2 if it is not understood."""
    return get_batch_parser().parse_intermixed_args(argv)


def chosen_jobs(args: Namespace, videos: int) -> tuple[int, int]:
    """How many of `videos` to make at the same time, and the CPU threads of each engine; 0: the backend's choice.

    One video keeps only a part of the cores busy while its picture is read, while the host chooses tokens, and wherever
    threads wait for each other. Several with fewer threads each fill these gaps. The sound stays the same.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if BACKENDS[choose(args.backend)[0]].accelerated:
        most = 1  # videos would take turns with the engines' buffers
    else:
        most = min(cores, MOST_JOBS if args.candidates == 1 else 2)
    jobs = min(getattr(args, "jobs", most), videos)
    return jobs, args.threads or (max(1, cores // jobs) if jobs > 1 else 0)


def args_of(args: Namespace, entry: Entry) -> Namespace:
    """The arguments of one video, as `make` has them. Raises OptionError."""
    values = vars(args) | {"video": entry.video, "output": output_of(args, entry)}
    if values.pop("mux"):
        output = values["output"]
        values["mux"] = output.with_name(f"{output.stem}.sound{entry.video.suffix}")
    named = Namespace(**values)
    if not entry.flags:
        return named
    flags = [f"{flag}={value}" for flag, value in entry.flags.items()]
    parsed, unknown = _table_parser().parse_known_args([*flags, "--", str(entry.video)], named)
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise OptionError(f"the table gives a {flag[2:]}, and this version has no {flag}; leave the column out")
    return parsed


@cache
def _table_parser() -> argparse.ArgumentParser:
    return get_parser("", RaisingParser)


def output_of(args: Namespace, entry: Entry) -> Path:
    """The sound file of an entry."""
    if entry.output is not None:
        return entry.output
    folder = entry.video.parent if args.out_dir is None else args.out_dir
    return Path(folder) / f"{entry.video.stem}.{args.format}"
