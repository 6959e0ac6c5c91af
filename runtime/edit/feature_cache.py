"""The features of videos that a pipeline has encoded, kept for other takes and redos of the same pictures.

A second take then neither decodes nor encodes them. What is kept is exactly what was computed, so a sound does not
depend on it. Only files are kept: frames that a host gives can be read once.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.base import Feeds
from engines.contract import FloatArray, ModelConfig
from runtime.edit.plan import Plan
from runtime.windows import Window, start_second

KEEP = 16 * 2**20  # bytes of one pipeline: about 5 minutes of video with the shipped bundle


@dataclass(frozen=True)
class View:
    """What a generation knows of the pictures of a window."""

    window: Window  # of a kept one without its frames
    features: Feeds  # frame_features [1, N, Df], and sync_features if the bundle uses them
    motion: NDArray[np.float64]  # runtime.edit.activity.changes

    @property
    def size(self) -> int:
        """Bytes, without the frames."""
        return self.motion.nbytes + sum(f.nbytes for f in self.features.values())

    def without_frames(self) -> "View":
        """The same, without the frames."""
        w, none = self.window, np.zeros((0, 0, 0, 3), np.uint8)
        return View(Window(w.number, w.start, w.length, none, none), self.features, self.motion)


@dataclass(frozen=True)
class SeenVideo:
    """A whole pass over a video: its facts, as those of a `PictureSource`, and its windows."""

    name: str
    start: Fraction
    duration: Fraction
    expected_duration: float | None
    warnings: list[str]
    views: Sequence[View]

    @property
    def size(self) -> int:
        """Bytes of its windows."""
        return sum(view.size for view in self.views)


@dataclass(frozen=True)
class PassKey:
    """What a pass depends on: the file as it is now, and which of its pictures are read."""

    file: tuple[object, ...]
    rest: tuple[object, ...]

    @classmethod
    def of(cls, path: str | Path, plan: Plan, max_duration: float) -> "PassKey | None":
        """The key of a plan. None if the file cannot be looked at, which opening it will say."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        # st_ctime_ns changes even if a program sets the other time back, as copying and synchronising do
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return cls((str(path), plan.fingerprint, *state), (plan.part, plan.stretch, max_duration))


class FeatureCache:
    """The passes that were used last, as many as fit into `limit` bytes. Thread-safe."""

    def __init__(self, limit: int = KEEP) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._passes: OrderedDict[PassKey, SeenVideo] = OrderedDict()

    def too_large(self, views: Sequence[View]) -> bool:
        """Whether these alone are more than is kept."""
        return sum(view.size for view in views) > self.limit

    def get(self, key: PassKey | None) -> SeenVideo | None:
        """The pass of a key, if it is kept."""
        with self._lock:
            if key is None or key not in self._passes:
                return None
            self._passes.move_to_end(key)
            return self._passes[key]

    def put(self, key: PassKey, seen: SeenVideo) -> None:
        """Keep a pass. Drops those that were not used for longest. One that alone is too large is not kept."""
        if self.too_large(seen.views):
            return
        with self._lock:
            self._passes[key] = seen
            self._passes.move_to_end(key)
            while sum(s.size for s in self._passes.values()) > self.limit:
                self._passes.popitem(last=False)

    def frame_features(
        self, key: PassKey | None, config: ModelConfig, start: Fraction, duration: Fraction, window: Window
    ) -> FloatArray | None:
        """Frame features [1, N, Df] of a window, from any pass over pictures that begin and last as given.

        They do not depend on the window, as each frame is encoded alone.
        """
        count, second = len(window.frames), start_second(config, window.start)
        with self._lock:
            passes = [s for k, s in self._passes.items() if key is not None and k.file == key.file]
        for seen in passes:
            if (seen.start, seen.duration) != (start, duration):
                continue
            for view in seen.views:
                kept = view.features["frame_features"]
                first = (second - start_second(config, view.window.start)) * config.frame_fps
                if 0 <= first and first + count <= kept.shape[1]:
                    return kept[:, first : first + count]
        return None

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._passes.clear()
