"""Show progress: a bar on a terminal, or JSON lines on stdout."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from runtime.commands.standard_streams import is_terminal, usable, write
from runtime.sampling import Progress

PROGRESS = ("auto", "bar", "json", "none")
WIDTH = 30


class Reporter:
    """Shows nothing. The other reporters override it."""

    def update(self, progress: Progress) -> None:
        """Called after every piece of work."""

    def done(self, report: dict[str, Any]) -> None:
        """Called once, after the outputs are written."""

    def close(self) -> None:
        """Called at the end, also after an error."""


class Bar(Reporter):
    """One line on stderr that is drawn again and again."""

    def update(self, progress: Progress) -> None:
        filled = round(WIDTH * progress.fraction)
        where = f"window {progress.window + 1}, {progress.stage} {progress.step}/{progress.steps}"
        line = f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {progress.fraction:4.0%} {where}\x1b[K"
        write(sys.stderr, line)

    def close(self) -> None:
        write(sys.stderr, "\r\x1b[K")


class JsonLines(Reporter):
    """{"event": "progress", ...} lines, then {"event": "done", "report": {...}}."""

    def update(self, progress: Progress) -> None:
        write(sys.stdout, json.dumps({"event": "progress"} | asdict(progress)) + "\n")

    def done(self, report: dict[str, Any]) -> None:
        write(sys.stdout, json.dumps({"event": "done", "report": report}) + "\n")


@contextmanager
def reporter(kind: str) -> Iterator[Reporter]:
    """The reporter that `--progress` names. It shows nothing if its stream is missing or closed."""
    if kind == "auto":
        kind = "bar" if is_terminal(sys.stderr) else "none"
    if not usable({"bar": sys.stderr, "json": sys.stdout}.get(kind)):
        kind = "none"
    shown = {"bar": Bar, "json": JsonLines, "none": Reporter}[kind]()
    try:
        yield shown
    finally:
        with suppress(OSError, ValueError):  # it only tidies up: the work, or its error, counts
            shown.close()
