"""One worker process: a host of `maskvat stdio`. Whatever it does, it ends at most the job that it works on."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.serve.store import Values

START, CLOSE = 600.0, 5.0  # seconds for opening a bundle, and for the end
KEPT = 4096  # bytes of what it writes for people
LINE = 1 << 24  # bytes of an event: a report of many takes is long


class WorkerError(Exception):
    """A worker refused a request, or ended. `dead`: it must be started anew."""

    def __init__(self, code: str, message: str, dead: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.dead = code, message, dead


class Worker:
    """A process that opens the bundle once and makes one sound at a time."""

    def __init__(self, command: Sequence[str], stall: float, card: str = "") -> None:
        """`stall`: seconds without progress until it counts as hung. `card`: the only GPU that it sees, if any."""
        self._command, self._stall, self.card = command, stall, card
        self._process: Process | None = None
        self._count = 0
        self._cancelled = False
        self.facts: Values = {}  # what `load` answered
        self.exited = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._printed = b""  # the end of what it wrote for people

    async def start(self) -> None:
        """Start the process and open the bundle. Raises WorkerError."""
        options: dict[str, Any] = {"start_new_session": True} if sys.platform != "win32" else {}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LINE, env=_environment(self.card), **options
            )
        except OSError as error:
            raise WorkerError("crashed", f"cannot start a worker: {error.strerror or error}", dead=True) from error
        self._watch = asyncio.create_task(self._wait())
        hello = await self._read(START)
        if hello.get("event") != "hello" or hello.get("protocol") != 1:
            raise WorkerError("crashed", "the worker does not speak protocol 1", dead=True)
        self.facts = await self._request("load", {}, START, lambda event: None) | {"version": hello["version"]}

    async def _wait(self) -> None:
        """Read what it writes for people, until it ends."""
        process = self._process
        assert process is not None and process.stderr is not None
        while piece := await process.stderr.read(KEPT):
            self._printed = (self._printed + piece)[-KEPT:]
        await process.wait()
        self.exited.set()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def generate(self, params: Values, on_progress: Callable[[Values], None]) -> Values:
        """Make a sound. Returns the report. Raises WorkerError, also if it was cancelled."""
        self._cancelled = False
        return await self._request("generate", params, self._stall, on_progress)

    async def cancel(self) -> None:
        """Ask for the end of the running request. Kill the process if it does not end soon."""
        self._cancelled = True
        with suppress(WorkerError):
            await self._send({"id": f"cancel {self._count}", "method": "cancel", "target": self._count})

    async def _request(
        self, method: str, params: Values, patience: float, on_progress: Callable[[Values], None]
    ) -> Values:
        self._count += 1
        await self._send({"id": self._count, "method": method} | params)
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            event = await self._read(deadline - asyncio.get_running_loop().time())
            if event.get("id") not in (self._count, None) and not event.get("fatal"):
                continue
            kind = event.get("event")
            if kind == "done":
                return dict(event["result"])
            if kind == "error" and event.get("code") == "cancelled" and not self._cancelled:
                # the part that is left of a killed worker saw its input end
                raise WorkerError("crashed", "the worker process ended", dead=True)
            if kind == "error":
                raise WorkerError(str(event["code"]), str(event["message"]), bool(event.get("fatal")))
            deadline = asyncio.get_running_loop().time() + patience
            if kind == "progress":
                on_progress(event)

    async def _send(self, request: Values) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
        except (OSError, RuntimeError) as error:
            raise WorkerError("crashed", "the worker process ended", dead=True) from error

    async def _read(self, seconds: float) -> Values:
        """The next event. Kills a process that says nothing for so long, or nonsense. Raises WorkerError."""
        assert self._process is not None and self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), max(0.0, seconds))
            if line.endswith(b"\n"):
                return dict(json.loads(line))
        except TimeoutError as error:
            self.kill()
            text = f"no progress for {self._stall:g} s; the worker was ended (--stall sets the limit)"
            raise WorkerError("stalled", text, dead=True) from error
        except ValueError as error:
            self.kill()
            raise WorkerError("crashed", f"the worker wrote nonsense: {error}", dead=True) from error
        self.kill()  # also children that hold its output open
        await self.exited.wait()
        said = self._printed.decode(errors="replace").strip().rpartition("\n")[2]
        text = f"the worker process ended ({_how(self._process.returncode)}){': ' if said else ''}{said}"
        raise WorkerError("crashed", text, dead=True)

    def kill(self) -> None:
        """End the process and its children at once."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the process: ask first, then kill."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(WorkerError):
                await self._send({"id": "close", "method": "close"})
            with suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), CLOSE)
        self.kill()  # also children that outlived it
        if self._watch is not None:
            await self._watch
        if process.stdin is not None:
            process.stdin.close()


def _environment(card: str) -> dict[str, str]:
    """The server's own, in which the worker finds the same `runtime` as the server, and its card."""
    ours = str(Path(__file__).resolve().parents[3])
    given = os.environ.get("PYTHONPATH")
    found = dict(os.environ) | {"PYTHONPATH": f"{ours}{os.pathsep}{given}" if given else ours}
    # CUDA itself would put the fastest card first; nvidia-smi counts by bus
    return found | {"CUDA_VISIBLE_DEVICES": card, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if card else found


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"exit status {status}"
