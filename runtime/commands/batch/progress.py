"""One progress bar, or one stream of JSON lines, for a batch whose videos are worked on at the same time."""

import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from runtime.commands.batch.supervise import Result
from runtime.commands.show_progress import WIDTH, RemainingTime, chosen_progress, draw_bar, stage_text
from runtime.commands.standard_streams import print_event, write
from runtime.sampling import Progress


class BatchProgress:
    """Shows how far a batch is. Threads may call it at once. Raises OSError if nobody reads what it shows."""

    def __init__(self, kind: str, quiet: bool, videos: list[Path], results: dict[int, Result]) -> None:
        self._kind = chosen_progress(kind, quiet)
        self._videos, self._results = videos, results
        self._skipped = 0  # finished without work, so they say nothing about the remaining time
        self._running: dict[int, Progress] = {}
        self._lock = threading.Lock()
        self._remaining = RemainingTime()

    def update(self, number: int, progress: Progress) -> None:
        """Show the progress of one video."""
        with self._lock:
            self._running[number] = progress
            if self._kind == "bar":
                self._draw(number)
            elif self._kind == "json":
                whole = {"total_fraction": self._fraction()}
                print_event("progress", clip=number, video=str(self._videos[number]), **asdict(progress) | whole)

    def finish(self, number: int, result: Result) -> None:
        """Note the result of one video."""
        with self._lock:
            self._running.pop(number, None)
            self._results[number] = result
            self._skipped += result["status"] == "skipped"
            if self._kind == "json":
                print_event("clip", clip=number, video=str(self._videos[number]), **result)

    def clear(self) -> None:
        """Remove the bar, so that a line can be printed."""
        if self._kind == "bar":
            with self._lock, suppress(OSError, ValueError):
                write(sys.stderr, "\r\x1b[K")

    def print_summary(self, summary: dict[str, object]) -> None:
        """Print the last JSON line."""
        if self._kind == "json":
            print_event("done", summary=summary)

    def print_error(self, code: str, message: str) -> None:
        """Print an error of the whole batch as a JSON line."""
        if self._kind == "json":
            print_event("error", code=code, message=message)

    def _fraction(self) -> float:
        """The share of the whole batch that is done."""
        total = len(self._videos) - self._skipped
        done = len(self._results) - self._skipped + sum(p.fraction for p in self._running.values())
        return done / total if total else 1.0

    def _draw(self, number: int) -> None:
        fraction = self._fraction()
        failed = sum(result["status"] == "failed" for result in self._results.values())
        draw_bar(
            fraction,
            f"{len(self._results)} of {len(self._videos)}",
            f"{failed} failed" if failed else "",
            self._remaining.text(fraction),
            stage_text(self._running[number]),
            self._videos[number].name,
            width=WIDTH // 2,
        )
