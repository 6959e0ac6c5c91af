"""The backends: which of them may work here, and how to open a graph on one.

To add a backend, add one entry to BACKENDS: a function that says why it cannot be used here; the precisions that it
may run, the preferred one first; and a function that opens a graph. The precision that a user chooses is that of
`step`; other graphs follow if they can.
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
    """What a backend needs to open a graph. `notes` collects what the user should know about it."""

    folder: Path  # the bundle
    manifest: Manifest
    file: str  # a file of the manifest
    threads: int = 0  # CPU threads; 0 leaves the choice to the backend
    precision: str = AUTO  # the user's choice
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Backend:
    """How to use one backend, and what depends on it."""

    unavailable: Callable[[], str | None]  # returns None if it can be used, else the reason and what to do
    precisions: tuple[str, ...]  # of the bundle's files that it can run, or derive its own from
    open: Callable[[Graph, Opening], Engine]
    accelerated: bool = True  # a GPU: `auto` uses it only if the bundle's self-test passes
    derived: tuple[str, ...] = ()  # precisions of the strongly typed graphs that it runs instead of the bundle's files
    # Draw at all positions in every step, not only at masked ones: GPUs replay a recorded run, which has one shape.
    # CPUs save the work for positions that are already decided. The sound is the same.
    draws_all_positions: bool = True
    # Encode all pictures of a window in one call: GPU plans are fastest at that length. CPUs encode them in parts,
    # which needs less memory.
    encodes_whole_windows: bool = True

    def choices(self, folder: Path, manifest: Manifest) -> tuple[str, ...]:
        """The precisions in which this backend has `step`, the preferred one first."""
        entries = typed.read(folder) if self.derived else manifest.files
        have = {e.precision for e in entries.values() if e.graph == "step"}
        return tuple(p for p in self.derived or self.precisions if p in have)

    def files(self, graph: str, precision: str) -> tuple[str, ...]:
        """The precisions of the bundle's files to use for a graph, the preferred one first."""
        return self.precisions if self.derived else ordered(self.precisions, graph, precision)


def ordered(precisions: tuple[str, ...], graph: str, wanted: str) -> tuple[str, ...]:
    """The precisions to try for a graph if the user wants one: only that one for `step`, that one first for others."""
    if wanted == AUTO:
        return precisions
    return (wanted,) if graph == "step" else (wanted, *(p for p in precisions if p != wanted))


def _ort(name: str, precisions: tuple[str, ...], gpu: bool) -> Backend:
    def open_(graph: Graph, opening: Opening) -> Engine:
        engine = ort.OrtEngine(opening.folder / opening.file, graph, name, opening.threads)
        engine.precision = opening.manifest.files[opening.file].precision
        return engine

    return Backend(
        lambda: ort.available()[name],
        precisions,
        open_,
        accelerated=gpu,
        draws_all_positions=gpu,
        encodes_whole_windows=gpu,
    )


def _trt(flavour: str) -> Backend:
    """TensorRT runs the strongly typed graphs beside the bundle, because it takes the precision from the graph."""

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
    """int8 comes first only on CPUs where it is much faster, because it draws other tokens than float32."""
    return ("int8", "fp16", "fp32") if cpu.fast_int8() else ("fp16", "fp32", "int8")


BACKENDS = {  # in the order in which `auto` tries them; int8 graphs are for CPUs only
    "tensorrt": _trt("trt"),
    "tensorrt-rtx": _trt("rtx"),
    "cuda": _ort("cuda", ("fp16", "fp32"), gpu=True),
    "cpu": _ort("cpu", cpu_precisions(), gpu=False),
}


PRECISIONS = tuple(dict.fromkeys(p for b in BACKENDS.values() for p in (*b.derived, *b.precisions)))


def availability() -> dict[str, str | None]:
    """For each backend: None if it is installed and finds its GPU, else the reason and what to do."""
    return {name: backend.unavailable() for name, backend in BACKENDS.items()}


def check_precision(name: str, folder: Path, manifest: Manifest, wanted: str) -> None:
    """Raises BackendUnavailable if a backend does not have `step` in the wanted precision."""
    have = BACKENDS[name].choices(folder, manifest)
    if wanted == AUTO or wanted in have:
        return
    there = f"it has {', '.join(have)}" if have else "it has no step at all"
    made = (
        {"int8": "quantise"}
        if "int8" in BACKENDS[name].precisions
        else dict.fromkeys(BACKENDS[name].derived, "tensorrt")
    )
    advice = f"; `python -m export.{made[wanted]} {folder}` makes it" if wanted in made else ""
    raise BackendUnavailable(f"backend {name!r} has no step in precision {wanted!r}: {there}{advice}")


def choose(backend: str) -> list[str]:
    """The backends to try, in order: the given one, or with "auto" all available ones. Raises BackendUnavailable."""
    if backend == "auto":
        have = availability()
        usable = [name for name, reason in have.items() if reason is None]
        if not usable:
            fallback = next(name for name, b in BACKENDS.items() if not b.accelerated)
            raise BackendUnavailable(f"no backend is available: {have[fallback]}")
        return usable
    if backend not in BACKENDS:
        raise BackendUnavailable(f"unknown backend {backend!r}; choose from auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[backend].unavailable()
    if reason is not None:
        raise BackendUnavailable(f"backend {backend!r} is not available: {reason}")
    return [backend]
