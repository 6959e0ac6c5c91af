"""Files in a folder or at any fsspec URL, written completely or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from runtime.audio import replacing
from train.errors import ShardError


class Store:
    """Files in a folder or at an fsspec URL. Safe to pickle and fork: each process opens its own connection."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url).rstrip("/")
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_opened": None}

    @property
    def _fs(self) -> tuple[Any, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                fs, root = url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                known = ", ".join(("s3 (pip install '.[s3]')", "gs", "az", "https"))
                raise ShardError(f"{self.url} cannot be opened ({error}); give a folder or a URL: {known}") from error
            self._opened = (os.getpid(), fs, root.rstrip("/"))
        return self._opened[1:]

    @property
    def local(self) -> Path | None:
        fs, root = self._fs
        return Path(root) if isinstance(fs, fsspec.get_filesystem_class("file")) else None

    def sizes(self) -> dict[str, int]:
        """Size in bytes of every file by name; empty if the folder does not exist."""
        fs, root = self._fs
        fs.invalidate_cache()
        try:
            return {e["name"].rsplit("/", 1)[-1]: e["size"] for e in fs.ls(root, detail=True) if e["type"] == "file"}
        except FileNotFoundError:
            return {}

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        fs, root = self._fs
        data: bytes = fs.cat_file(f"{root}/{name}", start=start, end=end)
        return data

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path to write to; it becomes `name` if the block succeeds. No reader sees half a file."""
        if (folder := self.local) is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as part:
                yield part
            return
        with tempfile.TemporaryDirectory() as scratch:
            part = Path(scratch) / "part"
            yield part
            fs, root = self._fs
            fs.put_file(str(part), f"{root}/{name}")

    def write_json(self, name: str, value: Any) -> None:
        with self.writing(name) as part:
            part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
