"""Outputs are written into hidden folders beside their final places, and then renamed: all of them or none.

This module imports little: the process that watches over the command also uses it, to clean up after a crash.
"""

import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP}
PATIENCE = 5.0  # seconds to wait for another process that publishes
Message = dict[str, Any]
Identity = tuple[int, int]


class Staging:
    """Temporary places of some files: `parts` for the new ones, `aside` for those that they replace."""

    def __init__(self, files: list[Path], overwrite: bool, tell: Callable[[Message], None] = lambda message: None):
        """`tell` gets what `recover` needs to clean up after this process."""
        folders = {parent: parent / f".maskvat-{secrets.token_hex(6)}" for parent in sorted({p.parent for p in files})}
        self.folders = [f for new in folders.values() for f in (new, new.with_name(f"{new.name}old"))]
        self.parts = {p: folders[p.parent] / p.name for p in files}
        self.aside = {p: part.parent.with_name(f"{part.parent.name}old") / p.name for p, part in self.parts.items()}
        self.overwrite, self._tell = overwrite, tell

    def __enter__(self) -> "Staging":
        self._tell({"folders": [str(f) for f in self.folders]})  # before there is anything
        try:
            for folder in self.folders:
                folder.mkdir(mode=0o700)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, check: Callable[[Path], None] = lambda path: None) -> None:
        """Give all parts their final names, or none: after an error, files that were replaced come back.

        `check` is called for each file immediately before, and may raise. Raises FileExistsError, with the file's name,
        if a file that must not be replaced has appeared.
        """
        known = {path: identity(part) for path, part in self.parts.items()}
        moves = [[str(path), str(self.aside[path]), *known[path]] for path in self.parts]
        with _one_at_a_time({path.parent for path in self.parts}):
            self._publish(known, moves, check)

    def _publish(self, known: dict[Path, Identity], moves: list[list[Any]], check: Callable[[Path], None]) -> None:
        self._tell({"state": "publishing", "moves": moves})
        try:
            for path, part in self.parts.items():
                check(path)
                if self.overwrite:
                    _set_aside(path, self.aside[path])
                    os.replace(part, path)
                else:
                    take_name(part, path)
            self._tell({"state": "published"})
        except BaseException:
            for path in reversed(self.parts):
                undo(path, self.aside[path], known[path])
            raise


@contextmanager
def _one_at_a_time(folders: set[Path]) -> Iterator[None]:
    """Wait until no other process publishes into these folders: two could each replace a part of the other's set.

    It waits for a few seconds at most: someone else may have locked a folder, such as `flock FOLDER maskvat ...`.
    """
    if sys.platform == "win32":  # mypy knows this form
        yield
        return
    import fcntl

    deadline = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        for folder in sorted(folders):
            with suppress(OSError):  # it cannot be read, or is on a file system without locks
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                while True:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > deadline:
                            break
                        time.sleep(0.01)
        yield


def identity(path: Path) -> Identity:
    """Device and number of a file. It keeps them when it is renamed or linked."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def take_name(part: Path, path: Path) -> None:
    """Give a file a name that no file has. Of two processes only one succeeds. Raises FileExistsError."""
    if sys.platform == "win32":
        os.rename(part, path)  # fails if the name is taken
        return
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # this file system has no links
        try:
            os.replace(part, path)
        except BaseException:
            if os.path.lexists(part):
                os.unlink(path)
            raise


def _set_aside(path: Path, aside: Path) -> None:
    """Keep an old file, as a second link if possible: then there is a file under its name at every moment."""
    if not os.path.lexists(path):
        return
    try:
        os.link(path, aside, follow_symlinks=False)
    except (OSError, NotImplementedError):
        os.replace(path, aside)


def undo(path: Path, aside: Path, part: Identity) -> None:
    """Undo one file's publishing. It looks at the files, so that Ctrl-C between two lines does no harm.

    `part` is the identity of the new file: what has another one is not removed.
    """
    there = os.path.lexists(path)
    ours = there and identity(path) == part
    if os.path.lexists(aside) and (ours or not there):
        os.replace(aside, path)
    elif ours:
        path.unlink()


def recover(messages: list[Message]) -> bool:
    """Clean up after a process that told these messages and has ended. Returns whether it published its outputs."""
    states = [m["state"] for m in messages if "state" in m]
    if "published" not in states:
        for path, aside, *part in reversed([move for m in messages for move in m.get("moves", ())]):
            with suppress(OSError):
                undo(Path(path), Path(aside), (part[0], part[1]))
    for message in messages:
        for folder in message.get("folders", ()):
            shutil.rmtree(folder, ignore_errors=True)
    return "published" in states
