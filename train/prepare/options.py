"""Options of `python -m train.prepare --source ...`, and what they are where they are not given."""

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
    "silence_peak": "dBFS; windows whose peak is lower are left out",
    "silence_rms": "dBFS; windows whose RMS level is lower are left out",
    "min_seconds": "of sound and picture in a window; the rest is filled up",
    "min_fps": "frames per second, by the header and as counted",
    "max_gap": "seconds between the starts of sound and picture",
    "max_still": "share of frames that equal the one before, 0 to 1; 1 keeps still pictures",
    "still_difference": "mean difference, of 255, below which frames are equal",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("shards of a data set (docs/DATA.md)").add_argument
    add("--source", choices=sorted(SOURCES), help="write shards of this data set's clips, or of any folder's")
    add("--table", type=Path, help="vggsound.csv, AudioSet's segments or MUSIC21_solo_videos.json, as published")
    add("--only", type=Path, action="append", default=[], metavar="LIST", help="keep clips or classes of this list")
    add("--without", type=Path, action="append", default=[], metavar="LIST", help="leave out those of this list")
    add("--seed", type=int, default=0, help="of the splits and of the order in the shards (default: 0)")
    add("--validation", type=int, help="training clips held out (default: 535 of vggsound, else a twentieth)")
    add("--test", type=int, help="videos held out, by class (default: 103 of music21, else none; vggsound has its own)")
    add("--shard-clips", type=int, default=128, help="clips of a shard (default: 128)")
    add("--audio-bands", choices=BANDS, default="all", help="mean: an eighth of the size, not for SCAV (default: all)")
    add("--check", action="store_true", help="read the shards that are there, and make damaged ones again")
    add = parser.add_argument_group("machines").add_argument
    add("--processes", type=int, help="on this machine (default: one per GPU, or per 4 cores; 0: no other process)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--batch", type=int, help="windows encoded at once (default: 8 on a GPU, else 1)")
    add("--ray", metavar="ADDRESS", help="run on this Ray cluster: auto, or HOST:PORT")
    add("--gpus-per-task", type=float, default=0.0, help="that a task asks of the Ray cluster (default: 0)")
    add = parser.add_argument_group("filters").add_argument
    for threshold in fields(Filters):
        words = f"{HELP[threshold.name]} (default: {threshold.default})"
        add(f"--{threshold.name.replace('_', '-')}", type=float, default=threshold.default, help=words)


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """The options with their defaults for this machine. Raises OptionError for numbers that cannot be."""
    if args.frames:
        raise OptionError("--frames has no shards; leave --source out")
    if args.source == "vggsound" and args.test is not None:
        raise OptionError("--test is not for vggsound, whose table says which clips are for testing")
    for name, least in (("validation", 0), ("test", 0), ("shard_clips", 1), ("processes", 0), ("batch", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise OptionError(f"--{name.replace('_', '-')} is {value}; it must be {least} or more")
    cards = torch.cuda.device_count() if torch.cuda.is_available() and args.device != "cpu" else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if args.processes is None:
        args.processes = cards or max(1, cores // 4)
    if args.threads is None:
        args.threads = max(1, cores // max(args.processes, 1))
    if args.batch is None:
        args.batch = 8 if cards else 1
    return args
