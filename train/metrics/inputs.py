"""The inputs of a measure: `Pair`, with a clip's generated sound, true sound and picture.

These objects cache what was computed from them. So process one clip after the other, and pass the same `reference` and
`film` objects for every system: the true sound and the picture are then analysed only once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.audio import check_sound, read_audio, resample
from runtime.video import FrameGrid, Video

T = TypeVar("T")


@dataclass
class ResultCache:
    """Caches results under the name of their analysis."""

    results: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, name: Any, make: Callable[[], T]) -> T:
        """The result of make(), which is called only the first time that this name is used."""
        if name not in self.results:
            self.results[name] = make()
        result: T = self.results[name]
        return result


@dataclass
class Sound(ResultCache):
    """Mono samples float32 [L] in [-1, 1], at their original rate in Hz."""

    samples: NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        self.samples = check_sound(self.samples, self.rate)

    def at(self, rate: int) -> NDArray[np.float32]:
        """The samples at a rate in Hz, always resampled from the original ones."""
        return self.once(rate, lambda: resample(self.samples, self.rate, rate))

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @classmethod
    def read(cls, path: Path, rate: int = 44100) -> "Sound":
        """Read a file's sound at `rate` Hz. Raises MediaError."""
        return cls(read_audio(path, rate), rate)


@dataclass
class Film(ResultCache):
    """The picture of a video file."""

    path: Path

    def frames(self, grid: FrameGrid) -> NDArray[np.uint8]:
        """Frames uint8 [n, size, size, 3] on a constant grid, with n at least 1. They are not cached: they are large.

        Raises MediaError.
        """
        with Video(self.path) as video:
            return np.stack([frame for _, frame in video.sample([grid])])


@dataclass(frozen=True)
class Pair:
    """One clip of one system. Both sounds start with the picture."""

    generated: Sound
    reference: Sound
    film: Film | None = None  # None: measures that need the picture are skipped
