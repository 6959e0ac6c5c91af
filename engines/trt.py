"""TensorRT as an engine, in two flavours. Inputs and outputs are NumPy arrays; everything between is on the GPU.

"trt" is TensorRT, whose plans are built on the GPU that runs them. "rtx" is TensorRT-RTX, whose plans are built on any
machine and finished on the user's GPU. Their Python modules have the same API, except that TensorRT-RTX captures CUDA
graphs itself.
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
    """Why a flavour ("trt" or "rtx") cannot be used here, and what to do; None if it can."""
    if not cuda.driver_installed():
        return cuda.NO_DRIVER
    try:
        module = library(flavour)
        reason = cuda.unavailable()
        # only TensorRT-RTX is limited to certain GPUs
        if reason is None and flavour == "rtx" and not hasattr(module.ComputeCapability, _target().upper()):
            reason = f"{module.__name__} has no target {_target()} ({card().name}); use tensorrt or cuda on this GPU"
        return reason
    except BackendUnavailable as error:  # not installed, or the GPU cannot be identified
        return str(error)


def _target() -> str:
    return "sm" + card().compute_capability.replace(".", "")


def targets(listed: tuple[str, ...] = TARGETS) -> tuple[str, ...]:
    """What to build TensorRT-RTX plans for: the listed GPUs, so that plans can be shared, and this one."""
    return listed if _target() in listed else (*listed, _target())


class TrtEngine(Engine):
    """One plan with its buffers on the GPU. Threads take turns.

    Each call copies the inputs that vary and the outputs. Fixed inputs are copied only when a different Bound calls
    than last time, so once for a whole clip.
    """

    def __init__(
        self, graph: Graph, flavour: str, find_plan: Callable[[], EnginePlan], precision: str = "fp32"
    ) -> None:
        """`find_plan` finds or builds the plan; `precision` is only shown to users. Raises BackendUnavailable."""
        reason = unavailable(flavour)
        if reason is not None:
            raise BackendUnavailable(f"{FLAVOURS[flavour]} is not available: {reason}")
        self.graph, self.backend, self.precision = graph, f"{FLAVOURS[flavour]}/{precision}", precision
        self._library, self._lock = library(flavour), Lock()
        self._lost: str | None = None  # the error after which the GPU's results cannot be trusted
        with explained(self._library, f"cannot load {graph.name}"):
            self._session = _open(self._library, graph, find_plan)
        # if `close` is not called: when this object is collected or the program ends
        self._finalizer = weakref.finalize(self, self._session.close)

    def close(self) -> None:
        """Release everything on the GPU. Using the engine afterwards raises BackendUnavailable."""
        with self._lock:
            self._lost = self._lost or "it was closed"
            self._finalizer()

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        """Run. Raises EngineError if memory is short or the plan does not take this shape, else BackendUnavailable."""
        with self._lock:
            if self._lost is not None:
                raise BackendUnavailable(f"{self.backend} cannot run {self.graph.name} any more: {self._lost}")
            try:
                with explained(self._library, "stopped"):
                    return self._session.run(fixed, varying)
            except OutOfMemory as error:
                self._session.free()  # a smaller batch starts without them
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
    if engine is None:  # made for another GPU or version, or damaged: build it once more
        reason = logger.explain()
        if short_of_memory(reason):  # the plan itself is fine
            raise BackendUnavailable(f"{title} cannot load {graph.name}: {reason}; {ADVICE}")
        log.warning("%s rejects the plan of %s, it is built again: %s", title, graph.name, reason)
        with contextlib.suppress(OSError):  # if it cannot be removed, it is found again and rejected below
            plan.path.unlink(missing_ok=True)
        plan = find_plan()
        engine = runtime.deserialize_cuda_engine(plan.data)
    if engine is None:
        raise BackendUnavailable(f"{title} rejects the plan {plan.path}, although it is new: {logger.explain()}")
    _check_signature(trt, engine, graph)
    try:
        read = replace(plan, data=b"")  # frees its bytes, up to 1 GB for all plans
        return Session(graph, Loaded(trt, runtime, engine, read))
    except OutOfMemory as error:
        raise BackendUnavailable(f"{title} cannot load {graph.name}: {error}; {ADVICE}") from error


def _check_signature(trt: Any, engine: Any, graph: Graph) -> None:
    """Check that the plan's inputs and outputs are the contract's, and are on the GPU. Raises BackendUnavailable."""
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
