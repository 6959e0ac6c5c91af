"""The lines of some modules that forked processes reached: `sys.settrace`, for lines that no process reached before.

Only lines of functions count: the lines of a module or class run on import, in the process that forks. A process
that is killed or crashes does not report its lines.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

CO_OPTIMIZED = 1  # code of a function, not of a module or class


class Lines:
    """Which lines were reached. `traced` makes a function report its lines from a forked process."""

    def __init__(self, paths: list[Path], log: Path) -> None:
        self.all = {str(path): set(_lines(_compiled(path))) for path in paths}
        self.left = {name: set(lines) for name, lines in self.all.items()}
        self._log, self._found, self._gathered = log, [], 0  # type: tuple[Path, list[tuple[str, int]], int]
        self._of_code: dict[CodeType, set[int]] = {}
        log.touch()

    def traced(self, run: Callable[[Path], int]) -> Callable[[Path], int]:
        """A function that runs `run` in this (forked) process and adds the lines that it reached to the log."""

        def traced(path: Path) -> int:
            threading.settrace(self._on_call)
            sys.settrace(self._on_call)
            try:
                return run(path)
            finally:
                sys.settrace(None)
                self._write()

        return traced

    def gather(self) -> None:
        """Read what processes have reported since the last call, so that the next ones do not trace it again."""
        with self._log.open() as file:
            file.seek(self._gathered)
            for line in file:
                name, _, number = line.rstrip("\n").rpartition(":")
                self.left[name].discard(int(number))
            self._gathered = file.tell()

    def summary(self, root: Path) -> dict[str, Any]:
        """Lines in all and lines reached, for each file; and the numbers of those that were not reached."""
        self.gather()
        files = {
            Path(name).relative_to(root).as_posix(): {
                "lines": len(lines), "reached": len(lines - self.left[name]), "not_reached": sorted(self.left[name]),
            }
            for name, lines in self.all.items()
        }  # fmt: skip
        lines, reached = (sum(f[key] for f in files.values()) for key in ("lines", "reached"))  # type: ignore[misc]
        return {"lines": lines, "reached": reached, "percent": round(100 * reached / max(1, lines), 1), "files": files}

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Any:
        left = self.left.get(frame.f_code.co_filename)
        if not left:
            return None
        code = frame.f_code
        if code not in self._of_code:
            self._of_code[code] = set(_own_lines(code))
        return self._on_line if self._of_code[code] & left else None

    def _on_line(self, frame: FrameType, event: str, arg: object) -> Any:
        name, line = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and line in self.left[name]:
            self.left[name].discard(line)
            self._found.append((name, line))
        return self._on_line

    def _write(self) -> None:
        found, self._found = self._found, []
        if found:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND)
            os.write(log, "".join(f"{name}:{line}\n" for name, line in found).encode())
            os.close(log)


def _compiled(path: Path) -> CodeType:
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def _lines(code: CodeType) -> Iterator[int]:
    """The lines of all functions in a module."""
    if code.co_flags & CO_OPTIMIZED:
        yield from _own_lines(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _lines(constant)


def _own_lines(code: CodeType) -> Iterator[int]:
    """The lines of one function without its `def`, for which no event comes."""
    skip = None if code.co_name.startswith("<") else code.co_firstlineno
    first = min((line for *_, line in code.co_lines() if line is not None and line != skip), default=0)
    yield from {line for *_, line in code.co_lines() if line is not None and line >= first and line != skip}
