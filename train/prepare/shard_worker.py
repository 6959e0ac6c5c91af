"""One shard of prepared samples, made in some process from the clips that belong to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engines.contract import ModelConfig
from train.data.shards import ShardInfo, ShardWriter, Store
from train.distributed import find_device
from train.prepare import workers
from train.prepare.features import Arrays, Window, encode_windows, load_components
from train.prepare.filters import Dropped, Filters, Sample, read_clip
from train.prepare.sources import Clip

BANDS = ("all", "mean")
Item = Sample | tuple[str, Dropped]


@dataclass(frozen=True)
class Job:
    """What every shard of a run shares."""

    system: str
    url: str
    config: ModelConfig
    filters: Filters
    made_by: tuple[tuple[str, str], ...]  # component, sha256 of its weights
    bands: str = "all"
    device: str = "auto"
    batch: int = 1
    threads: int = 1


@lru_cache(maxsize=1)
def components(system: str, made_by: tuple[tuple[str, str], ...], device: str) -> dict[str, nn.Module]:
    """Loaded once per process; `made_by` is there so that other weights are loaded anew."""
    return {name: module.to(device) for name, module in load_components(Path(system)).items()}


def read_items(job: Job, clips: Sequence[Clip], careful: bool) -> Iterator[Item]:
    """The windows of all clips in order, and what is left out, decoded ahead in threads of their own.

    `careful`: in another process, so that a file on which the decoder crashes costs only itself.
    """
    if not careful:
        yield from workers.ahead((partial(read_clip, clip, job.config, job.filters) for clip in clips), job.threads)
        return
    with workers.Isolated() as call:
        for clip in clips:
            try:
                yield from call(_read_all, clip, job)
            except workers.WorkerDied as error:
                yield clip.id, Dropped("crashed", str(error))


def _read_all(clip: Clip, job: Job) -> list[Item]:
    return list(read_clip(clip, job.config, job.filters))


def sync_times(config: ModelConfig, count: int) -> np.ndarray:
    """Centre times [S] of the sync features, seconds from the window's start."""
    grid = config.sync_grid
    return ((grid.offset + grid.stride * np.arange(count)) / grid.rate).astype(np.float32)


def finished(job: Job, sample: Sample, arrays: Arrays) -> Arrays:
    """The arrays of a sample as they are stored. Raises Dropped for features that are no numbers."""
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise Dropped("unreadable", "its features are no numbers")
    if job.bands == "mean" and "audio_features" in arrays:
        bands = arrays["audio_features"].astype(np.float32)
        arrays["audio_features"] = bands.mean(axis=1, keepdims=True).astype(np.float16)
    if "sync_features" in arrays:
        arrays["sync_times"] = sync_times(job.config, len(arrays["sync_features"]))
    if len(sample.events):
        arrays["events"] = sample.events
    return arrays


def make_shard(job: Job, name: str, split: str, clips: Sequence[Clip], careful: bool = False) -> ShardInfo:
    """Write a shard; returns what it holds. One bad clip is left out with its reason."""
    torch.set_num_threads(job.threads)
    device = str(find_device(job.device, workers.ordinal))
    parts = components(job.system, job.made_by, device)
    with ShardWriter(Store(job.url), name, split, job.config.codebook_size) as shard:
        waiting: list[Sample] = []

        def encode() -> None:
            windows: list[Window] = [sample.window for sample in waiting]
            for sample, arrays in zip(waiting, encode_windows(parts, windows, device), strict=True):
                try:
                    shard.add(sample.name, finished(job, sample, arrays), sample.record)
                except Dropped as dropped:
                    shard.drop(sample.name, dropped.reason, dropped.detail)
            waiting.clear()

        for item in read_items(job, clips, careful):
            if isinstance(item, Sample):
                waiting.append(item)
                if len(waiting) == job.batch:
                    encode()
            else:
                shard.drop(item[0], item[1].reason, item[1].detail)
        if waiting:
            encode()
    return shard.info


def usable(job: Job, clips: Sequence[Clip], careful: bool = False) -> list[bool]:
    """Which clips have a window that passes the filters."""
    passed: dict[str, Any] = {clip.id: False for clip in clips}
    for clip in clips:
        for item in read_items(job, [clip], careful):
            if isinstance(item, Sample):
                passed[clip.id] = True
                break
    return [passed[clip.id] for clip in clips]
