"""The part of the CUDA runtime that engines on a GPU need, through `cuda-bindings`: memory, one stream, graphs, errors.

Everything runs on device 0. CUDA_VISIBLE_DEVICES selects which GPU that is.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from engines.base import Array, BackendUnavailable, EngineError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NO_DRIVER = "no NVIDIA driver is installed"
LOST = "check the GPU with `nvidia-smi`, then start the program again (or use --backend cpu)"
ADVICE = {  # CUDA's name of an error -> what to do; LOST for all others
    "cudaErrorInsufficientDriver": "install or update the NVIDIA driver",
    "cudaErrorNoDevice": "no NVIDIA GPU is visible: check `nvidia-smi` and CUDA_VISIBLE_DEVICES",
    "cudaErrorDevicesUnavailable": "another program uses the GPU, or the GPU was lost: " + LOST,
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
    """Whether an NVIDIA driver is installed. Check this first, because libraries that need one take long to import."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def unavailable() -> str | None:
    """Why no GPU can be used here; None if one can."""
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
        versions = f"it supports CUDA {_version(driver)}, {_version(needed)} is needed"
        return f"the NVIDIA driver is too old: {versions}; update it"
    if status != api.cudaError_t.cudaSuccess:
        return f"{status.name}: {ADVICE.get(status.name, LOST)}"
    return None if count else ADVICE["cudaErrorNoDevice"]


class Cuda:
    """Calls the CUDA runtime's functions by name. A call that fails raises OutOfMemory or BackendUnavailable."""

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
        """Call a function that releases something, and ignore errors: a lost GPU has released everything."""
        getattr(self.api, name)(*arguments)


class Buffer:
    """Memory on the GPU and, if `pinned`, a pinned copy on the host. It grows when needed and never shrinks."""

    def __init__(self, cuda: Cuda, pinned: bool = True) -> None:
        self._cuda, self._pinned = cuda, pinned
        self.address, self._host, self._capacity = 0, 0, 0

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes. Content and address may change. Raises OutOfMemory."""
        if size <= self._capacity:
            return
        self.free()  # first, because old and new may not fit together
        self.address = int(self._cuda("cudaMalloc", size))
        if self._pinned:
            self._host = int(self._cuda("cudaHostAlloc", size, 0))
        self._capacity = size

    def host(self, shape: tuple[int, ...], dtype: str) -> Array:
        """The pinned copy as an array: a view, valid until the buffer grows."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(self._host)
        return np.ndarray(shape, dtype, buffer=memoryview(memory))

    def free(self) -> None:
        if self.address:
            self._cuda.quietly("cudaFree", self.address)
        if self._host:
            self._cuda.quietly("cudaFreeHost", self._host)
        self.address = self._host = self._capacity = 0


class PinnedCopy(Buffer):
    """A pinned copy on the host of `size` bytes on the GPU that another library owns."""

    def __init__(self, cuda: Cuda, address: int, size: int) -> None:
        """Raises OutOfMemory if the host has no more memory to pin."""
        super().__init__(cuda)
        if size:
            self._host = int(cuda("cudaHostAlloc", size, 0))
        self.address, self._capacity = address, size

    def free(self) -> None:
        self.address = 0  # the memory on the GPU is not ours
        super().free()


class Stream:
    """One CUDA stream. Work on it runs in order, and `wait` waits for all of it."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = self._cuda = cuda
        self.handle = cuda("cudaStreamCreateWithFlags", cuda.api.cudaStreamNonBlocking)

    def upload(self, buffer: Buffer, value: Array) -> None:
        """Copy from host to GPU, through the buffer's pinned copy. Empty arrays need none."""
        if value.size:
            host = buffer.host(value.shape, value.dtype.str)
            np.copyto(host, value)
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._cuda("cudaMemcpyAsync", buffer.address, host.ctypes.data, host.nbytes, kind, self.handle)

    def download(self, buffer: Buffer, shape: tuple[int, ...], dtype: str) -> Array:
        """Copy from GPU to host. Returns a view of the pinned copy, which holds the values after `wait`."""
        host = buffer.host(shape, dtype)
        if host.size:
            kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._cuda("cudaMemcpyAsync", host.ctypes.data, buffer.address, host.nbytes, kind, self.handle)
        return host

    def wait(self) -> None:
        self._cuda("cudaStreamSynchronize", self.handle)

    def capture(self, enqueue: Callable[[], None]) -> Any:
        """Record what `enqueue` puts on the stream, without running it. Returns a graph that `launch` can repeat.

        Raises BackendUnavailable, or what `enqueue` raises, if something cannot be captured. The stream stays usable.
        """
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may use the GPU
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
