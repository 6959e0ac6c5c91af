"""Everything that the routes share, and the work that is done from time to time."""

import asyncio
import logging
import os
import time
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from runtime.commands.words import KnownWords
from runtime.errors import MediaError
from runtime.serve.audit import AuditLog
from runtime.serve.config import ServerConfig
from runtime.serve.metrics import Metrics
from runtime.serve.state import DATABASE, INCOMING, TOKENS, check_state, drop_unknown, make_folders, make_private
from runtime.serve.storage import Storage
from runtime.serve.store import OPEN, Job, Store, StoredFile
from runtime.serve.tokens import Sessions, Tokens
from runtime.serve.work.events import Events
from runtime.serve.work.pool import Pool

log = logging.getLogger(__name__)
TIDY = 10.0  # seconds between two rounds of tidying up
MEASURE = 300.0  # seconds between two looks at the size of all files; changes are counted in between
JUMP = 60.0  # seconds by which the clock may run apart from the time that passed before it counts as set anew


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
    storage: Storage
    asked: dict[str, float] = field(default_factory=dict)  # open job -> when its client asked last
    streams: Counter[str] = field(default_factory=Counter)  # client -> streams of events that it reads
    port: int = 0  # where the server listens
    _measured: float = -MEASURE  # when the storage was measured
    _clock: float = field(default_factory=lambda: time.time() - time.monotonic())

    @cached_property
    def words(self) -> KnownWords:
        """The words of the bundle, read when a job first has words."""
        engines = self.config.engines
        return KnownWords(Namespace() if engines is None else Namespace(engines=engines))

    @property
    def incoming(self) -> Path:
        """Folder of uploads that are not complete."""
        return self.config.state / INCOMING

    # ------------------------------------------------------------ deleting
    def file_is_needed(self, file_id: str) -> bool:
        """Whether a job that waits or runs needs an upload."""
        return any(job.spec["source"].get("file_id") == file_id for job in self.store.jobs(statuses=OPEN))

    def delete_file(self, file: StoredFile) -> None:
        """Delete an upload from the disk and the tables."""
        with suppress(FileNotFoundError):
            os.unlink(file.path)
        self.store.delete_file(file.id)
        self.storage.kept -= file.bytes

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
        await self.pool.stop_large()
        self._follow_clock()
        waiting = self.store.jobs(statuses=OPEN)
        self._expire(waiting)
        await self._cancel_abandoned(waiting)
        self.events.forget()
        if time.monotonic() - self._measured >= MEASURE:
            self._measured = time.monotonic()
            await self.storage.measure()
        self.metrics.storage.set(self.storage.kept)
        self.pool.count()

    def _follow_clock(self) -> None:
        """If the clock was set, move the times of files and jobs too: else a jump ahead would delete all of them."""
        jump = time.time() - time.monotonic() - self._clock
        if abs(jump) > JUMP:
            log.warning("the clock was set by %.0f s; the times of uploads and jobs are moved with it", jump)
            self.store.shift(jump)
            self._clock += jump

    def _expire(self, waiting: list[Job]) -> None:
        """Delete uploads and jobs that are too old, except those that jobs which wait or run need."""
        moment = time.time() - self.config.limits.keep
        needed = {job.spec["source"].get("file_id") for job in waiting}
        needed |= {(job.spec["take"] or {}).get("job_id") for job in waiting}
        for file in self.store.files_before(moment):
            if file.id not in needed:
                self.delete_file(file)
                self.audit.write("server", "", "expire file", target=file.id)
        for job_id in self.store.finished_before(moment):
            if job_id not in needed:
                self.pool.delete(job_id)
                self.audit.write("server", "", "expire job", target=job_id)

    async def _cancel_abandoned(self, waiting: list[Job]) -> None:
        now = time.monotonic()
        self.asked = {job.id: self.asked.get(job.id, now) for job in waiting}
        for job in waiting:
            if job.spec["must_ask"] and now - self.asked[job.id] > self.config.limits.abandoned:
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
    events, metrics, storage = Events(store.boot), Metrics(), Storage(config.state, config.limits)
    for job in store.jobs(statuses=OPEN):
        storage.reserve(job.id, job.spec.get("reserve", 0))
    pool = Pool(config, store, events, metrics, audit, storage)
    return Services(config, store, tokens, events, metrics, audit, pool, Sessions(tokens.fingerprint), storage)
