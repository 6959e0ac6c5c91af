"""What survives a restart: uploads and jobs, in SQLite. One connection, used by one thread."""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import MediaError

FORM = 1  # of the tables
BUSY = 1.0  # seconds to wait for another program that has locked the database; the whole server waits
MAX_STARTS = 2  # a job that was running when the server died is started once more
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
OPEN = ("queued", "running")
TABLES = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, label TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, client TEXT NOT NULL, status TEXT NOT NULL,
    priority INTEGER NOT NULL, created REAL NOT NULL, started REAL, finished REAL, starts INTEGER NOT NULL DEFAULT 0,
    spec TEXT NOT NULL, result TEXT, error TEXT);
CREATE INDEX IF NOT EXISTS open_jobs ON jobs (status, priority DESC, seq);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
Values = dict[str, Any]


@dataclass(frozen=True)
class StoredFile:
    """An upload. `label` is the name that the client gave; it names nothing on this machine."""

    id: str
    client: str
    label: str
    path: str
    bytes: int
    created: float  # seconds since 1970
    used: float


@dataclass(frozen=True)
class Job:
    """A job. `spec` is what is asked for (`work.job_request.JobSpec`), `result` what was made."""

    seq: int
    id: str
    client: str
    status: str
    priority: int
    created: float  # seconds since 1970
    started: float | None
    finished: float | None
    starts: int
    spec: Values
    result: Values | None
    error: Values | None  # code, message

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


def new_id(kind: str) -> str:
    """A name that nobody can guess: "job_" or "file_" and 128 random bits."""
    return f"{kind}_{secrets.token_hex(16)}"


