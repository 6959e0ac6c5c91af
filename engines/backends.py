"""Which backends there are, which of them work here, and how to open a graph on one. TensorRT's place is here."""

from pathlib import Path

from engines import ort
from engines.base import BackendUnavailable, Engine
from engines.contract import Graph

BACKENDS = ("cuda", "cpu")  # in the order that `auto` tries them
CPU_PRECISIONS = ("int8", "fp16", "fp32")  # int8 graphs are for CPUs only
GPU_PRECISIONS = ("fp16", "fp32")


def availability() -> dict[str, str | None]:
    """Backend -> None where it can be used, else the reason and what to install."""
    have = ort.available()
    return {name: have[name] for name in BACKENDS}


def choose(backend: str) -> str:
    """The backend to use: the one asked for, or for `auto` the first that is available. Raises BackendUnavailable."""
    have = availability()
    if backend == "auto":
        usable = [name for name, reason in have.items() if reason is None]
        if not usable:
            raise BackendUnavailable(f"no backend is available: {have['cpu']}")
        return usable[0]
    if backend not in have:
        raise BackendUnavailable(f"unknown backend {backend!r}; choose from auto, {', '.join(BACKENDS)}")
    if have[backend] is not None:
        raise BackendUnavailable(f"backend {backend!r} is not available: {have[backend]}")
    return backend


def precisions(backend: str) -> tuple[str, ...]:
    """Precisions that a backend may run, the preferred one first."""
    return CPU_PRECISIONS if backend == "cpu" else GPU_PRECISIONS


def open_engine(path: Path, graph: Graph, backend: str, threads: int = 0) -> Engine:
    """Load one graph on a backend that `choose` returned."""
    return ort.OrtEngine(path, graph, backend, threads)
