"""TensorRT behind the engine interface, in both its flavours: NumPy in and out, everything between on the card.

"trt" is TensorRT, whose plans are built on the card; "rtx" is TensorRT-RTX, whose plans are built anywhere and finished
on the card. Their Python modules have the same API, but for CUDA graphs: TensorRT-RTX captures them itself.
"""

import contextlib
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

from engines import cuda
from engines.base import BackendUnavailable, Engine, EngineError, Feeds
from engines.contract import Graph
from engines.cuda import OutOfMemory
from engines.plan_build import DTYPES, FLAVOURS, TARGETS, card, difference, explained, library, logger_of
from engines.plans import EnginePlan
from engines.trt_session import ADVICE, Loaded, Session, short_of_memory

log = logging.getLogger(__name__)


def unavailable(flavour: str) -> str | None:
    """Why a flavour ("trt" or "rtx") cannot be used here and what to do; None where it can."""
    if not cuda.driver_installed():
        return cuda.NO_DRIVER
    try:
        module = library(flavour)
        reason = cuda.unavailable()
        # TensorRT-RTX alone is made for certain cards
        if reason is None and flavour == "rtx" and not hasattr(module.ComputeCapability, _target().upper()):
            reason = f"{module.__name__} has no target {_target()} ({card().name}); use tensorrt or cuda on this card"
        return reason
    except BackendUnavailable as error:  # not installed, or the card does not say what it is
        return str(error)


def _target() -> str:
    return "sm" + card().compute_capability.replace(".", "")


def targets(listed: tuple[str, ...] = TARGETS) -> tuple[str, ...]:
    """What TensorRT-RTX plans are built for: the listed cards, so that plans can be shared, and this one."""
    return listed if _target() in listed else (*listed, _target())


class TrtEngine(Engine):
    """One plan with its buffers on the card. Threads take turns.

    What is copied per call: the inputs that vary and the outputs. Fixed inputs go to the card when another Bound than
    the last one calls, so once for a whole clip.
    """

    def __init__(
        self, graph: Graph, flavour: str, find_plan: Callable[[], EnginePlan], precision: str = "fp32"
    ) -> None:
        """`find_plan` finds or builds the plan; `precision` is for people. Raises BackendUnavailable."""
        reason = unavailable(flavour)
        if reason is not None:
            raise BackendUnavailable(f"{FLAVOURS[flavour]} is not available: {reason}")
        self.graph, self.backend, self.precision = graph, f"{FLAVOURS[flavour]}/{precision}", precision
        self._library, self._lock = library(flavour), Lock()
        self._lost: str | None = None  # the error after which nothing that the card returns can be trusted
        with explained(self._library, f"cannot load {graph.name}"):
            self._session = _open(self._library, graph, find_plan)
        # when this is collected or the program ends, where `close` was not called
        self._finalizer = weakref.finalize(self, self._session.close)

    def close(self) -> None:
        """Give back everything on the card. Using the engine afterwards raises BackendUnavailable."""
        with self._lock:
            self._lost = self._lost or "it was closed"
            self._finalizer()

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        """Raises EngineError where memory is short or the plan has no such shape, else BackendUnavailable."""
        with self._lock:
            if self._lost is not None:
                raise BackendUnavailable(f"{self.backend} cannot run {self.graph.name} any more: {self._lost}")
            try:
                with explained(self._library, "stopped"):
                    return self._session.run(fixed, varying)
            except OutOfMemory as error:
                self._session.free()  # a smaller batch starts from nothing
                raise EngineError(f"{self.backend} failed in {self.graph.name}: {error}; {ADVICE}") from error
            except BackendUnavailable as error:
                self._lost = str(error)
                self._session.distrust()
                raise BackendUnavailable(f"{self.backend} failed in {self.graph.name}: {error}") from error


def _open(trt: Any, graph: Graph, find_plan: Callable[[], EnginePlan]) -> Session:
    title, logger = trt.__name__, logger_of(trt)
    runtime = trt.Runtime(logger)
    plan = find_plan()
    logger.errors.clear()
    engine = runtime.deserialize_cuda_engine(plan.data)
    if engine is None:  # made for another card or version, or damaged: once more from the start
        reason = logger.explain()
        if short_of_memory(reason):  # the plan is good
            raise BackendUnavailable(f"{title} cannot load {graph.name}: {reason}; {ADVICE}")
        log.warning("%s does not take the plan of %s, it is built again: %s", title, graph.name, reason)
        with contextlib.suppress(OSError):  # what cannot be removed comes back and is refused below
            plan.path.unlink(missing_ok=True)
        plan = find_plan()
        engine = runtime.deserialize_cuda_engine(plan.data)
    if engine is None:
        raise BackendUnavailable(f"{title} does not take the plan {plan.path}, built anew: {logger.explain()}")
    _check_signature(trt, engine, graph)
    try:
        read = replace(plan, data=b"")  # its bytes, up to 1 GB in all, are not needed again
        return Session(graph, Loaded(trt, runtime, engine, read))
    except OutOfMemory as error:
        raise BackendUnavailable(f"{title} cannot load {graph.name}: {error}; {ADVICE}") from error


def _check_signature(trt: Any, engine: Any, graph: Graph) -> None:
    """What the plan takes and gives is what the contract says, and lies on the card."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    for specs, mode in ((graph.inputs, trt.TensorIOMode.INPUT), (graph.outputs, trt.TensorIOMode.OUTPUT)):
        have = {}
        for name in names:
            if engine.get_tensor_mode(name) == mode:
                dtype = engine.get_tensor_dtype(name).name
                have[name] = (DTYPES.get(dtype, dtype.lower()), tuple(engine.get_tensor_shape(name)))
        problem = difference(specs, have)
        if problem:
            raise BackendUnavailable(f"graph {graph.name}: the contract and the plan differ: {problem}")
    on_host = [name for name in names if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE]
    if on_host:
        raise BackendUnavailable(f"graph {graph.name}: the plan wants {', '.join(on_host)} in the host's memory")
