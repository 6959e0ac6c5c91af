"""A fake of TensorRT for running plans without a GPU. Plans are ONNX files with a header; `fake_cuda` holds the memory.

It enforces the rules of TensorRT: shapes are within the profile of the plan; addresses and memory are set before a run;
new shapes are run once before they are captured; a context does not change while its captured graph is in use; a thread
that reads or writes a runtime cache has a CUDA context.
"""

import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.contract import Graph, ModelConfig
from engines.plans import EnginePlan, PlanOptions
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_engines import model

HEADER = b"fake plan 1\n"
DTYPES = {
    "tensor(float)": ("FLOAT", "float32"),
    "tensor(int32)": ("INT32", "int32"),
    "tensor(uint8)": ("UINT8", "uint8"),
}
SCRATCH = 1000  # bytes of memory that a context needs per row after the first
Mode = Enum("Mode", ["NONE", "INPUT", "OUTPUT"])
Location = Enum("Location", ["DEVICE", "HOST"])
DataType = Enum("DataType", ["FLOAT", "HALF", "INT32", "INT64", "UINT8"])
Allocation = Enum("Allocation", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"])


def fake_plan(folder: Path, graph: Graph, config: ModelConfig, flavour: str = "trt") -> EnginePlan:
    """A fake plan of the fake of a graph."""
    onnx = folder / f"{graph.name}.onnx"
    onnx.write_bytes(model(graph, config).SerializeToString())
    return find(flavour, onnx, graph, PlanOptions(config, cache=folder))


def find(flavour: str, onnx: Path, graph: Graph, options: PlanOptions) -> EnginePlan:
    """Stands for `engines.plans.find`, without a cache and without building."""
    folder = options.cache or onnx.parent
    path = folder / f"{graph.name}.plan"
    path.write_bytes(HEADER + onnx.read_bytes())
    return EnginePlan(path, path.read_bytes(), flavour, folder / f"{graph.name}.cache", {})


class Logger:
    """Stands for ILogger, a base class whose constructor must be called."""

    Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"])

    def __init__(self) -> None:
        self.registered = True

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


@dataclass
class FakeTensorRT:
    """Stands for the module `tensorrt`, or with `rtx` for `tensorrt_rtx`."""

    cuda: FakeCuda
    rtx: bool = False
    max_batch: int = 4
    capturable: bool = True
    run_error: str = ""  # if set, runs log this and fail
    context_error: str = ""
    load_error: str = ""  # if set, loading a plan logs this and fails
    shape_error: str = ""  # if set, `infer_shapes` raises this
    binding_error: str = ""  # if set, constructors and runs raise this, like errors of the C++ bindings
    cached: bytes = b"compiled"  # content of the runtime cache after a run
    configs: list[Any] = field(default_factory=list)
    contexts: list["Context"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ILogger = Logger
        self.__name__ = "tensorrt_rtx" if self.rtx else "tensorrt"
        self.__version__ = "1"
        self.TensorIOMode, self.TensorLocation, self.DataType = Mode, Location, DataType
        self.ExecutionContextAllocationStrategy = Allocation
        if self.rtx:
            self.ComputeCapability = SimpleNamespace(SM86=1, SM89=2, SM120=3)
            self.CudaGraphStrategy = Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
            self.DynamicShapesKernelSpecializationStrategy = Enum("Kernels", ["LAZY", "EAGER", "NONE"])

    def __hash__(self) -> int:
        return id(self)

    def Runtime(self, logger: Logger) -> Any:
        assert logger.registered
        self.refuse(logger)

        def deserialize_cuda_engine(data: bytes) -> "FakeEngine | None":
            if self.load_error:
                logger.log(Logger.Severity.ERROR, self.load_error)
                return None
            if data.startswith(HEADER):
                return FakeEngine(self, logger, data.removeprefix(HEADER))
            logger.log(Logger.Severity.WARNING, "the header differs")
            logger.log(Logger.Severity.ERROR, "the plan is of another version")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)

    def refuse(self, logger: Logger) -> None:
        if self.binding_error:
            logger.log(Logger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError(self.binding_error)


def install(monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRT) -> FakeTensorRT:
    """Make `import` find the fakes."""
    bindings = SimpleNamespace(runtime=trt.cuda)
    modules = {"cuda": SimpleNamespace(bindings=bindings), "cuda.bindings": bindings, "cuda.bindings.runtime": trt.cuda}
    for name, module in (modules | {trt.__name__: trt}).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("engines.cuda.driver_installed", lambda: True)
    return trt


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, logger: Logger, data: bytes) -> None:
        self.trt, self.logger = trt, logger
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: node for node in self.session.get_inputs()}
        self.outputs = {node.name: node for node in self.session.get_outputs()}
        self.tensors = self.inputs | self.outputs
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.inputs else Mode.OUTPUT

    def get_tensor_location(self, name: str) -> Location:
        return Location.DEVICE

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[DTYPES[self.tensors[name].type][0]]

    def get_tensor_shape(self, name: str) -> list[int]:
        return [n if isinstance(n, int) else -1 for n in self.tensors[name].shape]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        return [[1] * len(self.tensors[name].shape)] * 2 + [[self.trt.max_batch] * len(self.tensors[name].shape)]

    def create_runtime_config(self) -> Any:
        return RuntimeConfig(self.trt)

    def create_execution_context(self, how: Any) -> "Context | None":
        if self.trt.context_error:
            self.logger.log(Logger.Severity.ERROR, self.trt.context_error)
            return None
        assert Allocation.USER_MANAGED is (how.allocation if self.trt.rtx else how)
        self.trt.contexts.append(Context(self))
        return self.trt.contexts[-1]


