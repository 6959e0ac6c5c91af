"""Signals that stop the command: Ctrl-C, SIGTERM and SIGHUP all clean up, and end with exit status 128 + signal.

Only the command as a process of its own sets handlers. A host keeps its own.
"""

import signal
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

STOPPED = "stopped; nothing was written"
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asks the command to stop. `status` is its exit status."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class _State:
    number = 0  # of the signal that came
    done = False


def handle(handler: Callable[[int, FrameType | None], None] | Any) -> None:
    """Set the handler of all signals that stop. Ignored ones stay ignored: `nohup` and background jobs rely on it."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def listen() -> None:
    """From now on the first signal raises Stopped. Later ones do nothing: they must not disturb the cleaning up.

    Call it after libraries are imported. While they are, the default is better, which ends the process at once.
    """
    handle(_stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _State.done and not _State.number:
        _State.number = number
        raise Stopped(number)


ALSO: ContextVar[Callable[[], None]] = ContextVar("ALSO", default=lambda: None)  # what else may stop this thread's work


def check() -> None:
    """Raise Stopped again if a signal came: a library's callback may have swallowed the exception.

    Also raises what the thread's function ALSO raises, such as Cancelled.
    """
    ALSO.get()()
    if _State.number and not _State.done:
        raise Stopped(_State.number)


def finish() -> None:
    """Ignore signals from now on: the result stands, and only the exit is left."""
    _State.done = True
