"""A bundle's files: verified once, and again when they are opened if they have changed since (perhaps much later)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.manifest import Manifest, ManifestError, repair_hint, sha256

Stamp = tuple[int, ...]


class VerifiedFiles:
    """The manifest of a bundle, and the state in which its files were when their contents were verified."""

    def __init__(self, folder: Path) -> None:
        """Verify every file. Raises ManifestError."""
        self.folder = folder
        names = Manifest.read(folder).files
        self._stamps = {name: self._stamp(name) for name in names}  # before: a later change shows
        self.manifest = Manifest.load(folder)

    def _stamp(self, name: str) -> Stamp | None:
        """What changes whenever a file is written or replaced."""
        try:
            found = os.stat(self.folder / name)
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    @contextmanager
    def unchanged(self, name: str) -> Iterator[None]:
        """Open a file in this block: what is opened is what was verified. Raises ManifestError otherwise.

        Files of weights beside the graphs are checked, too. A file whose time stamps have changed is read again.
        """
        names = [n for n, entry in self.manifest.files.items() if n == name or not entry.graph]
        for n in names:
            if self._stamp(n) != self._stamps.get(n):
                self._verify_again(n)
        before = {n: self._stamp(n) for n in names}
        yield
        changed = [n for n in names if self._stamp(n) != before[n]]
        if changed:
            raise ManifestError(f"{self.folder / changed[0]} has changed while it was opened; open the bundle again")

    def _verify_again(self, name: str) -> None:
        path, stamp = self.folder / name, self._stamp(name)
        try:
            intact = sha256(path) == self.manifest.files[name].sha256
        except OSError:
            intact = False
        if not intact:
            raise ManifestError(f"{path} has changed since it was verified; {repair_hint(self.folder)}")
        self._stamps[name] = stamp
