"""Tasks in worker processes: results, errors, processes that die, and reading ahead."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from train.prepare.workers import Isolated, WorkerDied, Workers, iterate_ahead, run


def task(number: int, folder: Path, careful: bool) -> tuple[int, bool]:
    """Task 3 raises an error. Task 5 kills its process unless it is careful; task 7 always kills it."""
    if number == 3:
        raise ValueError("three")
    if number == 7 or (number == 5 and not careful):
        time.sleep(0.1)  # others are running then
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{number}-{os.getpid()}").touch()
    return number * number, careful


@pytest.mark.parametrize("processes", [1, 2])
def test_a_dying_process_costs_only_its_own_task(processes: int, tmp_path: Path) -> None:
    results = dict(run(task, [(n, tmp_path) for n in range(9)], Workers(processes)))
    assert sorted(results) == list(range(9))
    assert isinstance(results[3], ValueError) and isinstance(results[7], WorkerDied)
    assert results[5] == (25, True) and all(results[n][0] == n * n for n in (0, 1, 2, 4, 6, 8))
    pids = {int(p.name.split("-")[1]) for p in tmp_path.iterdir()}
    assert os.getpid() not in pids and len(pids) >= processes


WITH_WORKERS = """
from tests.support.worker_tasks import linger
from train.prepare.workers import Workers, run
if __name__ == "__main__":
    list(run(linger, [(n,) for n in range(9)], Workers(2)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: int, tmp_path: Path) -> None:
    """The workers hold the parent's stdout, so it is read to its end only when all of them are gone."""
    (tmp_path / "parent.py").write_text(WITH_WORKERS)
    command = [sys.executable, str(tmp_path / "parent.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)
    try:
        assert {process.stdout.readline() for _ in range(2)} == {b"0\n", b"1\n"}  # both have begun
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -number


def test_no_other_process_where_none_is_wanted(tmp_path: Path) -> None:
    results = dict(run(task, [(1, tmp_path), (3, tmp_path)], Workers(0)))
    assert results[0] == (1, False) and isinstance(results[1], ValueError)
    assert {p.name for p in tmp_path.iterdir()} == {f"1-{os.getpid()}"}


def test_isolated_calls_go_on_after_a_death() -> None:
    with Isolated() as call:
        first = call(os.getpid)
        assert first not in (os.getpid(), 0) and call(os.getpid) == first
        with pytest.raises(ValueError, match="invalid literal"):
            call(int, "x")
        with pytest.raises(WorkerDied):
            call(os._exit, 3)
        assert call(int, "7") == 7


def test_reading_ahead_keeps_the_order_and_its_bounds() -> None:
    open_, most, made = 0, 0, 0

    def items(k: int) -> Iterator[tuple[int, int]]:
        nonlocal open_, most, made
        open_ += 1
        most = max(most, open_)
        for n in range(k % 4):
            made += 1
            time.sleep(0.002 * ((7 * k + n) % 3))
            yield k, n
        open_ -= 1

    expected = [(k, n) for k in range(12) for n in range(k % 4)]
    assert list(iterate_ahead((lambda k=k: items(k) for k in range(12)), threads=3)) == expected and 1 < most <= 3

    made = 0
    reader = iterate_ahead((lambda: ((yield_made()) for _ in range(100)) for _ in range(5)), threads=2)

    def yield_made() -> int:
        nonlocal made
        made += 1
        return made

    next(reader)
    time.sleep(0.1)
    assert made <= 8  # two threads, two items waiting and one in hand each, and the one that was taken
    reader.close()


def test_an_error_ahead_is_raised_in_its_place() -> None:
    def bad() -> Iterator[int]:
        yield 1
        raise ValueError("here")

    reader = iterate_ahead([lambda: iter([0]), bad, lambda: iter([2])], threads=3)
    assert [next(reader), next(reader)] == [0, 1]
    with pytest.raises(ValueError, match="here"):
        next(reader)
