"""Measure clips per second of every stage of train.prepare, and estimate the cost of preparing VGGSound.

    python -m benchmarks.prepare VIDEOS SYSTEM      with the components of a system
    python -m benchmarks.prepare VIDEOS --official   with random weights, in the sizes of the official networks

One process times the stages one after the other on the same windows. `all` is the sum of the stages. A real run is
somewhat faster, because train.prepare reads and encodes at the same time. The figures for VGGSound are extrapolated.
The last line is one JSON object.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command, table
from benchmarks.common.stopwatch import Elapsed
from engines.contract import ModelConfig
from runtime.errors import OptionError
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch
    from torch import nn

    from train.checkpoint import system_config
    from train.data.shard_files import ShardWriter, Store
    from train.distributed import find_device
    from train.errors import CheckpointError
    from train.prepare.features import Arrays, encode_windows, load_components
    from train.prepare.filters import Filters, Sample, read_clip
    from train.prepare.shard_worker import ShardSettings, stored_arrays
    from train.prepare.sources import Files, folder

T = TypeVar("T")
VGGSOUND = 199_176  # clips in the published table; about 168,000 were still available to the authors of the paper


def paper_components() -> dict[str, nn.Module]:
    """The components of the paper, with random weights."""
    from train.models.beats import BEATs, BEATsConfig
    from train.models.clip_image import CLIP
    from train.models.dac import DAC, DACConfig
    from train.models.s3d import S3D, S3DConfig

    torch.manual_seed(0)
    clip = CLIP()  # first, because it may fail: open_clip needs a torchvision that fits torch
    parts = {"codec": DAC(DACConfig()), "frame_encoder": clip, "sync_encoder": S3D(S3DConfig())}
    return {name: part.eval() for name, part in (parts | {"audio_encoder": BEATs(BEATsConfig())}).items()}


def timed(run: Callable[[], T], device: str = "cpu") -> tuple[Elapsed, T]:
    """Run a function; return its time and its result."""
    begin = Elapsed.now()
    value = run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return Elapsed.now() - begin, value


def median(spent: Sequence[Elapsed], each: Sequence[int]) -> Elapsed:
    """Median time per window; `each` is the number of windows in every batch."""
    rows = [(s.wall / n, s.cpu / n) for s, n in zip(spent, each, strict=True)]
    return Elapsed(*map(float, np.median(rows, axis=0)))


def read_samples(args: argparse.Namespace, config: ModelConfig) -> tuple[Elapsed, list[Sample]]:
    """The first window of each clip that passes the filters, and the median time to open and read a clip."""
    times, samples = [], []
    for clip in folder(Files(args.videos))[0]:
        elapsed, item = timed(lambda clip=clip: next(read_clip(clip, config, Filters(min_seconds=1.0))))
        if isinstance(item, Sample):
            times.append(elapsed)
            samples.append(item)
        if len(samples) == args.limit:
            break
    if not samples:
        raise OptionError(f"no clip in {args.videos} passes the filters; give videos of at least 10 s with sound")
    return median(times, [1] * len(times)), samples


def encode(
    parts: Mapping[str, nn.Module], samples: Sequence[Sample], args: argparse.Namespace
) -> tuple[dict[str, Elapsed], list[Arrays]]:
    """The median time of each component per window, and the arrays of all windows."""
    windows = [sample.window for sample in samples]
    batches = [windows[first : first + args.batch] for first in range(0, len(windows), args.batch)]
    stages: dict[str, Elapsed] = {}
    arrays: list[Arrays] = [{} for _ in windows]
    for name, part in parts.items():
        if args.device.startswith("cuda"):  # warm-up: CUDA chooses and loads kernels
            encode_windows({name: part}, batches[0], args.device)
        results = [
            timed(lambda b=b, n=name, p=part: encode_windows({n: p}, b, args.device), args.device) for b in batches
        ]
        stages[name] = median([elapsed for elapsed, _ in results], [len(b) for b in batches])
        for made, more in zip(arrays, (a for _, encoded in results for a in encoded), strict=True):
            made |= more
    return stages, arrays


def write(samples: Sequence[Sample], arrays: Sequence[Arrays], job: ShardSettings) -> tuple[Elapsed, int]:
    """The time to write one sample into a shard on local disk, and its bytes."""
    ready = [stored_arrays(job, sample, made) for sample, made in zip(samples, arrays, strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        writer = ShardWriter(Store(scratch), "train-00000", "train", job.config.codebook_size)

        def run() -> None:
            with writer as shard:
                for n, (sample, made) in enumerate(zip(samples, ready, strict=True)):
                    shard.add(str(n), made, sample.record)

        elapsed, _ = timed(run)
    return median([elapsed], [len(samples)]), writer.info.bytes // len(samples)


def run(args: argparse.Namespace) -> None:
    if args.official == (args.system is not None):
        raise OptionError("give a system folder or --official, not both")
    if min(args.limit, args.batch, args.threads) < 1:
        raise OptionError("--limit, --batch and --threads must be 1 or more")
    torch.set_num_threads(args.threads)
    args.device = str(find_device(args.device, 0))
    loaded = paper_components() if args.official else load_components(args.system)
    parts = {name: part.to(args.device) for name, part in loaded.items()}
    config = system_config(parts)
    reading, samples = read_samples(args, config)
    stages, arrays = encode(parts, samples, args)
    writing, size = write(samples, arrays, ShardSettings("", "", config, Filters(), (), device=args.device))
    used = {name: describe(part, random=args.official) for name, part in parts.items()}
    report(args, {"read": reading} | stages | {"write": writing}, used, len(samples), size)


def describe(part: nn.Module, random: bool) -> dict[str, Any]:
    """Name, size and origin of a network."""
    count = sum(p.numel() for p in part.parameters())
    return {"network": type(part).__name__, "parameters": count, "weights": "random" if random else "of the system"}


def report(
    args: argparse.Namespace, stages: dict[str, Elapsed], used: dict[str, dict[str, Any]], count: int, size: int
) -> None:
    whole = sum(stages.values(), Elapsed())
    rows = [
        [
            f"{name} ({used[name]['network']})" if name in used else name,
            f"{s.wall:.3f}",
            f"{1 / s.wall:.2f}",
            f"{s.cpu:.3f}",
            f"{s.cpu / whole.cpu:.0%}",
        ]
        for name, s in (stages | {"all": whole}).items()
    ]
    print(f"{count} windows of 10 s, one process of {args.threads} threads, {args.device}, batch {args.batch}\n")
    print(table(["stage", "s a clip, median", "clips/s", "CPU s", "share of CPU"], rows))
    hours, core_hours, gigabytes = (VGGSOUND * x for x in (whole.wall / 3600, whole.cpu / 3600, size / 1e9))
    cost = "" if args.price is None else f", {hours * args.price:,.0f} at {args.price:g} an hour"
    estimate = f"{hours:,.0f} h of one such process{cost}; {core_hours:,.0f} core hours; {gigabytes:,.0f} GB"
    print(f"\nVGGSound, {VGGSOUND:,} clips, extrapolated: {estimate}")
    values = {
        "clips": count,
        "components": used,
        "official": args.official,
        "threads": args.threads,
        "batch": args.batch,
    }
    values |= {"device": args.device, "stages": {n: asdict(s) for n, s in stages.items()}, "bytes_per_clip": size}
    values["clips_per_second"] = {n: 1 / s.wall for n, s in stages.items()} | {"all": 1 / whole.wall}
    costs = {"clips": VGGSOUND, "process_hours": hours, "core_hours": core_hours, "gigabytes": gigabytes}
    finish(make_result("prepare", values | {"vggsound_extrapolated": costs | {"price_per_hour": args.price}}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.prepare", __doc__)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("system", type=Path, nargs="?", help="folder of trained or imported components")
    parser.add_argument(
        "--official", action="store_true", help="use random weights in the sizes of the official networks"
    )
    parser.add_argument("--limit", type=int, default=8, help="number of clips (default: 8)")
    parser.add_argument("--batch", type=int, default=1, help="windows per batch (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--price", type=float, help="price of one hour of one process; the estimate then includes the cost"
    )
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv), CheckpointError, ImportError)


if __name__ == "__main__":
    sys.exit(main())
