"""The little of the CUDA runtime that engines on a card need, over `cuda-bindings`: memory, one stream, graphs, errors.

Everything happens on device 0; CUDA_VISIBLE_DEVICES says which card that is.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from engines.base import Array, BackendUnavailable, EngineError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NO_DRIVER = "no NVIDIA driver is installed"
LOST = "check the card with `nvidia-smi`, then start the program again (or use --backend cpu)"
ADVICE = {  # CUDA's name of an error -> what to do; all others: LOST
    "cudaErrorInsufficientDriver": "install or update the NVIDIA driver",
    "cudaErrorNoDevice": "no NVIDIA card is visible: check `nvidia-smi` and CUDA_VISIBLE_DEVICES",
    "cudaErrorDevicesUnavailable": "another program holds the card, or it was lost: " + LOST,
}


class OutOfMemory(EngineError):
    """The GPU's memory, or the host's pinned memory, is not enough. The engine stays usable.

    It does not leave `engines`: callers get an EngineError or BackendUnavailable.
    """

    code = "out_of_memory"


def _runtime() -> Any:
    from cuda.bindings import runtime

    return runtime


def driver_installed() -> bool:
    """Whether there is an NVIDIA driver: asked first, because what needs one takes long to import."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def unavailable() -> str | None:
    """Why no card can be used here; None where one can."""
    try:
        api = _runtime()
    except ImportError as error:
        return f"cuda-bindings cannot be imported ({error})"
    _, driver = api.cudaDriverGetVersion()
    if not driver:
        return NO_DRIVER
    status, count = api.cudaGetDeviceCount()
    if status == api.cudaError_t.cudaErrorInsufficientDriver:
        _, needed = api.cudaRuntimeGetVersion()
        return f"the NVIDIA driver is too old: it knows CUDA {_version(driver)}, this is {_version(needed)}; update it"
    if status != api.cudaError_t.cudaSuccess:
        return f"{status.name}: {ADVICE.get(status.name, LOST)}"
    return None if count else ADVICE["cudaErrorNoDevice"]


class Cuda:
    """Calls of the CUDA runtime by name; one that fails raises OutOfMemory or BackendUnavailable."""

    def __init__(self) -> None:
        self.api = _runtime()

    def __call__(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self.api, name)(*arguments)
        if error == self.api.cudaError_t.cudaErrorMemoryAllocation:
            raise OutOfMemory(f"out of memory ({name})")
        if error != self.api.cudaError_t.cudaSuccess:
            raise BackendUnavailable(f"{error.name} in {name}; {ADVICE.get(error.name, LOST)}")
        return values[0] if values else None

    def quietly(self, name: str, *arguments: Any) -> None:
        """For releasing: a card that is lost has released everything."""
        getattr(self.api, name)(*arguments)


class Buffer:
    """Memory on the card, with a pinned twin on the host where `pinned`. It grows when needed and never shrinks."""

    def __init__(self, cuda: Cuda, pinned: bool = True) -> None:
        self._cuda, self._pinned = cuda, pinned
        self.address, self._host, self._capacity = 0, 0, 0

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes; content and address may change. Raises OutOfMemory."""
        if size <= self._capacity:
            return
        self.free()  # before, not after: both may not fit
        self.address = int(self._cuda("cudaMalloc", size))
        if self._pinned:
            self._host = int(self._cuda("cudaHostAlloc", size, 0))
        self._capacity = size

    def host(self, shape: tuple[int, ...], dtype: str) -> Array:
        """The pinned twin as an array: a view, valid until the buffer grows."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(self._host)
        return np.ndarray(shape, dtype, buffer=memoryview(memory))

    def free(self) -> None:
        if self.address:
            self._cuda.quietly("cudaFree", self.address)
        if self._host:
            self._cuda.quietly("cudaFreeHost", self._host)
        self.address = self._host = self._capacity = 0


class Stream:
    """One stream: what is put on it runs in that order, and `wait` waits for it."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = cuda("cudaStreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)

    def upload(self, buffer: Buffer, value: Array) -> None:
        """Host to card, through the buffer's pinned twin. Empty arrays need no copy."""
        if value.size:
            host = buffer.host(value.shape, value.dtype.str)
            np.copyto(host, value)
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._cuda("cudaMemcpyAsync", buffer.address, host.ctypes.data, host.nbytes, kind, self.handle)

    def download(self, buffer: Buffer, shape: tuple[int, ...], dtype: str) -> Array:
        """Card to host: a view of the pinned twin, which holds the values after `wait`."""
        host = buffer.host(shape, dtype)
        if host.size:
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._cuda("cudaMemcpyAsync", host.ctypes.data, buffer.address, host.nbytes, kind, self.handle)
        return host

    def wait(self) -> None:
        self._cuda("cudaStreamSynchronize", self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """What `enqueue` puts on the stream, as a graph that `launch` repeats; it does not run now.

        Raises BackendUnavailable, or what `enqueue` raises, where something in it cannot be captured; the stream is
        usable then.
        """
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may use the card
        self._cuda("cudaStreamBeginCapture", self.handle, mode)
        try:
            enqueue()
        except BaseException:
            self._cuda.quietly("cudaStreamEndCapture", self.handle)
            raise
        graph = self._cuda("cudaStreamEndCapture", self.handle)
        try:
            return self._cuda("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.quietly("cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        self._cuda("cudaGraphLaunch", graph, self.handle)

    def drop(self, graph: Any) -> None:
        self._cuda.quietly("cudaGraphExecDestroy", graph)

    def close(self) -> None:
        self._cuda.quietly("cudaStreamDestroy", self.handle)
