"""Build a TensorRT plan from a strongly typed ONNX file, with TensorRT or TensorRT-RTX.

Both have the same API and take the precision from the graph. TensorRT builds for the GPU of this machine. TensorRT-RTX
builds for a list of compute capabilities, on any machine, and finishes the work on the user's GPU.
"""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engines.advice import NO_GPU, unless_app
from engines.base import BackendUnavailable, MaskVATError
from engines.contract import Graph, TensorSpec
from engines.profiles import Profile

log = logging.getLogger(__name__)
FLAVOURS = {"rtx": "tensorrt_rtx", "trt": "tensorrt"}  # flavour -> its module
INSTALL = {
    "rtx": "pip install '.[rtx]'",
    "trt": "pip install '.[trt]' with NVIDIA's own package index (docs/TENSORRT.md)",
}
TARGETS = ("sm80", "sm86", "sm89", "sm120")  # Ampere, Ada, Blackwell; TensorRT-RTX does not support sm90 and sm100
DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "UINT8": "uint8"}  # else as NumPy's


@dataclass(frozen=True)
class Card:
    """A GPU: what a TensorRT plan depends on besides its library."""

    name: str
    compute_capability: str  # e.g. "9.0"
    driver: str


def library(flavour: str) -> Any:
    """The Python module of a flavour. Raises BackendUnavailable, which says what to install."""
    if flavour not in FLAVOURS:
        raise BackendUnavailable(f"unknown kind of TensorRT {flavour!r}; choose from {', '.join(FLAVOURS)}")
    try:
        if flavour == "rtx":
            import tensorrt_rtx as module
        else:
            import tensorrt as module
    except (ImportError, OSError) as error:  # OSError: one of its libraries cannot be loaded
        words = f"{FLAVOURS[flavour]} cannot be imported ({error}); {unless_app(INSTALL[flavour], NO_GPU)}"
        raise BackendUnavailable(words) from error
    return module


def card() -> Card:
    """The first visible GPU. Raises BackendUnavailable if there is none."""
    try:
        from cuda.bindings import runtime as cudart
    except ImportError as error:
        words = f"cuda-bindings cannot be imported ({error}); {unless_app(INSTALL['rtx'], NO_GPU)}"
        raise BackendUnavailable(words) from error
    good = cudart.cudaError_t.cudaSuccess
    status, count = cudart.cudaGetDeviceCount()
    if status != good or count < 1:
        raise BackendUnavailable(f"no NVIDIA GPU here: {status.name}; install or update NVIDIA's driver")
    status, found = cudart.cudaGetDeviceProperties(0)
    if status != good:
        raise BackendUnavailable(f"the NVIDIA GPU does not answer: {status.name}; check it with `nvidia-smi`")
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Card(name, f"{found.major}.{found.minor}", _driver(cudart))


def _driver(cudart: Any) -> str:
    """The version of the kernel module, or if that cannot be read, the CUDA version that the driver supports."""
    kernel = Path("/proc/driver/nvidia/version")
    if kernel.is_file():
        return kernel.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
    return f"CUDA {cudart.cudaDriverGetVersion()[1]}"


# ---------------------------------------------------------------- building
def build(module: Any, onnx: Path, graph: Graph, profile: Profile, targets: Iterable[str] = ()) -> bytes:
    """Build a plan and return it serialised. `targets` are TensorRT-RTX's compute capabilities; none: this GPU's.

    Raises BackendUnavailable with the library's own message, or if the network differs from the contract.
    """
    with explained(module, f"cannot build {onnx.name}"):
        return _build(module, onnx, graph, profile, targets)


def _build(module: Any, onnx: Path, graph: Graph, profile: Profile, targets: Iterable[str]) -> bytes:
    logger = logger_of(module)
    builder = module.Builder(logger)
    typed = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # absent: the only kind
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):  # from the file, because external data is beside it
        said = [" ".join(str(parser.get_error(i)).split()) for i in range(parser.num_errors)]
        raise BackendUnavailable(f"{module.__name__} cannot read {onnx.name}: {'; '.join(said) or logger.explain()}")
    check_network(network, graph)
    config = builder.create_builder_config()
    config.clear_flag(module.BuilderFlag.TF32)  # it would round the sums that the sampler compares
    shapes = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        shapes.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(shapes)
    _set_targets(module, config, list(targets))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendUnavailable(f"{module.__name__} cannot build {onnx.name}: {logger.explain()}")
    return bytes(plan)


