"""Runs tasks in processes of this machine or on a Ray cluster, and retries those whose process dies.

A task is a tuple of arguments. A process calls `work(*task, careful)`. If the process dies (the decoder crashed, or
memory ran out), the task runs again with `careful` true. It should then protect itself, for example by `Isolated`.
`iterate_ahead` is the same idea for threads.
"""

import contextlib
import multiprocessing
import queue
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from train.extras import requires_extra
from train.parent_process import exit_with_parent

TRIES = 3  # attempts at a task whose process dies: the usual one, a careful one, a careful one that runs alone
T = TypeVar("T")
TaskFunction = Callable[..., Any]
worker_number = 0  # number of this process among the workers of its machine; it decides which GPU the process uses


class WorkerDied(Exception):
    """The process of a task died at every attempt."""


@dataclass(frozen=True)
class Workers:
    """Where tasks run."""

    processes: int = 1  # worker processes on this machine; 0: run in this process
    threads: int = 1  # threads of each process; on a cluster, the CPUs that a task requests
    ray: str = ""  # address of a Ray cluster; "" without one
    gpus: float = 0.0  # GPUs that a task on a cluster requests


def run(work: TaskFunction, tasks: Sequence[tuple[Any, ...]], workers: Workers) -> Iterator[tuple[int, Any]]:
    """Yield (number of the task, its result or exception) as the tasks end, in any order."""
    if workers.ray:
        yield from _on_ray(work, tasks, workers)
    elif workers.processes == 0:
        for number, task in enumerate(tasks):
            yield number, _attempt(work, task)
    else:
        yield from _in_processes(work, tasks, workers)


def _attempt(work: TaskFunction, task: tuple[Any, ...], careful: bool = False) -> Any:
    try:
        return work(*task, careful)
    except Exception as error:
        return error


# ---------------------------------------------------------------- processes
def _start(counter: Any) -> None:
    global worker_number
    exit_with_parent()
    with counter.get_lock():
        worker_number = counter.value
        counter.value += 1


def _in_processes(work: TaskFunction, tasks: Sequence[tuple[Any, ...]], workers: Workers) -> Iterator[tuple[int, Any]]:
    context = multiprocessing.get_context("spawn")  # A fork would copy locks that other threads hold.
    waiting, running = deque((number, 0) for number in range(len(tasks))), {}  # number, deaths so far
    pool: ProcessPoolExecutor | None = None
    try:
        while waiting or running:
            if pool is None:
                pool = ProcessPoolExecutor(workers.processes, context, _start, (context.Value("i", 0),))
            _submit(pool, work, tasks, workers.processes, waiting, running)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if not running:  # A process died while it was idle.
                pool = None
            died = []
            for future in done:
                number, deaths = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    died.append((number, deaths + 1))
                else:
                    yield number, error if error is not None else future.result()
            if died:
                died += [(number, deaths + 1) for number, deaths in running.values()]
                running.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                pool = None
            for number, deaths in died:
                if deaths >= TRIES:
                    yield number, WorkerDied(f"its process died {deaths} times")
                else:
                    waiting.appendleft((number, deaths))
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor,
    work: TaskFunction,
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    waiting: deque[tuple[int, int]],
    running: dict[Future[Any], tuple[int, int]],
) -> None:
    """Keep every process busy.

    A process that dies breaks the whole pool, and with it the tasks of the others. A task that was running at two such
    deaths runs alone, which shows whether it is the cause.
    """
    alone = any(deaths > 1 for _, deaths in running.values())
    while waiting and not alone and len(running) < processes:
        number, deaths = waiting[0]
        if deaths > 1 and running:
            return
        waiting.popleft()
        try:
            running[pool.submit(_attempt, work, tasks[number], deaths > 0)] = (number, deaths)
        except BrokenProcessPool:  # The pool broke before its tasks reported it.
            waiting.appendleft((number, deaths))
            return
        alone = deaths > 1


class Isolated:
    """Calls functions in another process, and starts a new one if it dies. Use it as a context manager."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return function(*arguments). Raises WorkerDied if the process dies."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), exit_with_parent)
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            self._pool = None
            raise WorkerDied("the process that reads it died") from error


# ---------------------------------------------------------------- Ray
def _on_ray(work: TaskFunction, tasks: Sequence[tuple[Any, ...]], workers: Workers) -> Iterator[tuple[int, Any]]:
    with requires_extra("ray", __name__):
        import ray
    if not ray.is_initialized():  # Ray keeps its workers, and the components that they loaded, for the next call.
        try:
            if found := re.fullmatch(r"([^/]+):(\d+)", workers.ray):  # Ray itself would keep trying for minutes.
                socket.create_connection((found[1], int(found[2])), timeout=10).close()
            ray.init(address=workers.ray, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            advice = "start one with `ray start --head`"
            raise OSError(f"no Ray cluster answers at {workers.ray} ({error}); {advice}") from error
    remote = ray.remote(num_cpus=workers.threads, num_gpus=workers.gpus, max_retries=0)(_attempt)
    running = {remote.remote(work, task): (number, 0) for number, task in enumerate(tasks)}
    while running:
        for done in ray.wait(list(running))[0]:
            number, deaths = running.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayError as error:  # The worker or its machine died.
                if deaths + 1 >= TRIES:
                    yield number, WorkerDied(f"its process died {deaths + 1} times ({type(error).__name__})")
                else:
                    running[remote.remote(work, tasks[number], True)] = (number, deaths + 1)


# ---------------------------------------------------------------- threads
_END = object()


def iterate_ahead(makers: Iterable[Callable[[], Iterator[T]]], threads: int, depth: int = 2) -> Iterator[T]:
    """Yield the items of many iterators in order, computed ahead in threads.

    `threads` iterators run at a time, at most `depth` items ahead. An iterator's exception is raised after its items.
    """
    stop = threading.Event()
    rest, open_ = iter(makers), deque[queue.Queue[Any]]()

    def produce(make: Callable[[], Iterator[T]], out: queue.Queue[Any]) -> None:
        last: Any = _END
        try:
            for item in make():
                while not _put(out, item):
                    if stop.is_set():
                        return
        except BaseException as error:
            last = (_END, error)
        while not _put(out, last) and not stop.is_set():
            pass

    def begin() -> None:
        for make in rest:
            open_.append(queue.Queue(depth))
            threading.Thread(target=produce, args=(make, open_[-1]), daemon=True).start()
            return

    try:
        for _ in range(threads):
            begin()
        while open_:
            item = open_[0].get()
            if item is _END:
                open_.popleft()
                begin()
            elif isinstance(item, tuple) and len(item) == 2 and item[0] is _END:
                raise item[1]
            else:
                yield item
    finally:
        stop.set()


def _put(out: queue.Queue[Any], item: Any) -> bool:
    with contextlib.suppress(queue.Full):
        out.put(item, timeout=0.2)
        return True
    return False
