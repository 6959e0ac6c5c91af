"""Events of jobs: a short history of each, for clients that come late or come back."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.serve.store import Values

MAX_PROGRESS = 64  # progress events of a job that are kept; each has the whole state, so none is missed
PAUSE = 0.2  # seconds between two progress events of one stage
FORGET = 600.0  # seconds after the end of a job until its history is forgotten


@dataclass(frozen=True)
class Event:
    """`number` counts within one start of the server; "BOOT.NUMBER" grows also over restarts."""

    boot: int
    number: int
    kind: str  # "status", or "progress"
    data: Values
    last: bool = False

    @property
    def id(self) -> str:
        return f"{self.boot}.{self.number}"


def read_event_id(text: str | None) -> tuple[int, int]:
    """(boot, number) of an id; (0, 0) without one, or if it is none of ours: all events are then sent again."""
    boot, _, number = (text or "").partition(".")
    return (int(boot), int(number)) if boot.isdecimal() and number.isdecimal() and len(boot + number) < 19 else (0, 0)


@dataclass
class EventLog:
    """The events of one job."""

    boot: int
    events: list[Event] = field(default_factory=list)
    ended: float | None = None  # time of the last event
    _count: int = 0
    _told: tuple[str, float] = ("", 0.0)  # stage and time of the last progress
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, kind: str, data: Values, last: bool = False) -> None:
        if kind == "progress":
            stage, now = str(data["phase"]), time.monotonic()
            if stage == self._told[0] and now - self._told[1] < PAUSE and data["progress"] < 1:
                return
            self._told = (stage, now)
            kept = [event for event in self.events if event.kind == "progress"]
            if len(kept) >= MAX_PROGRESS:
                self.events.remove(kept[0])
        self._count += 1
        self.events.append(Event(self.boot, self._count, kind, data, last))
        self.ended = time.monotonic() if last else None
        self.wake()

    def progress(self, event: Values) -> None:
        """Publish what a worker tells of its progress."""
        data = {"status": "running", "phase": event["stage"], "progress": event["fraction"]}
        self.publish("progress", data | {name: event[name] for name in ("window", "step", "steps")})

    def after(self, known: tuple[int, int]) -> list[Event]:
        """The events after an id."""
        return [event for event in self.events if (event.boot, event.number) > known]

    async def changed(self, seconds: float) -> None:
        """Wait for another event, or for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def wake(self) -> None:
        """Let those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()


class Events:
    """The histories of all jobs that somebody may still ask for."""

    def __init__(self, boot: int) -> None:
        self._boot, self.closed = boot, False
        self._logs: dict[str, EventLog] = {}

    def log(self, job_id: str) -> EventLog:
        return self._logs.setdefault(job_id, EventLog(self._boot))

    def forget(self, seconds: float = FORGET) -> None:
        """Drop the histories of jobs that ended so long ago."""
        now = time.monotonic()
        for job_id, log in list(self._logs.items()):
            if log.ended is not None and now - log.ended >= seconds:
                del self._logs[job_id]

    def close(self) -> None:
        """Let all streams end: the server stops."""
        self.closed = True
        for log in self._logs.values():
            log.wake()

    def drop(self, job_id: str) -> None:
        self._logs.pop(job_id, None)
