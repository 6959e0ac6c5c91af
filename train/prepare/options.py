"""The options of `python -m train.prepare --source ...`, and their defaults on this machine."""

import argparse
import os
from dataclasses import fields
from pathlib import Path

import torch

from runtime.errors import OptionError
from train.prepare.filters import Filters
from train.prepare.shard_worker import BANDS
from train.prepare.sources import SOURCES

HELP = {
    "silence_peak": "drop windows with a lower peak, in dBFS",
    "silence_rms": "drop windows with a lower RMS level, in dBFS",
    "min_seconds": "drop windows with less sound or picture, in seconds; what is missing is padded",
    "min_fps": "drop clips with fewer frames per second, by the header or as counted",
    "max_gap": "drop clips whose sound and picture start further apart, in seconds",
    "max_still": "drop windows in which a larger share of frames equals the one before; 1 keeps still pictures",
    "still_difference": "mean difference (of 255) below which two frames are equal",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of data sets, machines and filters."""
    add_data_set_options(parser)
    add_machine_options(parser)
    add = parser.add_argument_group("filters").add_argument
    for threshold in fields(Filters):
        words = f"{HELP[threshold.name]} (default: {threshold.default})"
        add(f"--{threshold.name.replace('_', '-')}", type=float, default=threshold.default, metavar="X", help=words)


def add_data_set_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which clips become shards."""
    add = parser.add_argument_group("shards of a data set (docs/DATA.md)").add_argument
    add("--source", choices=sorted(SOURCES), help="write shards of this data set; `folder` takes any folder of videos")
    add("--table", type=Path, metavar="FILE", help="the data set's published list, such as vggsound.csv")
    add("--only", type=Path, action="append", default=[], metavar="LIST", help="keep only this list's clips or classes")
    add("--without", type=Path, action="append", default=[], metavar="LIST", help="drop this list's clips or classes")
    add("--seed", type=int, metavar="N", default=0, help="seed of the splits and of the order of clips (default: 0)")
    add(
        "--validation",
        type=int,
        metavar="N",
        help="number of clips for validation (default: 535 for vggsound, otherwise 1 in 20)",
    )
    add(
        "--test",
        type=int,
        metavar="N",
        help="number of videos for testing (default: 103 for music21, otherwise 0; vggsound's list names its own)",
    )
    add("--shard-clips", type=int, metavar="N", default=128, help="clips per shard (default: 128)")
    add(
        "--audio-bands",
        choices=BANDS,
        default="all",
        help="`mean` averages the audio features' 8 bands, which saves space but cannot train SCAV (default: all)",
    )
    add("--check", action="store_true", help="read all finished shards, and make damaged ones again")


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the work is done."""
    add = parser.add_argument_group("machines").add_argument
    add(
        "--processes",
        type=int,
        metavar="N",
        help="worker processes (default: one per GPU, or one per 4 cores; 0 works in this process)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--batch", type=int, metavar="N", help="windows encoded at once (default: 8 on a GPU, otherwise 1)")
    add("--ray", metavar="ADDRESS", help="run on this Ray cluster: auto, or HOST:PORT")
    add(
        "--gpus-per-task",
        type=float,
        default=0.0,
        metavar="X",
        help="GPUs that each task requests from Ray (default: 0)",
    )


def resolve_options(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the defaults for this machine, in place. Raises OptionError for values that are not allowed."""
    if args.frames:
        raise OptionError("--frames does not work with --source; leave one of them out")
    if args.source == "vggsound" and args.test is not None:
        raise OptionError("--test does not work with vggsound, whose table names the test clips; leave it out")
    for name, least in (("validation", 0), ("test", 0), ("shard_clips", 1), ("processes", 0), ("batch", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise OptionError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and args.device != "cpu" else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if args.processes is None:
        args.processes = gpus or max(1, cores // 4)
    if args.threads is None:
        args.threads = max(1, cores // max(args.processes, 1))
    if args.batch is None:
        args.batch = 8 if gpus else 1
    return args
