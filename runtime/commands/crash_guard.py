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
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

from engines.advice import MEMORY, memory_is_limited, own_command, short_of_memory
from runtime.commands import signals
from runtime.commands.standard_streams import open_missing, print_event, say

KEPT = 1 << 16  # bytes of what libraries print
_WITHOUT_MEMORY = ("SIGABRT", "SIGSEGV", "SIGBUS")  # how libraries die that do not check what they allocated
PATIENCE = 5.0  # seconds after the first signal until another one kills
FORGET = {"forget": True}
_to_parent: int | None = None  # in the child: where messages go
_telling = threading.Lock()
JOB: ContextVar[int | None] = ContextVar("JOB", default=None)  # number of the clip that a thread of a batch works on
Message = dict[str, Any]


@dataclass(frozen=True)
class ChildEnd:
    """How a child process ended. Its temporary files are still there: see `staging.recover`."""

    status: int  # below 0: killed by that signal
    stopped: int  # the signal that came for this process, or 0
    messages: list[Message]  # what it told
    printed: str  # what libraries printed

    @property
    def told_status(self) -> int | None:
        """The exit status that the command had before anything that happened while Python ended."""
        return next((int(m["status"]) for m in self.messages if "status" in m), None)

    @property
    def stop_signal(self) -> int:
        """The signal that asked it to stop, or 0."""
        asked = -self.status in signals.SIGNALS and not short_of_memory(self.printed)
        return self.stopped or (-self.status if asked else 0)

    def explain(self, messages: list[Message]) -> tuple[str, str]:
        """A stable code and one line about a crash, given the messages about the work that crashed."""
        video = next((str(m["video"]) for m in messages if "video" in m), "")
        writing = any("folders" in m for m in messages)
        how = signal.Signals(-self.status).name if self.status < 0 else f"exit status {self.status}"
        text = explain(how, self.printed, video, writing)
        return "out_of_memory" if text == MEMORY else "crashed", text


def tell(message: Message) -> None:
    """Tell the parent process what it needs to clean up and to explain a crash. Does nothing without one."""
    if _to_parent is not None:
        job = JOB.get()
        data = json.dumps(message if job is None else message | {"job": job}).encode() + b"\n"
        with suppress(OSError), _telling:  # the parent is gone: `_watch` ends this process
            while data:
                data = data[os.write(_to_parent, data) :]


def forget() -> None:
    """Tell the parent process that what was told before does not matter any more."""
    tell(FORGET)


def run_guarded(run: Callable[[], int], debug: bool) -> int:
    """Run a command in a child process, and return its exit status. The child returns from here, too."""
    end = run_in_child(run, debug)
    return end if isinstance(end, int) else _judge(end)


def run_in_child(run: Callable[[], int], debug: bool) -> int | ChildEnd:
    """Run a command in a child process, and return how that ended.

    The child, and a process that could make none, return the command's exit status.
    """
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

    def wait(self, told: int, noise: int, debug: bool) -> ChildEnd:
        """Wait for the child's end."""
        heard = {told: b"", noise: b""}
        pipes = [told, noise]
        while pipes:
            for pipe in select.select(pipes, [], [])[0]:
                data = os.read(pipe, KEPT)
                heard[pipe] = heard[pipe] + data if pipe == told else (heard[pipe] + data)[-KEPT:]
                if pipe == told and b"forget" in data:
                    heard[pipe] = heard[pipe].rpartition(json.dumps(FORGET).encode() + b"\n")[2]
                if not data:
                    pipes.remove(pipe)
                    os.close(pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        printed = heard[noise].decode(errors="replace")
        if debug and printed:
            say(printed.rstrip())
        return ChildEnd(status, self.stopped, _read_messages(heard[told]), printed)


def recover_from(messages: list[Message]) -> bool:
    """Clean up after a child that told these messages. Returns whether it published its outputs."""
    if any(os.path.lexists(folder) for m in messages for folder in m.get("folders", ())):
        from runtime.commands.staging import recover

        recover(messages)
    return any(m.get("state") == "published" for m in messages)


def _judge(end: ChildEnd) -> int:
    """Clean up after a child, say what went wrong, and return the exit status of the command."""
    signals.handle(signal.SIG_IGN)  # only the cleaning up and the exit are left
    if recover_from(end.messages):
        return 0  # every output is there, whatever happened after that
    if end.told_status is not None:
        return end.told_status
    stopped = end.stop_signal
    code, text = ("stopped", signals.STOPPED) if stopped else end.explain(end.messages)
    begun = next((m["begun"] for m in end.messages if "begun" in m), None)  # the file of --stream, which grew
    if begun is not None:
        text = f"{'stopped' if stopped else text}; {begun} has the beginning of the sound"
    say(text if stopped else f"error: {text}")
    if any(m.get("progress") == "json" for m in end.messages):
        with suppress(OSError, ValueError):
            print_event("error", code=code, message=text)
    return 128 + stopped if stopped else 1


def _read_messages(told: bytes) -> list[Message]:
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
        return f"the engines crashed ({how}); try another --backend, and check them with {own_command('doctor')}"
    if video and "/runtime/" in where:
        deed = "FFmpeg's libraries crashed while they copied" if writing else "the decoder crashed on"
        return f"{deed} {video} ({how}); convert it first, for example with `ffmpeg -i {video} -c:v libx264 copy.mp4`"
    return f"the program crashed ({how}); check the installation with {own_command('doctor')}"


def _crashed_thread(printed: str) -> str:
    """The part of a traceback by faulthandler that belongs to the thread that crashed.

    A library's own thread has no Python frames. Then it is the main thread, which waits for that library.
    """
    parts = re.split(r"\n(?=Thread 0x|Current thread 0x)", printed)
    current = [p for p in parts if p.startswith("Current thread 0x") and "File " in p]
    return (current or [p for p in parts if "/runtime/commands/make.py" in p] or [""])[0]
