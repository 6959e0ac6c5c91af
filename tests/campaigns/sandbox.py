"""Runs a function in a forked process with limits, and says how it ended. Linux only."""

import contextlib
import gc
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POLL = 0.1  # seconds between two looks at the memory that a case holds
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Limits:
    """What one case may use."""

    seconds: float = 30.0
    memory_mb: int = 2048  # resident
    file_mb: int = 512  # of one file


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `status` is its exit status; `killed` says why it was ended, or by which signal it died."""

    status: int | None
    killed: str
    seconds: float
    peak_mb: float
    output: str


def run(function: Callable[[], int], log: Path, limits: Limits = Limits()) -> Outcome:
    """Fork, call `function` with stdout and stderr in `log`, and return how that ended."""
    begin = time.monotonic()
    child = start(function, log, limits)
    ended, killed = os.pidfd_open(child), ""
    try:
        while not killed and not select.select([ended], [], [], POLL)[0]:
            if max(map(resident_mb, [child, *_children(child)])) > limits.memory_mb:
                killed = "memory"
            elif time.monotonic() - begin > limits.seconds:
                killed = "hang"
    finally:
        os.close(ended)
        _end_group(child)  # with whatever it started
    _, status, used = os.wait4(child, 0)
    peak = used.ru_maxrss / 1024
    if peak > limits.memory_mb:  # between two looks
        killed = killed or "memory"
    if not killed and os.WIFSIGNALED(status):
        killed = signal.Signals(os.WTERMSIG(status)).name
    output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    exit_status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    return Outcome(exit_status, killed, time.monotonic() - begin, peak, output)


def start(function: Callable[[], int], log: Path, limits: Limits = Limits()) -> int:
    """Fork, and call `function` in a process group of its own; the process."""
    child = os.fork()
    if child == 0:
        _be_child(function, log, limits)
    return child


def print_to(log: Path) -> None:
    """Let this process print into a new file, libraries included."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def resident_mb(process: int) -> float:
    """Resident memory of a process in MB; 0 when it has ended."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE / 2**20
    return 0.0


def _children(process: int) -> list[int]:
    """The processes that a process has forked: the command runs in one."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def _be_child(function: Callable[[], int], log: Path, limits: Limits) -> None:
    status = 70
    gc.freeze()  # collecting the parent's objects would copy all of them, and end decoders whose threads are gone
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_mb << 20, limits.file_mb << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much is an OSError
        print_to(log)
        status = function()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _end_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
