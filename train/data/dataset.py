"""Prepared examples for training: a folder of npz files kept in memory, or shards read example by example.

Each example is a dict: codes [K, T], clip_features [N, Dc], sync_features [S, Ds], audio_features [A, 8, D].
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.contract import ModelConfig
from train.data.batch import Batch, token_mask
from train.data.sample_order import Row
from train.data.shard_files import ShardSet
from train.distributed import max_over_processes
from train.errors import RecipeError, ShardError

Arrays = dict[str, NDArray[Any]]
NAMES = ("codes", "clip_features", "sync_features", "audio_features")
BAD = (OSError, ValueError, EOFError, BadZipFile, ShardError)  # errors of an example that cannot be used
MAX_SKIPPED = 100  # unusable examples in a row, after which training stops


class Source(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Arrays:
        """Raises one of BAD if the example cannot be used."""
        ...


class Folder:
    """The npz files of a folder, read once and kept in memory: 0.2 MB for 10 s."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Unusable files are reported on stderr and skipped. Raises RecipeError if none is left."""
        self.examples: list[Arrays] = []
        paths = sorted(folder.glob("*.npz"))
        for path in paths:
            try:
                with np.load(path) as arrays:
                    self.examples.append(checked({n: arrays[n] for n in NAMES if n in arrays}, config))
            except BAD as error:
                print(f"skipped {path.name}: {error}", file=sys.stderr)
        bad = len(paths) - len(self.examples)
        if bad:
            print(f"{bad} of {len(paths)} prepared examples of {folder} skipped", file=sys.stderr)
        if not self.examples:
            advice = "make them with `python -m train.prepare` and the whole system"
            raise RecipeError(f"no usable prepared examples (*.npz) in {folder} ({bad} skipped); {advice}")

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Arrays:
        return self.examples[i]


def open_source(place: str, split: str, config: ModelConfig) -> Source:
    """Open a folder of npz files, or shards in a folder or at an fsspec URL.

    Raises RecipeError or ShardError if nothing usable is there, or if processes see different numbers of examples.
    """
    source: Source
    if "://" in place or Path(place, "manifest.json").exists():
        source = shards = ShardSet(place, split)
        for line in shards.bad:
            print(f"skipped shard {line}", file=sys.stderr)
    else:
        source = Folder(Path(place), config)
    counts = torch.tensor([len(source), -len(source)])
    if (most := max_over_processes(counts)).sum() != 0:
        raise RecipeError(
            f"{place} holds {most[0]} examples for one process and {-most[1]} for another; they must see the same data"
        )
    return source


def checked(example: Arrays, config: ModelConfig) -> Arrays:
    """Check the arrays of one example and return them. Raises ValueError if one is missing or does not fit."""
    missing = [n for n in NAMES if n not in example]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    sizes = {"clip_features": config.clip_dim, "sync_features": config.sync_dim, "audio_features": config.audio_dim}
    wrong = [n for n, size in sizes.items() if example[n].shape[-1] != size]
    if wrong or len(example["codes"]) != config.n_codebooks:
        raise ValueError(
            f"{', '.join(wrong or ['codes'])}: made by other components; run `python -m train.prepare` again"
        )
    if example["codes"].max(initial=0) >= config.codebook_size or not all(np.isfinite(example[n]).all() for n in sizes):
        raise ValueError("has codes outside of the codebook, or features that are not finite")
    return example


def start_interval(config: ModelConfig) -> Fraction:
    """Seconds between the places in an example at which a CLIP feature and a sync feature begin together.

    1 s at 8 and 25 features a second, as in the bundled system; 8 s for S3D's bridge with its 8 frames a feature. A
    crop that starts there sees pictures at the same times after its start as a window of the runtime.
    """
    rate = config.clip_fps * config.sync_fps
    return Fraction(lcm(config.sync_fps, config.sync_stride * config.clip_fps), rate)


