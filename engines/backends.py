"""Which backends there are, which of them may work here, and how to open a graph on one.

A new backend (TensorRT's place) is one entry of BACKENDS: why it cannot be used here, if so; the precisions it may run,
the preferred one first; and what opens a graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines import ort
from engines.base import BackendUnavailable, Engine
from engines.contract import Graph


@dataclass(frozen=True)
class Backend:
    unavailable: Callable[[], str | None]  # None where it is installed, else the reason and what to install
    precisions: tuple[str, ...]
    open: Callable[[Path, Graph, int], Engine]  # file, graph, threads


def _ort(name: str, precisions: tuple[str, ...]) -> Backend:
    def unavailable() -> str | None:
        return ort.available()[name]

    return Backend(unavailable, precisions, lambda path, graph, threads: ort.OrtEngine(path, graph, name, threads))


BACKENDS = {  # in the order that `auto` tries them; int8 graphs are for CPUs only
    "cuda": _ort("cuda", ("fp16", "fp32")),
    "cpu": _ort("cpu", ("int8", "fp16", "fp32")),
}


def availability() -> dict[str, str | None]:
    """Backend -> None where it is installed, else the reason and what to install."""
    return {name: backend.unavailable() for name, backend in BACKENDS.items()}


def choose(backend: str) -> list[str]:
    """Backends to try, in order: the one asked for, or for `auto` those installed. Raises BackendUnavailable."""
    have = availability()
    if backend == "auto":
        usable = [name for name, reason in have.items() if reason is None]
        if not usable:
            raise BackendUnavailable(f"no backend is available: {have['cpu']}")
        return usable
    if backend not in have:
        raise BackendUnavailable(f"unknown backend {backend!r}; choose from auto, {', '.join(BACKENDS)}")
    if have[backend] is not None:
        raise BackendUnavailable(f"backend {backend!r} is not available: {have[backend]}")
    return [backend]
