"""What is seen in a window, on CPUs encoded in parts: memory then depends on the part and not on the window's length.

A card gets the window at once, the length that its plans are built to be fastest at.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from engines.contract import FloatArray, ModelConfig
from runtime.bundle import Bundle
from runtime.windows import Frames

FRAME_BATCH = 4  # frames that the frame encoder gets at once: of a first run, fresh memory is what costs most
SYNC_PIECE = 128  # frames that the sync encoder gets at once at most, its context not counted


@dataclass(frozen=True)
class Encoders:
    """The two picture encoders. `timer(stage)` times an engine; `check_cancelled()` may stop before each part."""

    bundle: Bundle
    timer: Callable[[str], AbstractContextManager[None]]
    check_cancelled: Callable[[], None]

    def clip_features(self, frames: Frames) -> FloatArray:
        """frames uint8 [N, size, size, 3] -> features [1, N, Dc]."""
        batch = FRAME_BATCH if self.bundle.backend == "cpu" else len(frames)
        parts = [self._run("frame_encoder", frames[i : i + batch]) for i in range(0, len(frames), batch)]
        return np.concatenate(parts)[None]

    def sync_features(self, frames: Frames) -> FloatArray:
        """frames uint8 [Y, size, size, 3], Y a multiple of the encoder's stride -> features [1, S, Ds]."""
        stride, parts = self.bundle.config.sync_stride, []
        longest = SYNC_PIECE if self.bundle.backend == "cpu" else len(frames)
        for begin, end, left, right in pieces(self.bundle.config, len(frames), longest):
            features = self._run("sync_encoder", frames[None, left:right])
            parts.append(features[:, (begin - left) // stride : (end - left) // stride])
        return np.concatenate(parts, axis=1)

    def _run(self, graph: str, frames: Frames) -> FloatArray:
        self.check_cancelled()
        with self.timer(graph):
            features: FloatArray = self.bundle.run(graph, frames=frames)[0].astype(np.float32, copy=False)
        return features


def pieces(config: ModelConfig, n: int, longest: int) -> Iterator[tuple[int, int, int, int]]:
    """(begin, end, left, right): frames [left, right) give the features of [begin, end) as all n frames would.

    As few as `longest` allows for [begin, end), of one length, so that each can use the memory of the one before.
    Without `sync_context` one piece: nothing says how far the encoder looks.
    """
    stride, total = config.sync_stride, -(-n // config.sync_stride)  # counted in features
    count = -(-total // (longest // stride)) if config.sync_context else 1
    size = -(-total // count) * stride
    for begin in range(0, n, size):
        end = min(begin + size, n)
        yield begin, end, max(0, begin - config.sync_context), min(n, end + config.sync_context)
