"""The state folder: what may be one, making it, and deleting what a crash left. Other files are never touched."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import MediaError
from runtime.serve.store import Store

log = logging.getLogger(__name__)
LOCK, TOKENS, DATABASE = "lock", "tokens", "jobs.sqlite3"
KEPT, INCOMING = ("files", "jobs"), "incoming"
OURS = re.compile(r"(file|job)_[0-9a-f]{32}(\.\w+)?")  # names that the server gives: `store.new_id` and a suffix


def check_state(state: Path) -> None:
    """Raises MediaError if a folder has files, and they are not those of a server. Changes nothing."""
    try:
        names = set(os.listdir(state))
    except FileNotFoundError:
        return
    except OSError as error:
        raise MediaError(f"cannot use the folder {state}: {error.strerror or error}; choose another --state") from error
    if names - {LOCK} and not names & {TOKENS, DATABASE}:
        raise MediaError(
            f"{state} has files that are not those of a server ({sorted(names - {LOCK})[0]!r}, for example); "
            "give --state an empty or new folder"
        )


def make_private(state: Path) -> None:
    """Make the folder, which nobody else may read. Raises OSError."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        os.chmod(state, 0o700)


def make_folders(state: Path) -> None:
    """Make the folders in it. Uploads that are not complete are deleted. Raises OSError."""
    for name in (*KEPT, INCOMING):
        (state / name).mkdir(mode=0o700, exist_ok=True)
    for path in _ours(state / INCOMING):
        path.unlink()
    if not (state / DATABASE).exists():
        _set_aside(state)


def _set_aside(state: Path) -> None:
    """Keep the uploads and results of a database that was moved away: the new one does not know them."""
    for folder in (state / name for name in KEPT):
        if any(folder.iterdir()):
            number = 1
            while (aside := state / f"{folder.name}.old{number}").exists():
                number += 1
            folder.rename(aside)
            folder.mkdir(mode=0o700)
            log.warning("the queue is new: what was in %s is now in %s; delete it if nobody needs it", folder, aside)


def drop_unknown(state: Path, store: Store) -> None:
    """Delete uploads and results that a crash left behind and no table names. Raises OSError."""
    known = {Path(file.path).name for file in store.files()} | {job.id for job in store.jobs()}
    for folder in (state / name for name in KEPT):
        for path in _ours(folder):
            if path.name not in known:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _ours(folder: Path) -> Iterator[Path]:
    """What has a name that the server gave."""
    return (path for path in list(folder.iterdir()) if OURS.fullmatch(path.name))
