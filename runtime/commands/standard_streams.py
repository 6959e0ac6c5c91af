"""Standard streams that may be missing: closed, None, or an object that only writes."""

import json
import os
import sys
from contextlib import suppress
from typing import Any


def usable(stream: Any) -> bool:
    """Whether a stream can be written to, as far as it says."""
    return stream is not None and not getattr(stream, "closed", False)


def is_terminal(stream: Any) -> bool:
    try:
        return usable(stream) and bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def write(stream: Any, text: str) -> None:
    """Write at once. Raises OSError if nobody reads the stream or its disk is full."""
    stream.write(text)
    if hasattr(stream, "flush"):
        stream.flush()


def say(text: str) -> None:
    """Write a line to stderr, if there is one that takes it."""
    with suppress(AttributeError, OSError, ValueError):
        write(sys.stderr, f"{text}\n")


def print_event(event: str, **values: object) -> None:
    """Print a line of JSON on stdout, for programs. Raises OSError if nobody reads it."""
    write(sys.stdout, json.dumps({"event": event} | values) + "\n")


def open_missing() -> None:
    """Open the null device for each standard stream that is closed. Its number would go to the next file otherwise,
    and a library's messages would end up in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def drop_unread() -> None:
    """Discard the output of a stream that takes no more: flushing it when Python ends would fail again."""
    for stream in (sys.stdout, sys.stderr):
        if not usable(stream):
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(AttributeError, OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except AttributeError:  # it only writes
            pass
