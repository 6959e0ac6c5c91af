"""ONNX Runtime as an engine: on CPUs everywhere, on NVIDIA GPUs if `onnxruntime-gpu` is installed.

On a GPU, a bound graph runs through I/O binding. Its fixed inputs are copied to the GPU once; all other inputs and the
outputs have buffers that are reused, and go through pinned memory; and the step is captured as a CUDA graph.
"""

import logging
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from engines.advice import GPU_MEMORY, MEMORY, NO_GPU, short_of_memory, unless_app
from engines.base import BackendUnavailable, Engine, EngineError, Feeds
from engines.contract import Graph
from engines.cuda import LOST, NO_DRIVER, driver_installed
from engines.host_copies import HostCopies, copy_stream

log = logging.getLogger(__name__)

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32 would round the sums that the sampler compares. cuDNN's exhaustive search times kernels for every new length. The
# first clip would wait for it, and the next process might choose other kernels, whose last digits differ.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}
INSTALL = {"cpu": "pip install '.[cpu]'", "cuda": "pip uninstall onnxruntime, then pip install '.[gpu]'"}

CAPTURED = ("step",)  # graphs that run with the same shapes again and again: they become CUDA graphs
SLOTS = 4  # sets of shapes whose buffers are kept
CAPTURES = 32  # CUDA graphs of one session; they stay on the GPU as long as it is open
NO_CUDA_GRAPH = -1
SILENT = 4  # log severity: fatal errors only, because all others are raised
# where in ONNX Runtime an error was raised: file, line and function
SIGNATURE = re.compile(
    r"/?\S*onnxruntime\S*\.(?:cc|h|cu):\d+ .*?\)(?: const)?(?:::<lambda[^>]*>)? (?=\S)"
)  # file and function
TELEMETRY = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off, unless the user or a host has decided already. Raises ImportError.

    Its telemetry writes a device id into the home folder and looks up a server.
    """
    if "onnxruntime" not in sys.modules:
        os.environ.setdefault(TELEMETRY, "1")
    import onnxruntime

    return onnxruntime


def available() -> dict[str, str | None]:
    """For each backend of ONNX Runtime: None if it can be used, else why not."""
    install = {name: unless_app(command, NO_GPU) for name, command in INSTALL.items()}
    try:
        ort = import_onnxruntime()
    except ImportError as error:
        if short_of_memory(str(error)):
            return dict.fromkeys(PROVIDERS, f"onnxruntime cannot be imported: {MEMORY}")
        return {name: f"onnxruntime cannot be imported ({error}); {install[name]}" for name in PROVIDERS}
    have = ort.get_available_providers()
    reasons = {
        name: None if provider in have else f"onnxruntime {ort.__version__} has no {provider}; {install[name]}"
        for name, provider in PROVIDERS.items()
    }
    if reasons["cuda"] is None and not driver_installed():
        reasons["cuda"] = NO_DRIVER  # without one, onnxruntime only prints that it uses the CPU instead
    return reasons


_LOCK = Lock()


@cache
def _share_memory() -> None:
    """Share one CPU arena among all sessions. They run in turn, so each can reuse the memory that another freed."""
    ort = import_onnxruntime()
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))


@dataclass
class _Slot:
    """Buffers on the device for one set of shapes. A captured CUDA graph reads and writes exactly these buffers."""

    binding: Any
    cuda_graph: int  # a number of its own, because another slot's graph uses other buffers
    copies: HostCopies
    resident: Feeds = field(default_factory=dict)  # the fixed inputs that are in the buffers


class OrtEngine(Engine):
    """One ONNX graph in an ONNX Runtime session. Threads may run at once, but take turns with buffers on a device."""

    def __init__(self, path: Path, graph: Graph, backend: str, threads: int = 0, device: str | None = None) -> None:
        """Open a session. Raises BackendUnavailable.

        `threads` 0 leaves the choice to ONNX Runtime. `device` is where a bound graph keeps its buffers; by default
        "cuda" for that backend, and no device for "cpu".
        """
        reason = available()[backend]
        if reason is not None:
            raise BackendUnavailable(f"backend {backend!r} is not available: {reason}")
        self.graph = graph
        self.backend = f"onnxruntime/{PROVIDERS[backend]}"
        self._path, self._name, self._threads = path, backend, threads
        self._device = device or ("cuda" if backend == "cuda" else None)
        self._lock = Lock()
        self._lost: str | None = None
        self._slots: dict[tuple[tuple[str, tuple[int, ...]], ...], _Slot] = {}
        self._made = 0  # slots so far
        self._captures = backend == "cuda" and graph.name in CAPTURED
        # a captured graph belongs to a thread, and no other thread may run its session
        self._thread = ThreadPoolExecutor(1, f"maskvat-{graph.name}") if self._captures else None
        self._session = self._open()
        self._check_signature()
        self._stream = copy_stream(self._device)  # last, because it has to be closed

    def _open(self) -> Any:
        if self._captures:
            try:
                return _session(self._path, self._name, self._threads, {"enable_cuda_graph": "1"})
            except BackendUnavailable as error:
                self._without_cuda_graph(error)
        return _session(self._path, self._name, self._threads, {})

    def _without_cuda_graph(self, error: Exception) -> None:
        log.warning("%s runs without a CUDA graph, which costs time only: %s", self.graph.name, error)
        self._captures = False

    def _check_signature(self) -> None:
        for specs, nodes in (
            (self.graph.inputs, self._session.get_inputs()),
            (self.graph.outputs, self._session.get_outputs()),
        ):
            names, have = [s.name for s in specs], [n.name for n in nodes]
            if sorted(names) != sorted(have):
                raise BackendUnavailable(f"graph {self.graph.name}: the file has {have}, the contract {names}")

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        """Run the graph. Raises EngineError, or BackendUnavailable if the GPU is lost."""
        if self._lost is not None:
            raise BackendUnavailable(f"{self.backend} cannot run {self.graph.name} any more: {self._lost}; {LOST}")
        try:
            known = all(a in sizes for s in self.graph.outputs for a in s.axes if isinstance(a, str))
            bound = self._device is not None and bool(fixed) and known  # buffers need the outputs' sizes
            # a session with CUDA graphs has one stream: it would capture another thread's work, too
            with self._lock if bound or self._captures else nullcontext():
                if self._captures and self._thread is not None:
                    return self._thread.submit(self._run_here, bound, fixed, varying, sizes).result()
                return self._run_here(bound, fixed, varying, sizes)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            text = str(error)
            if "CUDA failure" in text and not _short_of_memory(error):
                self._lost = text
                raise BackendUnavailable(f"{self.backend} failed in {self.graph.name}: {error}; {LOST}") from error
            raise EngineError(f"{self.backend} failed in {self.graph.name}: {_explain(error, self._name)}") from error

    def _run_here(self, bound: bool, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        return self._run_bound(fixed, varying, sizes) if bound else self._run(fixed | varying)

    def _run(self, feeds: Feeds) -> Feeds:
        names = [s.name for s in self.graph.outputs]
        options = _run_options(NO_CUDA_GRAPH if self._captures else None)
        return dict(zip(names, self._session.run(names, feeds, options), strict=True))

    # ------------------------------------------------------------ I/O binding
    def _run_bound(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        try:
            return self._run_slot(fixed, varying, sizes)
        except Exception as error:
            self._drop_slots()  # a smaller batch starts without them
            if not self._captures or _short_of_memory(error):
                raise
            self._without_cuda_graph(error)
        self._session = self._open()
        return self._run_slot(fixed, varying, sizes)

    def _run_slot(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        slot = self._slot(fixed | varying, sizes)
        resident, slot.resident = slot.resident, {}  # until the run has succeeded
        if resident is not fixed:
            slot.copies.upload_once(fixed)
        slot.copies.upload(varying)
        self._session.run_with_iobinding(slot.binding, _run_options(slot.cuda_graph if self._captures else None))
        outputs = slot.copies.download()
        slot.resident = fixed
        return outputs

    def _slot(self, inputs: Feeds, sizes: dict[str, int]) -> _Slot:
        """The buffers for these shapes. They are made if there are none."""
        key = tuple(sorted((name, value.shape) for name, value in inputs.items()))
        if key not in self._slots:
            while len(self._slots) >= SLOTS:
                self._slots.pop(next(iter(self._slots))).copies.free()
            self._made += 1
            if self._captures and self._made % CAPTURES == 0:
                self._drop_slots()
                self._session = self._open()
            self._slots[key] = self._new_slot(inputs, sizes)
        return self._slots[key]

    def _new_slot(self, inputs: Feeds, sizes: dict[str, int]) -> _Slot:
        from onnxruntime import OrtValue

        def buffer(shape: tuple[int, ...], dtype: str) -> Any:
            return OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, self._device, 0)

        binding = self._session.io_binding()
        given = {n: buffer(v.shape, v.dtype.str) for n, v in inputs.items()}
        for name, value in given.items():
            binding.bind_ortvalue_input(name, value)
        forms = {
            s.name: (tuple(a if isinstance(a, int) else sizes[a] for a in s.axes), s.dtype) for s in self.graph.outputs
        }
        made = {name: buffer(*form) for name, form in forms.items()}
        for name, value in made.items():
            binding.bind_ortvalue_output(name, value)
        return _Slot(binding, self._made, HostCopies(given, made, forms, self._stream))

    def _drop_slots(self) -> None:
        while self._slots:
            self._slots.popitem()[1].copies.free()

    def close(self) -> None:
        """Release the pinned memory and the stream of its copies."""
        with self._lock:
            self._drop_slots()
            if self._stream is not None:
                self._stream.close()
                self._stream = None


def _short_of_memory(error: Exception) -> bool:
    return short_of_memory(str(error))


def _explain(error: Exception, backend: str) -> str:
    """The error in one line: advice if memory is short, else the library's words without C++ signatures."""
    if _short_of_memory(error):
        return GPU_MEMORY if backend == "cuda" else MEMORY
    text = " ".join(str(error).split())
    return SIGNATURE.sub("", text)