@contextmanager
def explained(module: Any, what: str) -> Iterator[None]:
    """Turn errors of the library's bindings into BackendUnavailable, and add what the library logged.

    The errors share no base class. If CUDA cannot start, for example, constructors raise a TypeError about C++ only.
    """
    logger = logger_of(module)
    logger.errors.clear()
    try:
        yield
    except MaskVATError:
        raise
    except Exception as error:
        raise BackendUnavailable(f"{module.__name__} {what}: {error}; {logger.explain()}") from error


class Errors:
    """The latest errors that a library logged, one list for each thread that uses it.

    A line from a thread of ours belongs to that thread. The library's own threads do not say for whom they work, so
    their lines go to all.
    """

    def __init__(self) -> None:
        self._own, self._all, self._lock = threading.local(), weakref.WeakSet[_Lines](), threading.Lock()

    def _mine(self) -> "_Lines":
        lines: _Lines | None = getattr(self._own, "lines", None)
        if lines is None:
            lines = self._own.lines = _Lines()
            with self._lock:
                self._all.add(lines)
        return lines

    def append(self, line: str) -> None:
        own = getattr(self._own, "lines", None)
        with self._lock:
            for lines in list(self._all) if own is None else [own]:
                lines.latest.append(line)

    def clear(self) -> None:
        """Forget this thread's errors. From now on they are kept for this thread."""
        self._mine().latest.clear()

    def take(self) -> str:
        """Return this thread's errors since the last call, and forget them."""
        lines = self._mine().latest
        text = "; ".join(lines.copy()) or "no reason given"
        lines.clear()
        return text


class _Lines:
    def __init__(self) -> None:
        self.latest: deque[str] = deque(maxlen=4)


@cache
def logger_of(module: Any) -> Any:
    """The logger of this process: the library keeps the first one. Its errors explain calls that return None."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors = Errors()

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))
            else:
                log.debug("%s", message)

        def explain(self) -> str:
            """Return the errors of this thread since the last call, and forget them."""
            return self.errors.take()

    return Logger()


def _set_targets(module: Any, config: Any, targets: list[str]) -> None:
    if not targets:
        return
    known = module.ComputeCapability
    unknown = [t for t in targets if not hasattr(known, t.upper())]
    if unknown:
        have = sorted(n.lower() for n in dir(known) if n.startswith("SM"))
        raise BackendUnavailable(f"{module.__name__} has no target {', '.join(unknown)}; choose from {', '.join(have)}")
    config.num_compute_capabilities = len(targets)
    for i, target in enumerate(targets):
        config.set_compute_capability(getattr(known, target.upper()), i)


# ---------------------------------------------------------------- against the contract
def check_network(network: Any, graph: Graph) -> None:
    """Compare a network's inputs and outputs with the contract. Raises BackendUnavailable if they differ."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    for specs, tensors in ((graph.inputs, inputs), (graph.outputs, outputs)):
        have = {t.name: (DTYPES.get(t.dtype.name, t.dtype.name.lower()), tuple(t.shape)) for t in tensors}
        problem = difference(specs, have)
        if problem:
            raise BackendUnavailable(f"graph {graph.name}: the contract and the network differ: {problem}")


def difference(specs: tuple[TensorSpec, ...], have: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    """How `have` differs from the contract's tensors; "" if it does not.

    `have` maps a name to (dtype, shape), with -1 for any length.
    """
    wanted = {s.name for s in specs}
    if wanted != set(have):
        return f"missing {sorted(wanted - set(have))}, unexpected {sorted(set(have) - wanted)}"
    for spec in specs:
        dtype, shape = have[spec.name]
        fits = len(shape) == len(spec.axes) and all(
            isinstance(axis, str) or size in (axis, -1) for axis, size in zip(spec.axes, shape, strict=True)
        )
        if dtype != spec.dtype or not fits:
            return f"{spec}, not {dtype} {list(shape)}"
    return ""