class Store:
    """The tables. Every change is on the disk when its method returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises MediaError if another version made it, or it is damaged."""
        try:
            self._db = sqlite3.connect(path, BUSY, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(TABLES)
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('form', ?), ('boot', 0)", (FORM,))
            self._db.execute("UPDATE facts SET value = value + 1 WHERE name = 'boot'")
            facts = dict(self._db.execute("SELECT name, value FROM facts").fetchall())
        except sqlite3.Error as error:
            raise MediaError(f"cannot use {path}: {error}; move it away to begin with an empty queue") from error
        if facts["form"] != FORM:
            raise MediaError(f"{path} has form {facts['form']}, and this program uses form {FORM}; update it")
        self.boot = facts["boot"]  # number of this start

    def close(self) -> None:
        self._db.close()

    # ------------------------------------------------------------ files
    def add_file(self, file: StoredFile) -> None:
        self._db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(vars(file).values()))

    def file(self, file_id: str) -> StoredFile | None:
        row = self._db.execute("SELECT * FROM files WHERE id = ?", (file_id,)).fetchone()
        return None if row is None else StoredFile(**row)

    def files(self, client: str | None = None) -> list[StoredFile]:
        """All uploads, or those of a client; the newest first."""
        rows = self._db.execute("SELECT * FROM files WHERE ?1 IS NULL OR client = ?1 ORDER BY created DESC", (client,))
        return [StoredFile(**row) for row in rows]

    def files_before(self, moment: float) -> list[StoredFile]:
        """Uploads that were last used before that time, in seconds since 1970."""
        return [StoredFile(**row) for row in self._db.execute("SELECT * FROM files WHERE used < ?", (moment,))]

    def touch_file(self, file_id: str) -> None:
        """Note that an upload is used: it is kept for longer."""
        self._db.execute("UPDATE files SET used = ? WHERE id = ?", (time.time(), file_id))

    def delete_file(self, file_id: str) -> None:
        self._db.execute("DELETE FROM files WHERE id = ?", (file_id,))

    # ------------------------------------------------------------ jobs
    def add_job(self, client: str, priority: int, spec: Values) -> Job:
        """Add a job to the queue."""
        job_id = new_id("job")
        self._db.execute(
            "INSERT INTO jobs (id, client, status, priority, created, spec) VALUES (?, ?, 'queued', ?, ?, ?)",
            (job_id, client, priority, time.time(), json.dumps(spec)),
        )
        job = self.job(job_id)
        assert job is not None
        return job

    def job(self, job_id: str) -> Job | None:
        found = self._jobs("WHERE id = ?", (job_id,))
        return found[0] if found else None

    def finished_before(self, moment: float) -> list[str]:
        """Ids of jobs that ended before that time, in seconds since 1970."""
        return [row["id"] for row in self._db.execute("SELECT id FROM jobs WHERE finished < ?", (moment,))]

    def jobs(self, client: str | None = None, statuses: Sequence[str] = STATUSES, limit: int = -1) -> list[Job]:
        """Jobs of a client, or of all; the newest first."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE (? IS NULL OR client = ?) AND status IN ({marks}) ORDER BY seq DESC LIMIT ?"
        return self._jobs(where, (client, client, *statuses, limit))

    def _jobs(self, where: str, values: Iterable[object]) -> list[Job]:
        rows = self._db.execute(f"SELECT * FROM jobs {where}", tuple(values)).fetchall()
        return [Job(**dict(row) | {name: _load(row[name]) for name in ("spec", "result", "error")}) for row in rows]

    def count(self, statuses: Sequence[str], client: str | None = None) -> int:
        """How many jobs have one of these statuses."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE (? IS NULL OR client = ?) AND status IN ({marks})"
        row = self._db.execute(f"SELECT COUNT(*) FROM jobs {where}", (client, client, *statuses)).fetchone()
        return int(row[0])

    def position(self, job: Job) -> int:
        """How many jobs are done before a queued one."""
        row = self._db.execute(
            "SELECT COUNT(*) FROM jobs WHERE status = 'queued' AND (priority > ?1 OR priority = ?1 AND seq < ?2)",
            (job.priority, job.seq),
        ).fetchone()
        return int(row[0])

    def claim(self) -> Job | None:
        """Take the next job from the queue: the highest priority, then the oldest. It is running from now on."""
        row = self._db.execute(
            "UPDATE jobs SET status = 'running', started = ?, starts = starts + 1 WHERE seq = (SELECT seq FROM jobs "
            "WHERE status = 'queued' ORDER BY priority DESC, seq LIMIT 1) RETURNING id",
            (time.time(),),
        ).fetchone()
        return None if row is None else self.job(row["id"])

    def finish(self, job_id: str, status: str, result: Values | None = None, error: Values | None = None) -> None:
        """Note the end of a job that is queued or running."""
        self._db.execute(
            "UPDATE jobs SET status = ?, finished = ?, result = ?, error = ? WHERE id = ? AND status IN (?, ?)",
            (status, time.time(), _dump(result), _dump(error), job_id, *OPEN),
        )

    def note_wish(self, job_id: str, code: str) -> None:
        """Note that a running job shall end, "cancelled" or "deleted": `recover` does it if the server dies before."""
        text = _dump({"code": code, "message": f"the job was {code}"})
        self._db.execute("UPDATE jobs SET error = ? WHERE id = ? AND status = 'running'", (text, job_id))

    def requeue(self, job_id: str) -> None:
        """Put a running job back, as if it had not been started."""
        self._db.execute(
            "UPDATE jobs SET status = 'queued', started = NULL, error = NULL, starts = starts - 1 WHERE id = ? "
            "AND status = 'running'",
            (job_id,),
        )

    def recover(self) -> None:
        """After a crash: put jobs back that were running, but not those that shall end or that met two crashes."""
        error = {"code": "interrupted", "message": f"the server ended {MAX_STARTS} times while it did this job"}
        for job in self.jobs(statuses=("running",)):
            wish = (job.error or {}).get("code")
            if wish == "deleted":
                self.delete_job(job.id)
            elif wish == "cancelled":
                self.finish(job.id, "cancelled", error=job.error)
            elif job.starts >= MAX_STARTS:
                self.finish(job.id, "failed", error=error)
        self._db.execute("UPDATE jobs SET status = 'queued', started = NULL WHERE status = 'running'")

    def shift(self, seconds: float) -> None:
        """Move all times, after the clock was set: what was young stays young."""
        self._db.execute("UPDATE files SET created = created + ?1, used = used + ?1", (seconds,))
        self._db.execute("UPDATE jobs SET created = created + ?1, started = started + ?1, finished = finished + ?1",
            (seconds,))  # fmt: skip

    def delete_job(self, job_id: str) -> None:
        self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))


def _dump(values: Values | None) -> str | None:
    return None if values is None else json.dumps(values)


def _load(text: str | None) -> Any:
    return None if text is None else json.loads(text)