class RuntimeConfig:
    """Stands for the runtime configuration of TensorRT-RTX."""

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.allocation, self.cache = trt, Allocation.STATIC, None
        self.cuda_graph_strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None
        self.read = b""
        trt.configs.append(self)

    def set_execution_context_allocation_strategy(self, allocation: Allocation) -> None:
        self.allocation = allocation

    def create_runtime_cache(self) -> Any:
        return SimpleNamespace(deserialize=self._deserialize, serialize=self._serialize)

    def _serialize(self) -> bytes | None:
        return self.trt.cached if get_ident() in self.trt.cuda.threads else None

    def _deserialize(self, data: bytes) -> bool:
        assert get_ident() in self.trt.cuda.threads
        self.read = data
        return data == self.trt.cached

    def set_runtime_cache(self, cache: Any) -> None:
        self.cache = cache


class Context:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch = 0
        self.changes, self.warm = 0, -1  # number of changes, and its value at the last run

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.engine.inputs[name].shape[:1] == ["B"] and shape[0] > self.trt.max_batch:
            self.engine.logger.log(Logger.Severity.ERROR, f"{name} is outside of the profile")
            return False
        self.changes += 1
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        if self.trt.shape_error:
            raise RuntimeError(self.trt.shape_error)
        return sorted(set(self.engine.inputs) - set(self.shapes))

    def _run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = list(self.engine.outputs)
        return dict(zip(names, self.engine.session.run(names, feeds), strict=True))

    def _dtype(self, name: str) -> str:
        return DTYPES[self.engine.tensors[name].type][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._run({n: np.zeros(s, self._dtype(n)) for n, s in self.shapes.items()})[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.trt.cuda.device
        self.changes += 1
        self.addresses[name] = address
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return SCRATCH * (max(s[0] for s in self.shapes.values() if s) - 1)

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.update_device_memory_size_for_shapes()
        self.changes += 1
        self.scratch = address

    def execute_async_v3(self, stream: int) -> bool:
        cuda, changes = self.trt.cuda, self.changes
        self.trt.refuse(self.engine.logger)
        capturing = cuda.streams[stream].captured is not None
        if capturing and not (self.trt.capturable and self.warm == changes):
            self.engine.logger.log(Logger.Severity.ERROR, "operation not permitted when stream is capturing")
            return False
        if self.trt.run_error:
            self.engine.logger.log(Logger.Severity.ERROR, self.trt.run_error)
            return False
        self.warm = changes
        addresses = dict(self.addresses)

        def kernels() -> None:
            assert self.changes == changes, "the context was changed since its graph was captured"
            assert self.scratch in cuda.device
            feeds = {n: cuda.array(addresses[n], s, self._dtype(n)) for n, s in self.shapes.items()}
            for name, value in self._run(feeds).items():
                cuda.array(addresses[name], value.shape, value.dtype.str)[:] = value

        cuda.streams[stream].add(kernels)
        return True
