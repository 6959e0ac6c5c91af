"""Native code that is still running when Python ends: it is cancelled and waited for. Otherwise the process aborts.

When Python ends, daemon threads stop where they are; a thread that then returns from a library's C++ code ends the
process with "terminate called without an active exception".
"""

import atexit
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import Cancelled

PATIENCE = 30.0  # seconds that the end of the program waits: one call of an engine is much shorter


class _Active:
    """What runs in this process."""

    def __init__(self) -> None:
        self.changed, self.count, self.ending, self.registered = threading.Condition(), 0, False, False

    def at_exit(self) -> None:
        with self.changed:
            self.ending = True
            end = time.monotonic() + PATIENCE
            while self.count and self.changed.wait(max(0.0, end - time.monotonic())):
                pass

    def forget(self) -> None:
        """In a forked child, the other threads are gone."""
        self.changed, self.count = threading.Condition(), 0


_ACTIVE = _Active()


@contextmanager
def delay_exit() -> Iterator[None]:
    """Mark work that the end of the program must wait for. Raises Cancelled if the program ends already."""
    with _ACTIVE.changed:
        if not _ACTIVE.registered:  # not at import, which changes nothing
            atexit.register(_ACTIVE.at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_ACTIVE.forget)
            _ACTIVE.registered = True
        check_ending()
        _ACTIVE.count += 1
    try:
        yield
    finally:
        with _ACTIVE.changed:
            _ACTIVE.count -= 1
            _ACTIVE.changed.notify_all()


def check_ending() -> None:
    """Raises Cancelled if the program ends."""
    if _ACTIVE.ending:
        raise Cancelled("the program has ended")
