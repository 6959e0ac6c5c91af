"""A running TensorRT plan, for `engines.trt`: its context, its memory on the GPU, its CUDA graph."""

import contextlib
import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.base import BackendUnavailable, EngineError, Feeds
from engines.contract import Graph, TensorSpec
from engines.cuda import Buffer, Cuda, OutOfMemory, Stream
from engines.plan_build import logger_of
from engines.plans import EnginePlan

log = logging.getLogger(__name__)
ADVICE = "use fewer --candidates, or close other programs that use the GPU"
LARGER = "`python -m export.tensorrt BUNDLE --candidates N` makes plans for larger batches"
Shapes = dict[str, tuple[int, ...]]


def short_of_memory(reason: str) -> bool:
    """Whether TensorRT's message says that memory is short: "OutOfMemory" is one of its error codes."""
    return "outofmemory" in reason.lower().replace(" ", "")


@dataclass
class Loaded:
    """A deserialised plan."""

    trt: Any  # the library's module
    runtime: Any  # must outlive the engine
    engine: Any
    plan: EnginePlan


class Session:
    """An execution context and its memory. Not thread-safe."""

    def __init__(self, graph: Graph, loaded: Loaded) -> None:
        self._graph, self._loaded = graph, loaded
        self._logger = logger_of(loaded.trt)
        self._cuda = Cuda()
        self._stream = Stream(self._cuda)
        self._cache = RuntimeCache(loaded) if loaded.plan.flavour == "rtx" else None
        self._context = self._create_context()
        self._buffers = {spec.name: Buffer(self._cuda) for spec in (*graph.inputs, *graph.outputs)}
        self._scratch = Buffer(self._cuda, pinned=False)
        self._capturable, self._trusted = loaded.plan.flavour == "trt", True
        self._forget()

    def _forget(self) -> None:
        self._shapes: Shapes | None = None  # input shapes that the context is set to
        self._output_shapes: Shapes = {}
        self._resident: Feeds | None = None  # the fixed inputs that are on the GPU
        self._captured: Any = None
        self._warm = False  # whether it has run with these shapes

    def _create_context(self) -> Any:
        """Use our own memory: as much as the current shapes need, not what the plan's largest shapes would need."""
        trt, engine = self._loaded.trt, self._loaded.engine
        own = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._cache is None:
            context = engine.create_execution_context(own)
        else:
            self._cache.config.set_execution_context_allocation_strategy(own)
            context = engine.create_execution_context(self._cache.config)
        if context is None:
            self._stream.close()
            raise self._failure("cannot create an execution context")
        return context

    def _failure(self, what: str) -> EngineError | BackendUnavailable:
        reason = self._logger.explain()
        kind = OutOfMemory if short_of_memory(reason) else BackendUnavailable
        return kind(f"{what} for {self._graph.name}: {reason}")

    # ------------------------------------------------------------ one call
    def run(self, fixed: Feeds, varying: Feeds) -> Feeds:
        inputs = fixed | varying
        shapes = {name: value.shape for name, value in inputs.items()}
        if shapes != self._shapes:
            self._prepare(shapes)
        changed = varying if fixed and fixed is self._resident else inputs
        self._resident = None  # until the run has succeeded
        for name, value in changed.items():
            self._stream.upload(self._buffers[name], value)
        self._launch(repeated=bool(fixed))
        views = {
            s.name: self._stream.download(self._buffers[s.name], self._output_shapes[s.name], s.dtype)
            for s in self._graph.outputs
        }
        self._stream.wait()
        self._resident, self._warm = fixed, True
        return {name: view.copy() for name, view in views.items()}  # the next call changes the views

    def _prepare(self, shapes: Shapes) -> None:
        """Set the context to these shapes, with buffers to match. This invalidates a captured graph."""
        self._drop_graph()
        self._forget()
        for spec in self._graph.inputs:
            if not self._context.set_input_shape(spec.name, shapes[spec.name]):
                self._logger.errors.clear()
                low, _, high = self._loaded.engine.get_tensor_profile_shape(spec.name, 0)
                range_ = f"from {list(low)} to {list(high)}, got {list(shapes[spec.name])}"
                raise EngineError(f"graph {self._graph.name}: the plan takes {spec.name} {range_}; {LARGER}")
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:  # each input fits the profile, but together they do not
            self._logger.errors.clear()
            raise EngineError(f"graph {self._graph.name}: the plan cannot take {shapes} together: {error}") from error
        outputs = {s.name: tuple(self._context.get_tensor_shape(s.name)) for s in self._graph.outputs}
        if missing or any(n < 0 for shape in outputs.values() for n in shape):
            raise self._failure(f"the shapes of {missing or outputs} are unknown")
        for spec in (*self._graph.inputs, *self._graph.outputs):
            self._give_memory(spec, (shapes | outputs)[spec.name])
        # if other shapes need scratch memory, a context does not run without an address
        size = max(self._context.update_device_memory_size_for_shapes(), 1)
        self._scratch.reserve(size)
        self._context.set_device_memory(self._scratch.address, size)
        self._shapes, self._output_shapes = shapes, outputs

    def _give_memory(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        buffer = self._buffers[spec.name]
        size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
        buffer.reserve(max(size, 1))  # an empty tensor needs an address, too
        if not self._context.set_tensor_address(spec.name, buffer.address):
            raise self._failure(f"cannot set the address of {spec.name}")

    def _launch(self, repeated: bool) -> None:
        """Run. Repeated shapes run as a CUDA graph, which can be captured once TensorRT has run with them."""
        if repeated and self._warm and self._capturable and self._captured is None:
            try:
                self._captured = self._stream.capture(self._enqueue)
            except (EngineError, BackendUnavailable) as error:
                log.warning("%s runs without a CUDA graph, which costs time only: %s", self._graph.name, error)
                self._capturable = False
        if self._captured is None:
            self._enqueue()
        else:
            self._stream.launch(self._captured)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise self._failure("the run failed")

    # ------------------------------------------------------------ releasing
    def _drop_graph(self) -> None:
        if self._captured is not None:
            self._stream.drop(self._captured)
            self._captured = None

    def free(self) -> None:
        """Release all buffers. The next call makes new ones."""
        self._cuda.quietly("cudaStreamSynchronize", self._stream.handle)
        self._drop_graph()
        self._forget()
        for buffer in (*self._buffers.values(), self._scratch):
            buffer.free()

    def distrust(self) -> None:
        """Do not keep compiled kernels: call this after an error that may mean a lost GPU."""
        self._trusted = False

    def close(self) -> None:
        self.free()  # first, because it makes the CUDA context current in this thread, which may be a new one
        if self._cache is not None and self._trusted:
            self._cache.save()
        self._context = None  # before the objects that it was made with
        self._cache = None
        self._loaded.engine = self._loaded.runtime = None
        self._stream.close()


class RuntimeCache:
    """TensorRT-RTX's compiled kernels, stored beside the plan. Without them, every start compiles again."""

    def __init__(self, loaded: Loaded) -> None:
        trt, self._path = loaded.trt, loaded.plan.runtime_cache
        self.config = loaded.engine.create_runtime_config()
        self.config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # EAGER: kernels for a shape are ready before its first run; switching later would change the last digits midway
        kernels = trt.DynamicShapesKernelSpecializationStrategy
        self.config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
        self._cache = self.config.create_runtime_cache()
        self._read = b""
        with contextlib.suppress(OSError):
            self._read = self._path.read_bytes()
        if self._read and not self._cache.deserialize(self._read):
            log.info("%s is for another GPU, driver or version and will be replaced", self._path)
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Replace the file if there are new kernels. If it cannot be written, the next start compiles again."""
        data = bytes(self._cache.serialize() or b"")
        if not data or data == self._read:
            return
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            os.replace(part, self._path)
        except OSError as error:
            log.warning("cannot keep compiled kernels in %s (%s); the next start compiles them again", part, error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
