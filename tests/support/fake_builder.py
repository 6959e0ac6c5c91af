"""A fake of the modules `tensorrt` and `tensorrt_rtx` for building plans. It cannot run them; see fake_tensorrt.

A fake plan is a text with the digest of the graph and the build settings. Every build adds a line to the file in the
environment variable BUILDS, so that builds in other processes are counted. BUILD_SECONDS makes builds slow, and
BUILD_FAILS and NO_BUILDER make them fail.
"""

import hashlib
import os
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx

NAMES = {"FLOAT": "FLOAT", "INT32": "INT32", "UINT8": "UINT8"}  # ONNX's -> TensorRT's


class Logger:
    Severity = SimpleNamespace(ERROR="error", INTERNAL_ERROR="internal error", WARNING="warning")


class Network:
    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.digest = ""

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, i: int) -> Any:
        return self.inputs[i]

    def get_output(self, i: int) -> Any:
        return self.outputs[i]


def tensor(value: onnx.ValueInfoProto) -> SimpleNamespace:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
    name = NAMES[onnx.TensorProto.DataType.Name(kind.elem_type)]
    return SimpleNamespace(name=value.name, dtype=SimpleNamespace(name=name), shape=shape)


class Parser:
    num_errors = 1

    def __init__(self, network: Network, logger: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        data = Path(path).read_bytes()
        if b"unreadable" in data:
            return False
        graph = onnx.load(path).graph
        self.network.inputs = [tensor(v) for v in graph.input]
        self.network.outputs = [tensor(v) for v in graph.output]
        self.network.digest = hashlib.sha256(data).hexdigest()
        return True

    def get_error(self, i: int) -> str:
        return "In node 7: no such operator"


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(smallest, usual, largest, strict=True)), name
        self.shapes[name] = (smallest, usual, largest)


class Config:
    def __init__(self) -> None:
        self.flags, self.targets, self.profiles = {"tf32"}, dict[int, str](), list[Profile]()
        self.num_compute_capabilities = 0

    def clear_flag(self, flag: str) -> None:
        self.flags.remove(flag)

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)

    def set_compute_capability(self, target: str, i: int) -> bool:
        assert i < self.num_compute_capabilities
        self.targets[i] = target
        return True


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger
        if os.environ.get("NO_BUILDER"):
            logger.log(Logger.Severity.ERROR, "CUDA initialization failure with error: 2")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> Network:
        assert flags == 2  # strongly typed
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        with open(os.environ["BUILDS"], "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(float(os.environ.get("BUILD_SECONDS", "0")))
        if os.environ.get("BUILD_FAILS"):
            self.logger.log(Logger.Severity.WARNING, "this is not why")
            self.logger.log(Logger.Severity.ERROR, "could not infer output types")
            return None
        shapes = [p.shapes for p in config.profiles]
        return f"{network.digest} {shapes} {list(config.targets.values())} {sorted(config.flags)}".encode()


def module(name: str = "tensorrt_rtx", version: str = "1.0") -> ModuleType:
    """The fake module. Tests put it into sys.modules under its name."""
    fake = ModuleType(name)
    targets = SimpleNamespace(SM80="sm80", SM86="sm86", SM89="sm89", SM120="sm120")
    fake.__dict__.update(
        __version__=version,
        ILogger=Logger,
        Builder=Builder,
        OnnxParser=Parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(TF32="tf32"),
        ComputeCapability=targets,
    )
    return fake
