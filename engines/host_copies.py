"""Copies between arrays and ONNX Runtime's buffers on a device: through pinned memory where there is a CUDA stream.

The driver copies pageable memory in pieces, through a small pinned buffer of its own, and the program waits for each
array. Pinned memory is copied directly, and the program waits once for all arrays of a step.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engines.base import BackendUnavailable, Feeds
from engines.cuda import Cuda, OutOfMemory, PinnedCopy, Stream, unavailable

log = logging.getLogger(__name__)

SLOWER = "inputs and outputs are copied from pageable memory, which costs time only: %s"
Forms = dict[str, tuple[tuple[int, ...], str]]  # name -> shape and dtype


def copy_stream(device: str | None) -> Stream | None:
    """A stream for pinned copies; None on a device that is not CUDA, and without `cuda-bindings`."""
    if device != "cuda":
        return None
    try:
        reason = unavailable()
        if reason is None:
            return Stream(Cuda())
    except (BackendUnavailable, OutOfMemory) as error:
        reason = str(error)
    log.info(SLOWER, reason)
    return None


@contextmanager
def _in_words_of_onnxruntime() -> Iterator[None]:
    """A failing copy ends the engine as a failing kernel does, which ONNX Runtime reports as a "CUDA failure"."""
    try:
        yield
    except BackendUnavailable as error:
        raise RuntimeError(f"CUDA failure: {str(error).partition(';')[0]}") from error


class HostCopies:
    """Copies for the buffers of one set of shapes: OrtValues by name, and shape and dtype of each output."""

    def __init__(self, inputs: dict[str, Any], outputs: dict[str, Any], forms: Forms, stream: Stream | None) -> None:
        self._inputs, self._outputs, self._forms, self._stream = inputs, outputs, forms, stream
        self._pinned: dict[str, PinnedCopy] = {}

    def upload_once(self, arrays: Feeds) -> None:
        """Copy inputs that stay for a whole clip. They are large and rare, so pinning memory for them does not pay."""
        for name, value in arrays.items():
            self._inputs[name].update_inplace(np.asarray(value, order="C"))  # it copies bytes and ignores strides

    def upload(self, arrays: Feeds) -> None:
        """Copy the inputs of one run. Raises RuntimeError in ONNX Runtime's words if the GPU is lost."""
        stream = self._stream_for({n: (self._inputs[n], v.nbytes) for n, v in arrays.items()})
        if stream is None:
            self.upload_once(arrays)
            return
        with _in_words_of_onnxruntime():
            for name, value in arrays.items():
                stream.upload(self._pinned[name], value)
            stream.wait()  # ONNX Runtime runs on a stream of its own

    def download(self) -> Feeds:
        """All outputs of a run, as arrays that the caller owns. Raises RuntimeError as `upload` does."""
        sizes = {n: int(np.prod(shape)) * np.dtype(dtype).itemsize for n, (shape, dtype) in self._forms.items()}
        stream = self._stream_for({n: (value, sizes[n]) for n, value in self._outputs.items()})
        if stream is None:
            return {name: value.numpy().copy() for name, value in self._outputs.items()}  # on the CPU these are views
        with _in_words_of_onnxruntime():
            views = {name: stream.download(self._pinned[name], *form) for name, form in self._forms.items()}
            stream.wait()
        return {name: view.copy() for name, view in views.items()}

    def _stream_for(self, values: dict[str, tuple[Any, int]]) -> Stream | None:
        """The stream, after all these values (OrtValue and bytes) have pinned copies; None if there is no memory."""
        try:
            with _in_words_of_onnxruntime():
                for name, (value, size) in values.items():
                    if self._stream is not None and name not in self._pinned:
                        self._pinned[name] = PinnedCopy(self._stream.cuda, value.data_ptr(), size)
        except OutOfMemory as error:
            log.info(SLOWER, error)
            self.free()
            self._stream = None
        return self._stream

    def free(self) -> None:
        """Release the pinned memory. What is copied after this pins it again."""
        while self._pinned:
            self._pinned.popitem()[1].free()