class Examples:
    """Crops of a source's examples, as batches. An unreadable example is reported, and the next one is used."""

    def __init__(self, source: Source, config: ModelConfig, readers: int = 4) -> None:
        self.source, self.config = source, config
        self.bad: set[int] = set()
        self.readers = None if isinstance(source, Folder) else ThreadPoolExecutor(readers)

    def __len__(self) -> int:
        return len(self.source)

    def example(self, index: int) -> Arrays:
        """The example with this number, or the next usable one; the same in every process."""
        tries, reason = min(MAX_SKIPPED, len(self.source)), ""
        for i in range(index, index + tries):
            i %= len(self.source)
            try:
                return checked(self.source[i], self.config)
            except BAD as error:
                reason = str(error)
                if i not in self.bad:
                    print(f"skipped prepared example {i}: {error}", file=sys.stderr)
                    self.bad.add(i)
        raise RecipeError(f"{tries} prepared examples in a row cannot be used; the last: {reason}")

    def examples(self, indices: list[int]) -> list[Arrays]:
        return list((self.readers.map if self.readers else map)(self.example, indices))

    def frequencies(self) -> Tensor:
        """How often each code occurs: [K, V]."""
        if isinstance(self.source, ShardSet):
            return torch.from_numpy(self.source.code_counts).float()
        V = self.config.codebook_size
        codes = np.concatenate([self.source[i]["codes"] for i in range(len(self.source))], axis=1)
        return torch.from_numpy(np.stack([np.bincount(row, minlength=V) for row in codes])).float()

    # ------------------------------------------------------------ crops
    def n_audio(self, n_tokens: int) -> int:
        c = self.config
        return max(1, n_tokens * c.hop_length * c.audio_rate // (c.sample_rate * c.audio_stride))

    def crop(self, example: Arrays, share: float, n_tokens: int) -> Arrays:
        """Cut n_tokens out of an example; `share` in [0, 1) chooses among the possible starts.

        A start is a multiple of `start_interval`, so both picture streams begin exactly there. Tokens and audio
        features begin at the nearest place in time.
        """
        c, interval = self.config, start_interval(self.config)
        spare = max(0, example["codes"].shape[1] - n_tokens)  # tokens
        # the last start is less than half a token behind them, so that it is rounded to one of them
        last = Fraction((2 * spare + 1) * c.hop_length - 1, 2 * c.sample_rate) // interval
        seconds = int(share * (last + 1)) * interval
        begin = {
            "codes": (round(seconds * c.sample_rate / c.hop_length), n_tokens),
            "clip_features": (int(seconds * c.clip_fps), c.n_clip(n_tokens)),
            "sync_features": (int(seconds * c.sync_fps / c.sync_stride), c.n_sync(n_tokens)),
            "audio_features": (round(seconds * c.audio_rate / c.audio_stride), self.n_audio(n_tokens)),
        }
        out = {}
        for name, (first, length) in begin.items():
            axis = 1 if name == "codes" else 0
            index = np.minimum(np.arange(first, first + length), example[name].shape[axis] - 1)
            out[name] = example[name].take(index, axis=axis)
        return out

    def validation_batch(self, indices: list[int], n_tokens: int) -> Batch:
        """Crops from the middle of examples; no token is masked and no condition dropped."""
        crops = [self.crop(example, 0.5, n_tokens) for example in self.examples(indices)]
        masks = [np.zeros(crop["codes"].shape, bool) for crop in crops]
        return collate(crops, masks, [False] * len(crops))

    def training_batch(self, rows: list[Row], seed: int, n_tokens: int, dropout: float) -> Batch:
        """A training batch; crop, mask and dropped condition of every row are functions of (seed, row)."""
        crops, masks, drops = [], [], []
        for row, example in zip(rows, self.examples([row.sample for row in rows]), strict=True):
            rng = row.rng(seed)
            crops.append(self.crop(example, rng.random(), n_tokens))
            drops.append(bool(rng.random() < dropout))
            masks.append(token_mask(rng, crops[-1]["codes"].shape))
        return collate(crops, masks, drops)


def collate(crops: list[Arrays], masks: list[NDArray[np.bool_]], drops: list[bool]) -> Batch:
    codes, *features = (np.stack([crop[name] for crop in crops]) for name in NAMES)
    tensors = (torch.from_numpy(array).float() for array in features)
    return Batch(
        torch.from_numpy(codes.astype(np.int64)),
        *tensors,
        mask=torch.from_numpy(np.stack(masks)),
        drop=torch.tensor(drops),
    )
