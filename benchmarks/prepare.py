"""Clips per second of every stage of train.prepare, and what VGGSound costs at that speed.

    python -m benchmarks.prepare CLIPS SYSTEM       with a system's components
    python -m benchmarks.prepare CLIPS --official   with random weights in the official networks' sizes

One process, alone: stages are timed one after the other on the same windows. The whole is their sum; reading overlaps
with encoding in train.prepare, so that a run is somewhat faster. VGGSound's figures are extrapolated, not measured.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.common.report import command, finish, result, table
from benchmarks.common.stopwatch import Spent
from engines.contract import ModelConfig
from runtime.errors import OptionError
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch
    from torch import nn

    from train.checkpoint import system_config
    from train.data.shards import ShardWriter, Store
    from train.distributed import find_device
    from train.errors import CheckpointError
    from train.prepare.features import Arrays, encode_windows, load_components
    from train.prepare.filters import Filters, Sample, read_clip
    from train.prepare.shard_worker import ShardSettings, stored_arrays
    from train.prepare.sources import Files, folder

T = TypeVar("T")
VGGSOUND = 199_176  # clips of the published table; the paper had about 168,000 of them left


def official() -> dict[str, nn.Module]:
    """The paper's components with random weights."""
    from train.models.beats import BEATs, BEATsConfig
    from train.models.clip_image import CLIP
    from train.models.dac import DAC, DACConfig
    from train.models.s3d import S3D, S3DConfig

    torch.manual_seed(0)
    clip = CLIP()  # first, for it is the one that may be missing: open_clip needs a torchvision that fits torch
    parts = {"codec": DAC(DACConfig()), "frame_encoder": clip, "sync_encoder": S3D(S3DConfig())}
    return {name: part.eval() for name, part in (parts | {"audio_encoder": BEATs(BEATsConfig())}).items()}


def timed(run: Callable[[], T], device: str = "cpu") -> tuple[Spent, T]:
    """What running it took, and what came out."""
    begin = Spent.now()
    value = run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return Spent.now() - begin, value


def median(spent: Sequence[Spent], each: Sequence[int]) -> Spent:
    """Median per window of batches of `each` windows."""
    rows = [(s.wall / n, s.cpu / n) for s, n in zip(spent, each, strict=True)]
    return Spent(*map(float, np.median(rows, axis=0)))


def read_samples(args: argparse.Namespace, config: ModelConfig) -> tuple[Spent, list[Sample]]:
    """The first windows that pass the filters, each with its clip's file opened anew."""
    spent, samples = [], []
    for clip in folder(Files(args.clips))[0]:
        took, item = timed(lambda clip=clip: next(read_clip(clip, config, Filters(min_seconds=1.0))))
        if isinstance(item, Sample):
            spent.append(took)
            samples.append(item)
        if len(samples) == args.limit:
            break
    if not samples:
        raise OptionError(f"no clip in {args.clips} passes the filters; give videos of 10 s with sound")
    return median(spent, [1] * len(spent)), samples


def encode(
    parts: Mapping[str, nn.Module], samples: Sequence[Sample], args: argparse.Namespace
) -> tuple[dict[str, Spent], list[Arrays]]:
    """What each component takes per window, and the arrays of all windows."""
    windows = [sample.window for sample in samples]
    batches = [windows[first : first + args.batch] for first in range(0, len(windows), args.batch)]
    stages: dict[str, Spent] = {}
    arrays: list[Arrays] = [{} for _ in windows]
    for name, part in parts.items():
        if args.device.startswith("cuda"):  # kernels are chosen and loaded
            encode_windows({name: part}, batches[0], args.device)
        results = [
            timed(lambda b=b, n=name, p=part: encode_windows({n: p}, b, args.device), args.device) for b in batches
        ]
        stages[name] = median([spent for spent, _ in results], [len(b) for b in batches])
        for made, more in zip(arrays, (a for _, encoded in results for a in encoded), strict=True):
            made |= more
    return stages, arrays


def write(samples: Sequence[Sample], arrays: Sequence[Arrays], job: ShardSettings) -> tuple[Spent, int]:
    """What a sample of a shard on local disk takes, and its bytes."""
    ready = [stored_arrays(job, sample, made) for sample, made in zip(samples, arrays, strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        writer = ShardWriter(Store(scratch), "train-00000", "train", job.config.codebook_size)

        def run() -> None:
            with writer as shard:
                for n, (sample, made) in enumerate(zip(samples, ready, strict=True)):
                    shard.add(str(n), made, sample.record)

        spent, _ = timed(run)
    return median([spent], [len(samples)]), writer.info.bytes // len(samples)


def run(args: argparse.Namespace) -> None:
    if args.official == (args.system is not None):
        raise OptionError("give a system folder or --official, not both")
    if min(args.limit, args.batch, args.threads) < 1:
        raise OptionError("--limit, --batch and --threads must be 1 or more")
    torch.set_num_threads(args.threads)
    args.device = str(find_device(args.device, 0))
    loaded = official() if args.official else load_components(args.system)
    parts = {name: part.to(args.device) for name, part in loaded.items()}
    config = system_config(parts)
    reading, samples = read_samples(args, config)
    stages, arrays = encode(parts, samples, args)
    writing, size = write(samples, arrays, ShardSettings("", "", config, Filters(), (), device=args.device))
    used = {name: described(part, random=args.official) for name, part in parts.items()}
    report(args, {"read": reading} | stages | {"write": writing}, used, len(samples), size)


def described(part: nn.Module, random: bool) -> dict[str, Any]:
    """Which network it is."""
    count = sum(p.numel() for p in part.parameters())
    return {"network": type(part).__name__, "parameters": count, "weights": "random" if random else "of the system"}


def report(
    args: argparse.Namespace, stages: dict[str, Spent], used: dict[str, dict[str, Any]], count: int, size: int
) -> None:
    whole = sum(stages.values(), Spent())
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
    price = "" if args.price is None else f", {hours * args.price:,.0f} at {args.price:g} an hour"
    told = f"{hours:,.0f} h of one such process{price}; {core_hours:,.0f} core hours; {gigabytes:,.0f} GB"
    print(f"\nVGGSound, {VGGSOUND:,} clips, extrapolated: {told}")
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
    finish(result("prepare", values | {"vggsound_extrapolated": costs | {"price_per_hour": args.price}}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("system", type=Path, nargs="?", help="folder of trained or imported components")
    parser.add_argument("--official", action="store_true", help="random weights in the official networks' sizes")
    parser.add_argument("--limit", type=int, default=8, help="clips to use (default: 8)")
    parser.add_argument("--batch", type=int, default=1, help="windows encoded at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--price", type=float, help="of an hour of the machine's share that one process has")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    return command(run, parser.parse_args(argv), CheckpointError, ImportError)


if __name__ == "__main__":
    sys.exit(main())
