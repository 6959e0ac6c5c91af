"""Prepared samples in WebDataset shards, on disk or at any fsspec URL: writer and random-access reader.

    python -m train.shards URL        read every sample and report damaged ones

docs/DATA.md describes the files. A sample is a dict of arrays; its members in the tar are KEY.ARRAY.npy and KEY.json.
"""

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from train.extras import requires_extra

with requires_extra("train", __name__):
    from train.data.storage import Store
    from train.errors import ShardError

FORMAT = 1  # rises when the files' layout or an array's meaning changes
SPLITS = ("train", "validation", "test")
Arrays = dict[str, NDArray[Any]]
BAD = (OSError, ValueError, KeyError, EOFError, tarfile.TarError)  # errors of damaged or missing files


def sample_key(name: str) -> str:
    """Encode a name for the tar: WebDataset splits names at the first dot, and tar expects ASCII."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


# ---------------------------------------------------------------- writing
@dataclass
class ShardInfo:
    """The contents of NAME.json, which describes a shard."""

    name: str
    split: str
    samples: list[tuple[str, int, int, int]] = field(default_factory=list)  # key, offset, bytes, CRC-32
    dropped: list[dict[str, str]] = field(default_factory=list)  # "clip", "reason", "detail"
    bytes: int = 0
    sha256: str = ""
    code_counts: list[list[int]] = field(default_factory=list)  # [K][V]
    format: int = FORMAT


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


class ShardWriter:
    """Write NAME.tar, then NAME.json. Equal samples give equal bytes.

        with ShardWriter(store, "train-00000", "train", codebook_size=1024) as shard:
            shard.add("name", arrays, record)
            shard.drop("name", "silent", "peak -71.0 dBFS")

    If the block raises, no file is left.
    """

    def __init__(self, store: Store, name: str, split: str, codebook_size: int) -> None:
        self.store, self.info, self.size = store, ShardInfo(name, split), codebook_size
        self._counts: NDArray[np.int64] | None = None

    def __enter__(self) -> Self:
        self._writing = self.store.writing(f"{self.info.name}.tar")
        self._path = self._writing.__enter__()
        self._tar = tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._tar.close()
        if error is None:
            content = self._path.read_bytes()
            for i, (key, offset, size, _) in enumerate(self.info.samples):
                self.info.samples[i] = (key, offset, size, zlib.crc32(content[offset : offset + size]))
            self.info.bytes, self.info.sha256 = len(content), hashlib.sha256(content).hexdigest()
            self.info.code_counts = [] if self._counts is None else self._counts.tolist()
        self._writing.__exit__(kind, error, trace)
        if error is None:
            self.store.write_json(f"{self.info.name}.json", asdict(self.info))

    def add(self, name: str, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> None:
        """Add a sample. Raises ShardError if the name is used already."""
        key, offset = sample_key(name), self._tar.offset
        if any(key == sample[0] for sample in self.info.samples):
            raise ShardError(f"{self.info.name} already holds a sample {key}; give every example a name of its own")
        for kind in sorted(arrays):
            self._member(f"{key}.{kind}.npy", npy(arrays[kind]))
        self._member(f"{key}.json", json.dumps(record, sort_keys=True).encode())
        self.info.samples.append((key, offset, self._tar.offset - offset, 0))
        if (codes := arrays.get("codes")) is not None:
            counts = np.stack([np.bincount(row, minlength=self.size) for row in codes])
            self._counts = counts if self._counts is None else self._counts + counts

    def drop(self, name: str, reason: str, detail: str) -> None:
        self.info.dropped.append({"clip": name, "reason": reason, "detail": detail})

    def _member(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o644  # the time stays 0, for equal bytes
        self._tar.addfile(entry, io.BytesIO(content))


def write_index(store: Store, split: str, shards: list[ShardInfo]) -> None:
    """Write SPLIT.index.npz, which indexes the samples of all shards of a split in order."""
    rows = [(number, *sample) for number, shard in enumerate(shards) for sample in shard.samples]
    counts = [np.array(s.code_counts, np.int64) for s in shards if s.code_counts]
    with store.writing(f"{split}.index.npz") as part, open(part, "wb") as file:
        np.savez_compressed(
            file,
            shards=np.array([s.name for s in shards]),
            shard_bytes=np.array([s.bytes for s in shards], np.int64),
            keys=np.array([r[1] for r in rows]),
            shard=np.array([r[0] for r in rows], np.int32),
            offset=np.array([r[2] for r in rows], np.int64),
            size=np.array([r[3] for r in rows], np.int64),
            crc32=np.array([r[4] for r in rows], np.uint32),
            code_counts=np.sum(counts, axis=0) if counts else np.zeros((0, 0), np.int64),
        )


# ---------------------------------------------------------------- reading
def unpack(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    """Read arrays and provenance of a sample from its section of the tar."""
    arrays, record = {}, {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            data = b"" if file is None else file.read()
            kind = entry.name.partition(".")[2]
            if kind == "json":
                record = json.loads(data)
            else:
                arrays[kind.removesuffix(".npy")] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return arrays, record


class ShardSet:
    """The samples of one split, by number. docs/DATA.md describes the files."""

    def __init__(self, url: str | os.PathLike[str], split: str = "train") -> None:
        """Shards that are missing or truncated are skipped and listed in `bad`.

        Raises ShardError if there is no finished set of shards, no such split, or no complete shard in it.
        """
        self.store, self.split = Store(url), split
        if split not in SPLITS:
            raise ShardError(f"unknown split {split!r}; choose from {', '.join(SPLITS)}")
        self.manifest: dict[str, Any] = self._read(lambda: self.store.read_json("manifest.json"), "manifest.json")
        if self.manifest.get("format") != FORMAT:
            found = self.manifest.get("format")
            raise ShardError(f"{url} has format {found}, not {FORMAT}; make it again with `python -m train.prepare`")
        index = self._read(lambda: np.load(io.BytesIO(self.store.read(f"{split}.index.npz"))), f"{split}.index.npz")
        self._index = {name: index[name] for name in index.files}
        self.bad, self._whole = self._check_shards()
        self._number = np.flatnonzero(self._whole[self._index["shard"]])
        if not len(self._number):
            first = f"; first {self.bad[0]}" if self.bad else ""
            raise ShardError(f"{url} has no samples of split {split}{first}")
        self.keys: list[str] = self._index["keys"][self._number].tolist()

    def _read(self, load: Any, name: str) -> Any:
        try:
            return load()
        except BAD as error:
            raise ShardError(
                f"{self.store.url} has no readable {name} ({error}); give a folder or URL that train.prepare has "
                "finished, or run its command again"
            ) from error

    def _check_shards(self) -> tuple[list[str], NDArray[np.bool_]]:
        sizes, bad = self.store.sizes(), []
        for name, expected in zip(self._index["shards"].tolist(), self._index["shard_bytes"].tolist(), strict=True):
            found = sizes.get(f"{name}.tar")
            if found is None:
                bad.append(f"{name}: it is missing")
            elif found != expected:
                bad.append(f"{name}: it has {found} bytes, not {expected}")
        lost = {line.partition(":")[0] for line in bad}
        return bad, np.array([name not in lost for name in self._index["shards"].tolist()], bool)

    def __len__(self) -> int:
        return len(self._number)

    def __getitem__(self, i: int) -> Arrays:
        return self._sample(i)[0]

    def record(self, i: int) -> dict[str, Any]:
        """The provenance of sample i."""
        return self._sample(i)[1]

    @cached_property
    def code_counts(self) -> NDArray[np.int64]:
        """How often each code occurs in the split: [K, V]. Counted when the index was written, so it includes shards
        that were lost since."""
        counts: NDArray[np.int64] = self._index["code_counts"]
        return counts

    def _sample(self, i: int) -> tuple[Arrays, dict[str, Any]]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        n = self._number[i]
        shard, offset, size = (int(self._index[name][n]) for name in ("shard", "offset", "size"))
        name = self._index["shards"][shard]
        try:
            content = self.store.read(f"{name}.tar", offset, offset + size)
            if zlib.crc32(content) != int(self._index["crc32"][n]):
                raise ValueError("its bytes have changed since they were written")
            return unpack(content)
        except BAD as error:
            raise ShardError(
                f"{self.store.url}/{name}.tar: sample {self.keys[i]} cannot be read ({error}); "
                "train.prepare --check makes damaged shards again"
            ) from error


def check(url: str, split: str) -> tuple[int, list[str]]:
    """Read every sample of a split; return the number of good ones and a message for each damaged one."""
    shards = ShardSet(url, split)
    bad, good = list(shards.bad), 0
    for i in range(len(shards)):
        try:
            good += bool(shards[i])
        except ShardError as error:
            bad.append(str(error))
    return good, bad
