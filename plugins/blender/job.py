"""One request to the engine, and the warm engine that is kept between requests. No bpy here."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .engine import Engine, Event, Refused

PATIENCE = 15.0  # seconds that the engine gets to cancel
PAUSE = 0.05  # seconds between two looks at what the engine said
STAGES = {
    "start": "starting the engine",
    "load": "opening the model",
    "video": "looking at the picture",
    "sample": "making the sound",
    "select": "comparing the takes",
    "codec": "writing the sound",
}
LOAD_AGAIN = ("engine_error", "out_of_memory")  # after these errors, docs/EMBEDDING.md has the host send `load`


class Job:
    """A request in work. Call `poll` until `finished`; then `error` is empty, or says what went wrong."""

    def __init__(self, engine: Engine, opening: Mapping[str, Any], method: str = "", **fields: Any) -> None:
        """`opening` has the fields of `load`; `method` and `fields` are the request. Without a method, only load."""
        self._engine, self._opening, self._method, self._fields = engine, opening, method, fields
        self._id: int | None = None  # of the request that is waited for
        self._cancelled_at: float | None = None
        self.stage, self.fraction = "start", 0.0
        self.finished, self.error, self.code = False, "", ""
        self.result: Event = {}
        if engine.hello is not None:
            self._next()

    @property
    def text(self) -> str:
        """What happens now, for the status bar."""
        if self._cancelled_at is not None:
            return "cancelling"
        share = f" {100 * self.fraction:.0f} %" if self.fraction else ""
        return STAGES.get(self.stage, self.stage) + share

    def poll(self) -> None:
        """Look at what the engine said. Never waits."""
        if self.finished:
            return
        greeted = self._engine.hello is not None
        try:
            events = self._engine.poll()
        except Refused as error:
            self._fail("bad_program", str(error))
            return
        if not greeted and self._engine.hello is not None:
            self._next()
        for event in events:
            self._take(event)
        if not self.finished and self._engine.ended:
            self._fail("crashed", f"The engine ended: {self._engine.last_words()}")
        if self._cancelled_at is not None and time.monotonic() - self._cancelled_at > PATIENCE and not self.finished:
            self.abandon()

    def wait(self) -> None:
        """Wait for the answer."""
        while not self.finished:
            self.poll()
            time.sleep(PAUSE)

    def cancel(self) -> None:
        """Ask the engine to stop. The answer still comes with `poll`; nothing is written."""
        if self.finished or self._cancelled_at is not None:
            return
        if self.stage in ("start", "load"):  # cannot be interrupted; a new process costs the same seconds
            self.abandon()
            return
        self._cancelled_at = time.monotonic()
        self._engine.send("cancel", target=self._id)

    def abandon(self) -> None:
        """End the engine at once, and this job with it."""
        self._engine.kill()
        self._fail("cancelled", "Cancelled")

    def _next(self) -> None:
        if self._engine.opened != self._opening:
            self.stage = "load"
            self._id = self._engine.send("load", **self._opening)
        elif self._method:
            self.stage = "video"
            self._id = self._engine.send(self._method, **self._fields)
        else:
            self.finished = True

    def _take(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "error" and event.get("id") in (None, self._id):
            code, message = str(event.get("code")), str(event.get("message"))
            self._fail(code, "Cancelled" if code == "cancelled" else message)
        elif event.get("id") != self._id:
            return  # the answer to `cancel`, or to an earlier job that was left
        elif kind == "progress":
            self.stage, self.fraction = str(event["stage"]), float(event["fraction"])
        elif kind == "done":
            self.result = event["result"]
            if self.stage == "load":
                self._engine.opened = self._opening
                self._next()
            else:
                self.finished, self.fraction = True, 1.0

    def _fail(self, code: str, message: str) -> None:
        self.finished, self.code, self.error = True, code, message
        if code in LOAD_AGAIN:
            self._engine.opened = None


class Session:
    """The engine that stays warm between jobs, and the job that runs now."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self.job: Job | None = None

    @property
    def busy(self) -> bool:
        return self.job is not None and not self.job.finished

    @property
    def hello(self) -> Event:
        """What the running program said about itself; empty without one."""
        return (self._engine.hello or {}) if self._engine is not None else {}

    def start(self, command: Sequence[str], opening: Mapping[str, Any], method: str = "", **fields: Any) -> Job:
        """Begin a job, in a new process only if there is none for this command. Raises Refused."""
        if self.busy:
            raise Refused("Another sound is being made. Wait for it, or cancel it with Esc.")
        if self._engine is not None and (self._engine.ended or self._engine.command != tuple(command)):
            self.close()
        if self._engine is not None:
            self._engine.poll()  # forget answers to jobs that were left
            if self._engine.ended:
                self.close()
        if self._engine is None:
            self._engine = Engine(command)
        self.job = Job(self._engine, opening, method, **fields)
        return self.job

    def close(self) -> None:
        """End the engine, and the job that it has."""
        if self._engine is None:
            return
        if self.job is not None and self.busy:
            self.job.abandon()
        elif self._engine.ended:
            self._engine.kill()
        else:
            self._engine.close()
        self._engine = None
