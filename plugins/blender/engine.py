"""The engine as a child process: `maskvat stdio`. docs/EMBEDDING.md describes the protocol. No bpy here."""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import IO, Any

PROTOCOL = 1
GRACE = 3.0  # seconds that the process gets to end after `close`
Event = dict[str, Any]


class Refused(Exception):
    """Something cannot be done. The text is for the user."""


class Engine:
    """One process of `maskvat stdio`. No method waits for the engine, except `close`."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the program. Raises Refused if that is not possible; what it says comes with `poll`."""
        self.command = tuple(command)
        self.hello: Event | None = None  # the first line, once it came
        self.opened: Mapping[str, Any] | None = None  # fields of the last `load` that worked
        self.ended = False  # all events were polled, and no more will come
        flags: dict[str, Any] = {"creationflags": 0x08000000} if sys.platform == "win32" else {}  # without a console
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            self._process = subprocess.Popen(self.command, **pipes, **flags)
        except OSError as error:
            reason = f"Cannot start {command[0]}: {error.strerror}. Choose MaskVAT's program in the preferences."
            raise Refused(reason) from error
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._said: deque[str] = deque(maxlen=20)  # on standard error
        self._last_id = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
                self._events.put(event if isinstance(event, dict) else {"event": "unknown"})
            except ValueError:
                self._events.put({"event": "unknown"})
        self._events.put(None)

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").strip())

    def poll(self) -> list[Event]:
        """What the engine said since the last call. Raises Refused if the program is not an engine for this add-on."""
        found: list[Event] = []
        while not self.ended:
            try:
                event = self._events.get_nowait()
            except Empty:
                break
            if event is None:
                self.ended = True
            elif self.hello is None:
                self._greet(event)
            else:
                found.append(event)
        return found

    def _greet(self, event: Event) -> None:
        if event.get("event") != "hello":
            self.kill()
            raise Refused(f"{self.command[0]} is not MaskVAT. Choose MaskVAT's program in the preferences.")
        if event.get("protocol") != PROTOCOL:
            self.kill()
            raise Refused(
                f"This add-on speaks protocol {PROTOCOL}, and the program speaks {event.get('protocol')}. "
                "Install the add-on that came with the program."
            )
        self.hello = event

    def send(self, method: str, **fields: Any) -> int:
        """Send a request; returns its id. If the process is gone, `poll` soon tells that it ended."""
        self._last_id += 1
        line = json.dumps({"id": self._last_id, "method": method, **fields}) + "\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except (OSError, ValueError):  # closed pipe
            pass
        return self._last_id

    def last_words(self) -> str:
        """Why the process ended, as far as it said so."""
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its output"
        self._threads[1].join(GRACE)
        said = [line for line in self._said if line]
        return said[-1] if said else f"no message, exit status {status}"

    def close(self) -> None:
        """End the process: kindly, and after GRACE seconds by force."""
        self.send("close")
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End the process at once. It removes what it was writing."""
        self.ended = True
        self._process.terminate()  # lets it remove its temporary files
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(GRACE)
        if not any(thread.is_alive() for thread in self._threads):  # closing what a thread reads would wait for it
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                _close(pipe)


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # what was written last can no longer be flushed
        pass
