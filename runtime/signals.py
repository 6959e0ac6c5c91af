"""Signals that stop the command: Ctrl-C, SIGTERM and SIGHUP all clean up, and end with exit status 128 + signal.

Only the command as a process of its own calls `listen`. A host keeps its own handlers.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Literal

STOPPED = "stopped; nothing was written"
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
Phase = Literal["starting", "running", "stopping", "done"]


class Stopped(KeyboardInterrupt):
    """A signal asks the command to stop. `status` is its exit status."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class _State:
    phase: Phase = "starting"
    number = 0  # of the signal that came


def listen(handler: Callable[[int, FrameType | None], None] | None = None) -> None:
    """Handle the signals that stop. Ignored ones stay ignored, as `nohup` and background jobs of a shell need it."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler or _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.phase == "starting":  # an exception would leave a library half imported, and nothing is there to clean up
        with suppress(OSError):
            os.write(2, f"{STOPPED}\n".encode())
        os._exit(128 + number)
    if _State.phase == "running":  # later signals must not disturb the cleaning up
        _State.phase, _State.number = "stopping", number
        raise Stopped(number)


def enter(phase: Phase) -> None:
    """Say what the command does now. Signals exit at once while it starts, and are ignored once it is done."""
    if phase == "done" or _State.phase != "stopping":
        _State.phase = phase


def check() -> None:
    """Raise Stopped again if a signal came: a library's callback may have swallowed the exception."""
    if _State.phase == "stopping":
        raise Stopped(_State.number)
