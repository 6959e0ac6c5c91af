"""Show progress: a bar on a terminal, or JSON lines on stdout."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from runtime.commands.standard_streams import is_terminal, print_event, usable, write
from runtime.sampling import Progress

PROGRESS = ("auto", "bar", "json", "none")
WIDTH = 30
STAGES = {"video": "reading the picture", "sample": "making the sound", "select": "choosing", "codec": "decoding sound"}


class RemainingTime:
    """Estimates the remaining time from the share of the work that is done. Shows none until the rate is known."""

    SOON, SHARE = 1.0, 0.02  # seconds and share of the work before there is an estimate

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._first: float | None = None  # share that was done when this process began: a batch may continue

    def text(self, fraction: float) -> str:
        """For example "0:42 left"; "" if it is not known yet, or nothing remains."""
        seconds = time.monotonic() - self._begin
        if self._first is None:
            self._first = fraction
        done = fraction - self._first
        if seconds < self.SOON or done < self.SHARE or fraction >= 1:
            return ""
        return f"{clock(seconds / done * (1 - fraction))} left"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, such as 1:05, or with hours, such as 2:00:10."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def draw_bar(fraction: float, *parts: str, width: int = WIDTH) -> None:
    """Draw a bar again on the same line of stderr. It is cut to the terminal's width: a second line would stay."""
    filled = int(width * fraction)
    bar = f"[{'#' * filled}{'.' * (width - filled)}] {int(fraction * 100):3}% "
    line = bar + ", ".join(part for part in parts if part)
    write(sys.stderr, f"\r{line[: max(20, shutil.get_terminal_size().columns - 1)]}\x1b[K")


def stage_text(progress: Progress) -> str:
    """What is being done, in words: "making the sound 12/32"."""
    count = f" {progress.step}/{progress.steps}" if progress.stage == "sample" else ""
    return STAGES[progress.stage] + count


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

    def __init__(self) -> None:
        self._remaining = RemainingTime()

    def update(self, progress: Progress) -> None:
        window = f"part {progress.window + 1}" if progress.window else ""  # windows of 10 s; most videos have one
        draw_bar(progress.fraction, stage_text(progress), window, self._remaining.text(progress.fraction))

    def close(self) -> None:
        write(sys.stderr, "\r\x1b[K")


class JsonLines(Reporter):
    """{"event": "progress", ...} lines, then {"event": "done", "report": {...}}."""

    def update(self, progress: Progress) -> None:
        print_event("progress", **asdict(progress))

    def done(self, report: dict[str, Any]) -> None:
        print_event("done", report=report)


def chosen_progress(kind: str, quiet: bool = False) -> str:
    """ "bar", "json" or "none": what `--progress` asks for and the streams can do."""
    if kind == "auto":
        kind = "bar" if is_terminal(sys.stderr) and not quiet else "none"
    return kind if usable({"bar": sys.stderr, "json": sys.stdout}.get(kind)) else "none"


@contextmanager
def reporter(kind: str, quiet: bool = False) -> Iterator[Reporter]:
    """The reporter that `--progress` names. It shows nothing if its stream is missing or closed."""
    shown = {"bar": Bar, "json": JsonLines, "none": Reporter}[chosen_progress(kind, quiet)]()
    try:
        yield shown
    finally:
        with suppress(OSError, ValueError):  # it only tidies up: the work, or its error, counts
            shown.close()
