"""ONNX Runtime behind the engine interface: CPU everywhere, CUDA where `onnxruntime-gpu` is installed."""

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from engines.base import BackendUnavailable, Engine, EngineError, Feeds
from engines.contract import Graph

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32 would round the sums that the sampler compares
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
INSTALL = {"cpu": "pip install '.[cpu]'", "cuda": "pip uninstall onnxruntime, then pip install '.[gpu]'"}


def available() -> dict[str, str | None]:
    """Backend name -> None where it can be used, else why not."""
    try:
        import onnxruntime
    except ImportError as error:
        return {name: f"onnxruntime cannot be imported ({error}); {INSTALL[name]}" for name in PROVIDERS}
    have = onnxruntime.get_available_providers()
    return {
        name: None if provider in have else f"onnxruntime {onnxruntime.__version__} has no {provider}; {INSTALL[name]}"
        for name, provider in PROVIDERS.items()
    }


_LOCK = Lock()


@cache
def _share_memory() -> None:
    """One CPU arena for all sessions, grown by what is asked for: run in turn, each can use what another freed."""
    import onnxruntime as ort

    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": 1}))


class OrtEngine(Engine):
    """One ONNX graph in an ONNX Runtime session. Thread-safe, as sessions are."""

    def __init__(self, path: Path, graph: Graph, backend: str, threads: int = 0) -> None:
        """`threads` 0 leaves the choice to ONNX Runtime. Raises BackendUnavailable."""
        reason = available()[backend]
        if reason is not None:
            raise BackendUnavailable(f"backend {backend!r} is not available: {reason}")
        import onnxruntime as ort

        if backend == "cuda" and hasattr(ort, "preload_dlls"):
            ort.preload_dlls(directory="")  # CUDA and cuDNN from the gpu extra's own packages

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        with _LOCK:  # `cache` alone lets two threads in
            _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 3  # errors only: they come back as exceptions
        # idle threads must not spin: the host's own work between two runs needs the cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            provider = (PROVIDERS[backend], PROVIDER_OPTIONS[backend])
            self._session: Any = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BackendUnavailable(f"onnxruntime cannot load {path.name}: {error}") from error
        used = self._session.get_providers()[0]
        if used != PROVIDERS[backend]:  # it falls back to the CPU with a log line only
            raise BackendUnavailable(f"backend {backend!r} does not work here: onnxruntime fell back to {used}")
        self.graph = graph
        self.backend = f"onnxruntime/{used}"
        self._check_signature()

    def _check_signature(self) -> None:
        for specs, nodes in (
            (self.graph.inputs, self._session.get_inputs()),
            (self.graph.outputs, self._session.get_outputs()),
        ):
            names, have = [s.name for s in specs], [n.name for n in nodes]
            if sorted(names) != sorted(have):
                raise BackendUnavailable(f"graph {self.graph.name}: the file has {have}, the contract {names}")

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        names = [s.name for s in self.graph.outputs]
        try:
            values = self._session.run(names, fixed | varying)
        except Exception as error:  # as above: no base class of their own
            advice = "if memory is short, fewer --candidates or shorter clips need less"
            raise EngineError(f"{self.backend} failed in {self.graph.name}: {error}; {advice}") from error
        return dict(zip(names, values, strict=True))
