"""Prepared examples for training: a folder of npz files kept in memory, or shards read example by example.

Each example is a dict: codes [K, T], frame_features [N, Df], sync_features [S, Ds], audio_features [A, 8, D]. If it has
`concepts` (JSON) in place of frame_features, they are made up each time it is read.
"""

import json
import sys
from collections.abc import Callable, Sequence
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
from train.data.batch import Batch, Hiding
from train.data.sample_order import FEATURES, Row
from train.data.shard_files import ShardSet
from train.data.video_files import Shown, read_shown
from train.distributed import max_over_processes
from train.errors import RecipeError, ShardError

Arrays = dict[str, NDArray[Any]]
OLD_NAME = "clip_features"  # of frame_features, until contract 2
NAMES = ("codes", "frame_features", "sync_features", "audio_features")
# (what is seen: nothing known if empty, number of frames, random generator) -> frame features [N, Df]; raises
# ValueError for unknown concepts
MakeFeatures = Callable[[list[Shown], int, np.random.Generator], NDArray[np.float32]]
BAD = (OSError, ValueError, EOFError, BadZipFile, ShardError)  # errors of an example that cannot be used
NOTHING_KNOWN = 0.3  # share of examples without concepts whose features are made up, too: real pictures look otherwise
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
                    names = (*NAMES, "concepts", OLD_NAME)
                    self.examples.append(checked({n: arrays[n] for n in names if n in arrays}, config))
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
    if OLD_NAME in example:
        raise ValueError(f"has {OLD_NAME}, the name of contract 2; run `python -m train.prepare` again")
    made_up = ("frame_features",) if "concepts" in example else ()
    missing = [n for n in NAMES if n not in example and n not in made_up]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    sizes = {"frame_features": config.frame_dim, "sync_features": config.sync_dim, "audio_features": config.audio_dim}
    sizes = {n: size for n, size in sizes.items() if n in example}
    wrong = [n for n, size in sizes.items() if example[n].shape[-1] != size]
    if wrong or len(example["codes"]) != config.n_codebooks:
        raise ValueError(
            f"{', '.join(wrong or ['codes'])}: made by other components; run `python -m train.prepare` again"
        )
    if example["codes"].max(initial=0) >= config.codebook_size or not all(np.isfinite(example[n]).all() for n in sizes):
        raise ValueError("has codes outside of the codebook, or features that are not finite")
    return example


def start_interval(config: ModelConfig) -> Fraction:
    """Seconds between the places in an example at which a frame feature and a sync feature begin together.

    1 s at 8 and 25 features a second, as in the bundled system; 8 s for S3D's bridge with its 8 frames a feature. A
    crop that starts there sees pictures at the same times after its start as a window of the runtime.
    """
    rate = config.frame_fps * config.sync_fps
    return Fraction(lcm(config.sync_fps, config.sync_stride * config.frame_fps), rate)


class Examples:
    """Crops of a source's examples, as batches. An unreadable example is reported, and the next one is used."""

    def __init__(
        self, source: Source, config: ModelConfig, readers: int = 4, make_features: MakeFeatures | None = None
    ) -> None:
        """`make_features` makes the frame features of examples that show concepts."""
        self.source, self.config, self.make_features = source, config, make_features
        self.bad: set[int] = set()
        self.readers = None if isinstance(source, Folder) else ThreadPoolExecutor(readers)

    def __len__(self) -> int:
        return len(self.source)

    def example(self, index: int, rng: np.random.Generator) -> Arrays:
        """The example with this number, or the next usable one; the same in every process.

        `rng` draws its frame features if it shows concepts. Raises RecipeError if nothing can make them.
        """
        tries, reason = min(MAX_SKIPPED, len(self.source)), ""
        for i in range(index, index + tries):
            i %= len(self.source)
            try:
                return self._with_features(checked(self.source[i], self.config), rng)
            except BAD as error:
                reason = str(error)
                if i not in self.bad:
                    print(f"skipped prepared example {i}: {error}", file=sys.stderr)
                    self.bad.add(i)
        raise RecipeError(f"{tries} prepared examples in a row cannot be used; the last: {reason}")

    def examples(self, indices: Sequence[int], rngs: Sequence[np.random.Generator]) -> list[Arrays]:
        return list((self.readers.map if self.readers else map)(self.example, indices, rngs))

    def _with_features(self, example: Arrays, rng: np.random.Generator) -> Arrays:
        """An example with frame features: its own, or made-up ones that show its concepts, or nothing known."""
        shown: list[Shown] = []
        if "concepts" in example:
            shown = read_shown(json.loads(str(example["concepts"].item())))
            if self.make_features is None:
                raise RecipeError(
                    "prepared examples show concepts, whose frame features are made up in training; "
                    "set task.concepts to the file that `python -m train.prepare.backgrounds` writes"
                )
        elif self.make_features is None or rng.random() >= NOTHING_KNOWN:
            return example
        count = self.config.n_frames(example["codes"].shape[1])
        return example | {"frame_features": self.make_features(shown, count, rng)}

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
            "frame_features": (int(seconds * c.frame_fps), c.n_frames(n_tokens)),
            "sync_features": (int(seconds * c.sync_fps / c.sync_stride), c.n_sync(n_tokens)),
            "audio_features": (round(seconds * c.audio_rate / c.audio_stride), self.n_audio(n_tokens)),
        }
        out = {}
        for name, (first, length) in begin.items():
            axis = 1 if name == "codes" else 0
            index = np.minimum(np.arange(first, first + length), example[name].shape[axis] - 1)
            out[name] = example[name].take(index, axis=axis)
        return out

    def validation_batch(
        self, indices: list[int], n_tokens: int, rngs: Sequence[np.random.Generator] | None = None
    ) -> Batch:
        """Crops from the middle of examples; no token is masked and no condition dropped.

        `rngs` draw made-up frame features; without them, an example always gets the same ones.
        """
        rngs = rngs or [np.random.default_rng([FEATURES, index]) for index in indices]
        crops = [self.crop(example, 0.5, n_tokens) for example in self.examples(indices, rngs)]
        masks = [np.zeros(crop["codes"].shape, bool) for crop in crops]
        return collate(crops, masks, [(False, False)] * len(crops))

    def training_batch(self, rows: list[Row], seed: int, n_tokens: int, hiding: Hiding) -> Batch:
        """A training batch; features, crop, mask and dropped conditions of every row are functions of (seed, row)."""
        crops, masks, drops = [], [], []
        rngs = [row.rng(seed, FEATURES) for row in rows]
        for row, example in zip(rows, self.examples([row.sample for row in rows], rngs), strict=True):
            rng = row.rng(seed)
            crops.append(self.crop(example, rng.random(), n_tokens))
            drops.append(hiding.drop(rng))
            masks.append(hiding.mask(rng, crops[-1]["codes"].shape))
        return collate(crops, masks, drops)


def collate(crops: list[Arrays], masks: list[NDArray[np.bool_]], drops: list[tuple[bool, bool]]) -> Batch:
    codes, *features = (np.stack([crop[name] for crop in crops]) for name in NAMES)
    tensors = (torch.from_numpy(array).float() for array in features)
    return Batch(
        torch.from_numpy(codes.astype(np.int64)),
        *tensors,
        mask=torch.from_numpy(np.stack(masks)),
        drop=torch.tensor(drops),
    )