def _run_options(cuda_graph: int | None) -> Any:
    """Options of one run. `cuda_graph` is the number of the graph to capture or launch; None if there are none."""
    options = import_onnxruntime().RunOptions()
    options.log_severity_level = SILENT
    if cuda_graph is not None:
        options.add_run_config_entry("gpu_graph_id", str(cuda_graph))
    return options


def _session(path: Path, backend: str, threads: int, provider_options: dict[str, str]) -> Any:
    """Open a session on this backend and no other. Raises BackendUnavailable."""
    ort = import_onnxruntime()
    if backend == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls(directory="")  # CUDA and cuDNN from the gpu extra's own packages
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    with _LOCK:  # `cache` alone would let two threads run it
        _share_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = SILENT
    # idle threads must not spin, because the work on the host between two runs needs the cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = (PROVIDERS[backend], PROVIDER_OPTIONS[backend] | provider_options)

    def create() -> Any:
        # with fallback enabled it would continue on the CPU, even in the middle, and only print a line
        return ort.InferenceSession(str(path), options, providers=[provider], enable_fallback=0)

    try:
        try:
            session = create()
        except Exception as error:
            if "global thread pool" not in str(error):
                raise
            log.info("ONNX Runtime has a global thread pool, which another part of this program set; it is used")
            options.use_per_session_threads = False
            session = create()
    except Exception as error:  # no base class, as above
        raise BackendUnavailable(f"onnxruntime cannot load {path.name}: {_explain(error, backend)}") from error
    used = session.get_providers()[0]
    if used != PROVIDERS[backend]:  # it falls back to the CPU with only a log line
        raise BackendUnavailable(f"onnxruntime cannot use {PROVIDERS[backend]} here and would use {used}")
    return session
