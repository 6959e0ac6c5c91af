"""The two streams of the protocol: lines of JSON from the host, and to it."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator

MAX_LINE = 1 << 20  # bytes of a request, with its end


class Channel:
    """Writes events. Threads may call it at once; each event is one whole line."""

    def __init__(self, descriptor: int, on_closed: Callable[[], None] = lambda: None) -> None:
        """`on_closed` is called once the host reads no more."""
        self._descriptor, self.on_closed = descriptor, on_closed
        self._lock = threading.Lock()
        self.closed = False

    def send(self, event: str, **values: object) -> None:
        """Write one event. Does nothing once the host reads no more."""
        data = encode({"event": event} | values)
        with self._lock:
            if self.closed:
                return
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self.closed = True
        if self.closed:
            self.on_closed()


def encode(values: object) -> bytes:
    """A line of JSON: UTF-8, in which only quotes, backslashes and control characters are escaped.

    File names that are not UTF-8 make the whole line ASCII, with escapes.
    """
    try:
        return json.dumps(values, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(values).encode() + b"\n"


def claim_stdout() -> int:
    """Keep standard output for the protocol. What libraries print there goes to standard error from now on.

    Returns the descriptor to write events to.
    """
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return kept


def read_lines(read: Callable[[int], bytes], limit: int = MAX_LINE) -> Iterator[bytes | None]:
    """Lines from a function such as `os.read`, without their ends; None for a line that is too long.

    It reads the descriptor itself: a thread that waits in `sys.stdin` would disturb the end of the program.
    """
    line, skipping = b"", False
    while data := read(1 << 16):
        *whole, rest = (line + data).split(b"\n")
        for text in whole:
            yield None if skipping or len(text) >= limit else text
            skipping = False
        skipping = skipping or len(rest) >= limit
        line = b"" if skipping else rest
    if line or skipping:
        yield None if skipping else line
