"""Which backends there are, which of them may work here, and how to open a graph on one.

A new backend is one entry of BACKENDS: why it cannot be used here, if so; the precisions it may run, the preferred one
first; and what opens a graph. A user's choice of a precision is one for `step`; other graphs follow where they can.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engines import cpu, ort, plans, trt, typed
from engines.base import BackendUnavailable, Engine
from engines.contract import Graph
from engines.manifest import Manifest

AUTO = "auto"


@dataclass(frozen=True)
class Opening:
    """Where a graph comes from, and what was noted for the user while it was opened."""

    folder: Path  # the bundle
    manifest: Manifest
    file: str  # of the manifest
    threads: int = 0  # of the CPU; 0 leaves the choice to the backend
    precision: str = AUTO  # the user's choice
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Backend:
    unavailable: Callable[[], str | None]  # None where it is installed, else the reason and what to do
    precisions: tuple[str, ...]  # of the bundle's files
    open: Callable[[Graph, Opening], Engine]
    accelerated: bool = True  # `auto` takes it only where the bundle's self-test passes
    derived: tuple[str, ...] = ()  # it runs typed graphs of these precisions instead, derived from such files

    def choices(self, folder: Path, manifest: Manifest) -> tuple[str, ...]:
        """The precisions that `step` has for this backend, the preferred one first."""
        entries = typed.read(folder) if self.derived else manifest.files
        have = {e.precision for e in entries.values() if e.graph == "step"}
        return tuple(p for p in self.derived or self.precisions if p in have)

    def files(self, graph: str, precision: str) -> tuple[str, ...]:
        """The precisions of the bundle's files to take for a graph, in order."""
        return self.precisions if self.derived else ordered(self.precisions, graph, precision)


def ordered(precisions: tuple[str, ...], graph: str, wanted: str) -> tuple[str, ...]:
    """What to take for a graph where a user wants a precision: it alone for `step`, it before others elsewhere."""
    if wanted == AUTO:
        return precisions
    return (wanted,) if graph == "step" else (wanted, *(p for p in precisions if p != wanted))


def _ort(name: str, precisions: tuple[str, ...], accelerated: bool = True) -> Backend:
    def open_(graph: Graph, opening: Opening) -> Engine:
        engine = ort.OrtEngine(opening.folder / opening.file, graph, name, opening.threads)
        engine.precision = opening.manifest.files[opening.file].precision
        return engine

    return Backend(lambda: ort.available()[name], precisions, open_, accelerated)


def _trt(flavour: str) -> Backend:
    """Runs the strongly typed graphs beside the bundle: TensorRT takes precision from the graph."""

    def open_(graph: Graph, opening: Opening) -> Engine:
        allowed = ordered(typed.PRECISIONS, graph.name, opening.precision)
        path, precision, notes = typed.find(opening.folder, opening.manifest, graph.name, allowed)
        opening.notes.extend(notes)
        if path is None:
            reason = "; ".join(notes) or f"{opening.folder} has no strongly typed {graph.name}"
            raise BackendUnavailable(f"{reason}; `python -m export.tensorrt {opening.folder}` writes all graphs")
        entry = typed.read(opening.folder)[path.name]
        kinds = trt.targets(entry.targets) if flavour == "rtx" else ()
        options = plans.PlanOptions(opening.manifest.config, precision, entry.candidates, kinds)
        return trt.TrtEngine(graph, flavour, lambda: plans.find(flavour, path, graph, options), precision)

    return Backend(lambda: trt.unavailable(flavour), typed.SOURCES, open_, derived=typed.PRECISIONS)


def cpu_precisions() -> tuple[str, ...]:
    """int8 first where it is much faster: it draws other tokens than float32, and elsewhere hardly pays for them."""
    return ("int8", "fp16", "fp32") if cpu.fast_int8() else ("fp16", "fp32", "int8")


BACKENDS = {  # in the order that `auto` tries them; int8 graphs are for CPUs only
    "tensorrt": _trt("trt"),
    "tensorrt-rtx": _trt("rtx"),
    "cuda": _ort("cuda", ("fp16", "fp32")),
    "cpu": _ort("cpu", cpu_precisions(), accelerated=False),
}


PRECISIONS = tuple(dict.fromkeys(p for b in BACKENDS.values() for p in (*b.derived, *b.precisions)))


def availability() -> dict[str, str | None]:
    """Backend -> None where it is installed and finds its card, else the reason and what to do."""
    return {name: backend.unavailable() for name, backend in BACKENDS.items()}


def check_precision(name: str, folder: Path, manifest: Manifest, wanted: str) -> None:
    """Raises BackendUnavailable where `step` has no form in the wanted precision for a backend."""
    have = BACKENDS[name].choices(folder, manifest)
    if wanted == AUTO or wanted in have:
        return
    there = f"there is {', '.join(have)}" if have else "it has none at all"
    made = (
        {"int8": "quantise"}
        if "int8" in BACKENDS[name].precisions
        else dict.fromkeys(BACKENDS[name].derived, "tensorrt")
    )
    advice = f"; `python -m export.{made[wanted]} {folder}` makes it" if wanted in made else ""
    raise BackendUnavailable(f"backend {name!r} has no step in precision {wanted!r}: {there}{advice}")


def choose(backend: str) -> list[str]:
    """Backends to try, in order: the one asked for, or for `auto` those available. Raises BackendUnavailable."""
    if backend == "auto":
        have = availability()
        usable = [name for name, reason in have.items() if reason is None]
        if not usable:
            raise BackendUnavailable(f"no backend is available: {have['cpu']}")
        return usable
    if backend not in BACKENDS:
        raise BackendUnavailable(f"unknown backend {backend!r}; choose from auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].unavailable()
    if reason is not None:
        raise BackendUnavailable(f"backend {backend!r} is not available: {reason}")
    return [backend]
