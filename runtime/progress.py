"""Show progress to people (a bar on a terminal) or to programs (JSON lines on stdout)."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

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
        print(line, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class JsonLines(Reporter):
    """{"event": "progress", ...} lines, then {"event": "done", "report": {...}}."""

    def update(self, progress: Progress) -> None:
        print(json.dumps({"event": "progress"} | asdict(progress)), flush=True)

    def done(self, report: dict[str, Any]) -> None:
        print(json.dumps({"event": "done", "report": report}), flush=True)


@contextmanager
def reporter(kind: str) -> Iterator[Reporter]:
    """The reporter that `--progress` names."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "none"
    shown = {"bar": Bar, "json": JsonLines, "none": Reporter}[kind]()
    try:
        yield shown
    finally:
        shown.close()
