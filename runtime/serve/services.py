"""Everything that the routes share, and the work that is done from time to time."""

import asyncio
import logging
import os
import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from runtime.commands.words import KnownWords
from runtime.errors import MediaError
from runtime.serve.audit import AuditLog
from runtime.serve.config import ServerConfig
from runtime.serve.metrics import Metrics
from runtime.serve.state import DATABASE, INCOMING, KEPT, TOKENS, check_state, drop_unknown, make_folders, make_private
from runtime.serve.store import OPEN, Store, StoredFile
from runtime.serve.tokens import Sessions, Tokens
from runtime.serve.work.events import Events
from runtime.serve.work.pool import Pool

log = logging.getLogger(__name__)
TIDY = 10.0  # seconds between two rounds of tidying up


@dataclass
class Services:
    """The state of one server. Use `open_services` to make it."""

    config: ServerConfig
    store: Store
    tokens: Tokens
    events: Events
    metrics: Metrics
    audit: AuditLog
    pool: Pool
    sessions: Sessions
    asked: dict[str, float] = field(default_factory=dict)  # job -> when its client asked last
    arriving: int = 0  # bytes of uploads that are being received
    port: int = 0  # where the server listens
    _stored: int = 0

    @cached_property
    def words(self) -> KnownWords:
        """The words of the bundle, read when a job first has words."""
        engines = self.config.engines
        return KnownWords(Namespace() if engines is None else Namespace(engines=engines))

    @property
    def incoming(self) -> Path:
        """Folder of uploads that are not complete."""
        return self.config.state / INCOMING

    @property
    def stored_bytes(self) -> int:
        """Bytes of uploads and results, as of the last tidying up, and of what came since."""
        return self._stored + self.arriving

    def file_stored(self, size: int) -> None:
        self._stored += size

    # ------------------------------------------------------------ deleting
    def file_is_needed(self, file_id: str) -> bool:
        """Whether a job that waits or runs needs an upload."""
        return any(job.spec["source"].get("file_id") == file_id for job in self.store.jobs(statuses=OPEN))

    def delete_file(self, file: StoredFile) -> None:
        """Delete an upload from the disk and the tables."""
        with suppress(FileNotFoundError):
            os.unlink(file.path)
        self.store.delete_file(file.id)
        self._stored = max(0, self._stored - file.bytes)

    def delete_job(self, job_id: str) -> None:
        """Delete a job with its results and takes."""
        self.pool.delete(job_id)
        self.asked.pop(job_id, None)

    # ------------------------------------------------------------ from time to time
    async def tidy_for_ever(self) -> None:
        while True:
            try:
                await self.tidy()
            except Exception:  # also the database's
                log.exception("tidying up failed; it is tried again")
            await asyncio.sleep(TIDY)

    async def tidy(self) -> None:
        """Delete what is too old, cancel jobs whose clients have left, and measure the storage."""
        self.pool.end_lost()
        now, keep = time.time(), self.config.limits.keep
        needed = {job.spec["source"].get("file_id") for job in self.store.jobs(statuses=OPEN)}
        for file in self.store.files():
            if file.id not in needed and now - file.used > keep:
                self.delete_file(file)
                self.audit.write("server", "", "expire file", target=file.id)
        for job in self.store.jobs(statuses=("succeeded", "failed", "cancelled")):
            if now - (job.finished or now) > keep and not self._is_source(job.id):
                self.delete_job(job.id)
                self.audit.write("server", "", "expire job", target=job.id)
        await self._cancel_abandoned()
        self.events.forget()
        self._stored = await asyncio.to_thread(_size_of, [self.config.state / name for name in KEPT])
        self.metrics.storage.set(self._stored)
        self.pool.count()

    def _is_source(self, job_id: str) -> bool:
        """Whether a job that waits begins with a take of this one."""
        return any((job.spec["take"] or {}).get("job_id") == job_id for job in self.store.jobs(statuses=OPEN))

    async def _cancel_abandoned(self) -> None:
        for job in self.store.jobs(statuses=OPEN):
            last = self.asked.setdefault(job.id, time.monotonic())
            if job.spec["must_ask"] and time.monotonic() - last > self.config.limits.abandoned:
                self.audit.write("server", "", "cancel abandoned job", target=job.id)
                await self.pool.cancel(job)

    def close(self) -> None:
        self.store.close()
        self.audit.close()


def open_services(config: ServerConfig) -> Services:
    """Open the state, or make it. Nobody else may read it. Raises MediaError."""
    check_state(config.state)
    try:
        make_private(config.state)
        tokens = Tokens(config.state / TOKENS)  # the first file: it says that the folder is ours
        make_folders(config.state)
        audit = AuditLog(config.state / "audit.jsonl")
        store = Store(config.state / DATABASE)
        store.recover()
        drop_unknown(config.state, store)
    except OSError as error:
        raise MediaError(
            f"cannot use the folder {config.state}: {error.strerror or error}; choose another --state"
        ) from error
    events, metrics = Events(store.boot), Metrics()
    return Services(
        config,
        store,
        tokens,
        events,
        metrics,
        audit,
        Pool(config, store, events, metrics, audit),
        Sessions(tokens.fingerprint),
    )


def _size_of(folders: list[Path]) -> int:
    """Bytes of all files in folders."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                total += path.lstat().st_size if path.is_file() else 0
    return total
