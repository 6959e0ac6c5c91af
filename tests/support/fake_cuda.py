"""A fake of `cuda.bindings.runtime` for machines without a GPU, with the functions that `engines` uses.

Device memory is NumPy arrays behind fake addresses, so only copies can reach it. Streams are asynchronous: work runs
when a stream is synchronised. Code that reads or overwrites a buffer too early gets wrong numbers.
"""

import ctypes
from collections.abc import Callable
from enum import IntEnum
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import numpy as np

Op = Callable[[], None]


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorDevicesUnavailable = 46
    cudaErrorNoDevice = 100
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class Stream:
    def __init__(self, number: int) -> None:
        self.number, self.queue = number, list[Op]()
        self.captured: list[Op] | None = None  # while it captures

    def __int__(self) -> int:
        return self.number

    def add(self, op: Op) -> None:
        (self.queue if self.captured is None else self.captured).append(op)


class FakeCuda:
    """Stands for the module `cuda.bindings.runtime`."""

    cudaError_t = Error
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory: int = 2**30, capability: tuple[int, int] = (8, 9)) -> None:
        self.memory, self.capability = memory, capability  # bytes of device memory
        self.driver, self.needed, self.cards = 13000, 13000, 1
        self.device: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Op]] = {}
        self.executables: dict[int, list[Op]] = {}
        self.copies: list[tuple[str, int]] = []  # finished copies: "up" or "down", bytes
        self.calls: list[str] = []
        self.threads: set[int] = set()  # threads with a CUDA context; the first call that needs one creates it
        self.failing: dict[str, Error] = {}  # call -> the error that it returns
        self.lost = False
        self._next = 0x700000000

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value) or isinstance(value, type):
            return value

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if self.lost:
                return (Error.cudaErrorDevicesUnavailable, None)
            if name in self.failing:
                return (self.failing[name], None)
            if "Version" not in name and "Device" not in name:
                self.threads.add(get_ident())
            result = value(*arguments)
            return result if isinstance(result, tuple) else (Error.cudaSuccess, result)

        return call

    def _number(self) -> int:
        self._next += 0x10000000
        return self._next

    @property
    def used(self) -> int:
        return sum(map(len, self.device.values()))

    def nothing_left(self) -> bool:
        return not (self.device or self.pinned or self.streams or self.graphs or self.executables)

    # ------------------------------------------------------------ the card
    def cudaDriverGetVersion(self) -> int:
        return self.driver

    def cudaRuntimeGetVersion(self) -> int:
        return self.needed

    def cudaGetDeviceCount(self) -> tuple[Error, int]:
        if self.driver < self.needed:
            return Error.cudaErrorInsufficientDriver, 0
        return (Error.cudaSuccess if self.cards else Error.cudaErrorNoDevice), self.cards

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return SimpleNamespace(name=b"a fake card", major=self.capability[0], minor=self.capability[1])

    # ------------------------------------------------------------ memory
    def cudaMalloc(self, size: int) -> Any:
        if self.used + size > self.memory:
            return Error.cudaErrorMemoryAllocation, None
        address = self._number()
        self.device[address] = np.full(size, 0xAA, np.uint8)  # new memory is not zero
        return address

    def cudaFree(self, address: int) -> None:
        del self.device[address]

    def cudaHostAlloc(self, size: int, flags: int) -> int:
        memory = np.full(size, 0xBB, np.uint8)
        self.pinned[memory.ctypes.data] = memory
        return int(memory.ctypes.data)

    def cudaFreeHost(self, address: int) -> None:
        del self.pinned[address]

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: Stream) -> None:
        up = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        host, device = (source, target) if up else (target, source)
        assert host in self.pinned and size <= len(self.pinned[host]), "not pinned, or too small"
        assert size <= len(self.device[device])

        def copy() -> None:
            there, here = self.device[device][:size], (ctypes.c_uint8 * size).from_address(host)
            if up:
                there[:] = here
            else:
                np.frombuffer(here, np.uint8)[:] = there
            self.copies.append(("up" if up else "down", size))

        stream.add(copy)

    def array(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """What a kernel sees."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.device[address][:size].view(dtype).reshape(shape)

    # ------------------------------------------------------------ streams and graphs
    def cudaStreamCreateWithFlags(self, flags: int) -> Stream:
        stream = Stream(self._number())
        self.streams[stream.number] = stream
        return stream

    def cudaStreamDestroy(self, stream: Stream) -> None:
        del self.streams[stream.number]

    def cudaStreamSynchronize(self, stream: Stream) -> None:
        assert stream.captured is None
        queue, stream.queue = stream.queue, []
        for op in queue:
            op()

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> None:
        stream.captured = []

    def cudaStreamEndCapture(self, stream: Stream) -> int:
        number, ops = self._number(), stream.captured
        assert ops is not None
        self.graphs[number], stream.captured = ops, None
        return number

    def cudaGraphInstantiate(self, graph: int, flags: int) -> int:
        number = self._number()
        self.executables[number] = self.graphs[graph]
        return number

    def cudaGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]

    def cudaGraphLaunch(self, executable: int, stream: Stream) -> None:
        stream.queue.extend(self.executables[executable])

    def cudaGraphExecDestroy(self, executable: int) -> None:
        del self.executables[executable]
