"""Encode the pictures of a window.

CPUs encode them in parts, so that memory depends on the part and not on the window's length. GPUs get the window at
once, because their plans are fastest at that length (`Bundle.encodes_whole_windows`).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from engines.contract import FloatArray, ModelConfig
from runtime.bundle import Bundle
from runtime.windows import Frames

FRAME_BATCH = 4  # frames in one call of the frame encoder: small, because fresh memory costs most in a first run
SYNC_PIECE = 128  # frames in one call of the sync encoder at most, without its context


@dataclass(frozen=True)
class Encoders:
    """The two picture encoders.

    `timer(stage)` times an engine. `before_part(frames)` is called before each part with its number of frames, and may
    raise to stop.
    """

    bundle: Bundle
    timer: Callable[[str], AbstractContextManager[None]]
    before_part: Callable[[int], None]

    def frame_features(self, frames: Frames) -> FloatArray:
        """Encode frames uint8 [N, size, size, 3] to features [1, N, Df]."""
        batch = len(frames) if self.bundle.encodes_whole_windows else FRAME_BATCH
        parts = []
        for begin in range(0, len(frames), batch):
            part = frames[begin : begin + batch]
            parts.append(self._run("frame_encoder", part, len(part)))
        return np.concatenate(parts)[None]

    def sync_features(self, frames: Frames) -> FloatArray:
        """Encode frames uint8 [Y, size, size, 3], Y a multiple of the encoder's stride, to features [1, S, Ds]."""
        stride, parts = self.bundle.config.sync_stride, []
        longest = len(frames) if self.bundle.encodes_whole_windows else SYNC_PIECE
        for begin, end, left, right in pieces(self.bundle.config, len(frames), longest):
            features = self._run("sync_encoder", frames[None, left:right], end - begin)
            parts.append(features[:, (begin - left) // stride : (end - left) // stride])
        return np.concatenate(parts, axis=1)

    def _run(self, graph: str, frames: Frames, count: int) -> FloatArray:
        self.before_part(count)
        with self.timer(graph):
            features: FloatArray = self.bundle.run(graph, frames=frames)[0].astype(np.float32, copy=False)
        return features


def pieces(config: ModelConfig, n: int, longest: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut n frames for the sync encoder: yield (begin, end, left, right).

    Frames [left, right) give the same features for [begin, end) as all n frames would. There are as few pieces as
    `longest` allows, all of one length, so that each can reuse the memory of the one before. If `sync_context` is 0
    there is one piece, because nothing says how far the encoder looks.
    """
    stride, total = config.sync_stride, -(-n // config.sync_stride)  # counted in features
    count = -(-total // (longest // stride)) if config.sync_context else 1
    size = -(-total // count) * stride
    for begin in range(0, n, size):
        end = min(begin + size, n)
        yield begin, end, max(0, begin - config.sync_context), min(n, end + config.sync_context)
