"""Run the command in a child process, so that a crash in a library ends in one line and leaves no files behind.

The parent forks before anything heavy is imported, so it costs a few milliseconds and little memory. It forwards the
signals that stop, hears from the child which temporary files there are, keeps what libraries print (`--debug` shows
it), and judges how the child ended. Without `os.fork`, and on macOS, where forked processes may not use the system's
libraries, the command runs without it.
"""

import faulthandler
import json
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from engines.memory import MEMORY, memory_is_limited, short_of_memory
from runtime.commands import signals
from runtime.commands.standard_streams import open_missing, say

KEPT = 1 << 16  # bytes of what libraries print
_WITHOUT_MEMORY = ("SIGABRT", "SIGSEGV", "SIGBUS")  # how libraries die that do not check what they allocated
PATIENCE = 5.0  # seconds after the first signal until another one kills
_to_parent: int | None = None  # in the child: where messages go


def tell(message: dict[str, Any]) -> None:
    """Tell the parent process what it needs to clean up and to explain a crash. Does nothing without one."""
    if _to_parent is not None:
        with suppress(OSError):  # it is gone; `_watch` ends this process
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(_to_parent, data) :]


def run_guarded(run: Callable[[], int], debug: bool) -> int:
    """Run a command in a child process, and return its exit status. The child returns from here, too."""
    open_missing()
    signals.handle(signal.SIG_DFL)
    if sys.platform == "win32" or sys.platform == "darwin":  # mypy knows this form
        return _run(run, debug)
    told, noise, alive = os.pipe(), os.pipe(), os.pipe()  # the child holds the first two's ends for writing
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
    try:
        pid = os.fork()
    except OSError:  # too many processes, or too little memory
        pid = -1
    if pid > 0:
        parent = _Parent(pid)
        signals.handle(parent.forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    if pid < 0:
        return _run(run, debug)
    for end in (told[pid > 0], noise[pid > 0], alive[pid == 0]):
        os.close(end)
    if pid == 0:
        _begin_child(told[1], noise[1], alive[0])
        return _tell_status(lambda: _run(run, debug))
    return parent.wait(told[0], noise[0], debug)


def _tell_status(run: Callable[[], int]) -> int:
    """Tell the parent the exit status. It counts, even if a library crashes while Python ends."""
    status: object = 1
    try:
        status = run()
        return status
    except SystemExit as end:
        status = end.code
        raise
    finally:
        tell({"status": status if isinstance(status, int) else 1})


def _run(run: Callable[[], int], debug: bool) -> int:
    """Run the command. An error while libraries are imported is one line, too."""
    try:
        return run()
    except (ImportError, MemoryError, RuntimeError, OSError) as error:
        if debug:
            raise
        short = isinstance(error, MemoryError) or short_of_memory(f"{error}")
        say(f"error: {MEMORY if short else ' '.join(str(error).split())}")
        return 1


# ---------------------------------------------------------------- the child
def _begin_child(told: int, noise: int, alive: int) -> None:
    global _to_parent
    _to_parent = told
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(noise, 2)  # libraries print there, and never to the user
    os.close(noise)
    faulthandler.enable(2)
    with suppress(RuntimeError):  # no thread can be started
        threading.Thread(target=_watch, args=(alive,), name="maskvat-parent", daemon=True).start()


def _watch(alive: int) -> None:
    """Stop like after SIGTERM when the parent is killed: nobody would clean up after this process."""
    with suppress(OSError):
        os.read(alive, 1)  # returns when the parent ends
        os.kill(os.getpid(), signal.SIGTERM)


# ---------------------------------------------------------------- the parent
class _Parent:
    def __init__(self, pid: int) -> None:
        self.pid, self.stopped, self.since = pid, 0, 0.0

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Forward a signal. If the child does not end for a while, the next signal kills it."""
        if not self.stopped:
            self.stopped, self.since = number, time.monotonic()
        late = time.monotonic() - self.since > PATIENCE
        with suppress(ProcessLookupError):
            os.kill(self.pid, getattr(signal, "SIGKILL", number) if late else number)

    def wait(self, told: int, noise: int, debug: bool) -> int:
        """Wait for the child, clean up after it, and return the exit status."""
        heard = {told: b"", noise: b""}
        pipes = [told, noise]
        while pipes:
            for pipe in select.select(pipes, [], [])[0]:
                data = os.read(pipe, KEPT)
                heard[pipe] = heard[pipe] + data if pipe == told else (heard[pipe] + data)[-KEPT:]
                if not data:
                    pipes.remove(pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        signals.handle(signal.SIG_IGN)  # only the exit is left
        printed = heard[noise].decode(errors="replace")
        if debug and printed:
            say(printed.rstrip())
        return self._judge(status, heard[told], printed)

    def _judge(self, status: int, told: bytes, printed: str) -> int:
        messages = _read_messages(told)
        published = any(m.get("state") == "published" for m in messages)
        if any(os.path.lexists(folder) for m in messages for folder in m.get("folders", ())):
            from runtime.commands.staging import recover

            recover(messages)
        if published:
            return 0  # every output is there, whatever happened after that
        for message in messages:
            if "status" in message:
                return int(message["status"])
        if self.stopped or (-status in signals.SIGNALS and not short_of_memory(printed)):
            say(signals.STOPPED)
            return 128 + (self.stopped or -status)
        video = next((str(m["video"]) for m in messages if "video" in m), "")
        writing = any("folders" in m for m in messages)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        say(f"error: {explain(how, printed, video, writing)}")
        return 1


def _read_messages(told: bytes) -> list[dict[str, Any]]:
    """What the child told, one JSON object a line. The last line may be cut."""
    messages = []
    for line in told.splitlines():
        with suppress(ValueError):
            messages.append(json.loads(line))
    return messages


def explain(how: str, printed: str, video: str, writing: bool = False) -> str:
    """One line about a death by signal or a library's exit. `printed`: faulthandler's traceback, libraries' lines."""
    if how == "SIGKILL":
        return "the system killed the program (SIGKILL), usually because memory is short; " + MEMORY.split("; ", 1)[1]
    if short_of_memory(printed):
        return MEMORY
    if how in _WITHOUT_MEMORY and memory_is_limited():
        return f"the program crashed ({how}) under a limit on memory (`ulimit -v`); raise the limit and try again"
    where = _crashed_thread(printed)
    if "/engines/" in where:
        return f"the engines crashed ({how}); try another --backend, and check them with `python -m runtime.doctor`"
    if video and "/runtime/" in where:
        deed = "FFmpeg's libraries crashed while they copied" if writing else "the decoder crashed on"
        return f"{deed} {video} ({how}); convert it first, for example with `ffmpeg -i {video} -c:v libx264 copy.mp4`"
    return f"the program crashed ({how}); check the installation with `python -m runtime.doctor`"


def _crashed_thread(printed: str) -> str:
    """The part of a traceback by faulthandler that belongs to the thread that crashed.

    A library's own thread has no Python frames. Then it is the main thread, which waits for that library.
    """
    parts = re.split(r"\n(?=Thread 0x|Current thread 0x)", printed)
    current = [p for p in parts if p.startswith("Current thread 0x") and "File " in p]
    return (current or [p for p in parts if "/runtime/commands/make.py" in p] or [""])[0]
