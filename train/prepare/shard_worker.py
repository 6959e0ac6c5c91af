"""Makes one shard from its clips. train.prepare.workers runs `make_shard` in some process of some machine."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from engines.contract import ModelConfig
from train.data.shard_files import ShardInfo, ShardWriter, Store
from train.distributed import find_device
from train.prepare import workers
from train.prepare.features import Arrays, Window, encode_windows, load_components
from train.prepare.filters import Dropped, Filters, Sample, read_clip
from train.prepare.sources import Clip

BANDS = ("all", "mean")
Item = Sample | tuple[str, Dropped]


@dataclass(frozen=True)
class ShardSettings:
    """What all shards of a run have in common. Workers receive it with each task."""

    system: str
    url: str
    config: ModelConfig
    filters: Filters
    made_by: tuple[tuple[str, str], ...]  # component, digest of what its encoding depends on
    bands: str = "all"
    device: str = "auto"
    batch: int = 1
    threads: int = 1


@lru_cache(maxsize=1)
def components(system: str, made_by: tuple[tuple[str, str], ...], device: str) -> dict[str, nn.Module]:
    """The system's components, loaded once per process. `made_by` makes the cache reload changed weights."""
    return {name: module.to(device) for name, module in load_components(Path(system)).items()}


def read_items(settings: ShardSettings, clips: Sequence[Clip], careful: bool) -> Iterator[Item]:
    """Yield the windows of all clips in order, and what is left out. Threads decode ahead.

    With `careful`, another process decodes, so that a file that crashes the decoder costs only itself.
    """
    if not careful:
        readers = (partial(read_clip, clip, settings.config, settings.filters) for clip in clips)
        yield from workers.iterate_ahead(readers, settings.threads)
        return
    with workers.Isolated() as call:
        for clip in clips:
            try:
                yield from call(_read_all, clip, settings)
            except workers.WorkerDied as error:
                yield clip.id, Dropped("crashed", str(error))


def _read_all(clip: Clip, settings: ShardSettings) -> list[Item]:
    return list(read_clip(clip, settings.config, settings.filters))


def sync_times(config: ModelConfig, count: int) -> np.ndarray:
    """Centre times [S] of the sync features, in seconds from the window's start."""
    grid = config.sync_grid
    return ((grid.offset + grid.stride * np.arange(count)) / grid.rate).astype(np.float32)


def stored_arrays(settings: ShardSettings, sample: Sample, arrays: Arrays) -> Arrays:
    """The arrays of a sample as a shard stores them. Raises Dropped if a feature is NaN or infinite."""
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise Dropped("unreadable", "its features contain NaN or infinity")
    if settings.bands == "mean" and "audio_features" in arrays:
        bands = arrays["audio_features"].astype(np.float32)
        arrays["audio_features"] = bands.mean(axis=1, keepdims=True).astype(np.float16)
    if "sync_features" in arrays:
        arrays["sync_times"] = sync_times(settings.config, len(arrays["sync_features"]))
    if len(sample.events):
        arrays["events"] = sample.events
    if sample.concepts:  # training makes up features that show them
        arrays.pop("clip_features", None)
        arrays["concepts"] = np.array(json.dumps(sample.concepts))
    return arrays


def make_shard(
    settings: ShardSettings, name: str, split: str, clips: Sequence[Clip], careful: bool = False
) -> ShardInfo:
    """Write a shard; returns its description. A bad clip is left out, and the reason is stored."""
    torch.set_num_threads(settings.threads)
    device = str(find_device(settings.device, workers.worker_number))
    parts = components(settings.system, settings.made_by, device)
    with ShardWriter(Store(settings.url), name, split, settings.config.codebook_size) as shard:
        waiting: list[Sample] = []

        def encode() -> None:
            windows: list[Window] = [sample.window for sample in waiting]
            for sample, arrays in zip(waiting, encode_windows(parts, windows, device), strict=True):
                try:
                    shard.add(sample.name, stored_arrays(settings, sample, arrays), sample.record)
                except Dropped as dropped:
                    shard.drop(sample.name, dropped.reason, dropped.detail)
            waiting.clear()

        for item in read_items(settings, clips, careful):
            if isinstance(item, Sample):
                waiting.append(item)
                if len(waiting) == settings.batch:
                    encode()
            else:
                shard.drop(item[0], item[1].reason, item[1].detail)
        if waiting:
            encode()
    return shard.info


def usable(settings: ShardSettings, clips: Sequence[Clip], careful: bool = False) -> list[bool]:
    """For each clip, whether one of its windows passes the filters."""
    passed: dict[str, Any] = {clip.id: False for clip in clips}
    for clip in clips:
        for item in read_items(settings, [clip], careful):
            if isinstance(item, Sample):
                passed[clip.id] = True
                break
    return [passed[clip.id] for clip in clips]
