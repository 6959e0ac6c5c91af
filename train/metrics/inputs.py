"""What a measure is given of a clip: its true sound, the generated one, and its picture.

The objects remember what was computed of them. So take one clip after the other and, within it, one system after the
other with the same `reference` and `film`: the true sound and the picture are then analysed once for all systems.
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
class Remembered:
    """Results by the name of their analysis."""

    results: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, name: Any, make: Callable[[], T]) -> T:
        """make(), unless it was called before under this name."""
        if name not in self.results:
            self.results[name] = make()
        result: T = self.results[name]
        return result


@dataclass
class Sound(Remembered):
    """Mono samples float32 [L] in [-1, 1] at the rate at which they were made."""

    samples: NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        self.samples = check_sound(self.samples, self.rate)

    def at(self, rate: int) -> NDArray[np.float32]:
        """The samples at another rate, always resampled from the original ones."""
        return self.once(rate, lambda: resample(self.samples, self.rate, rate))

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @classmethod
    def read(cls, path: Path, rate: int = 44100) -> "Sound":
        """A file's sound. Raises MediaError."""
        return cls(read_audio(path, rate), rate)


@dataclass
class Film(Remembered):
    """The picture of a video file."""

    path: Path

    def frames(self, grid: FrameGrid) -> NDArray[np.uint8]:
        """Frames [n, size, size, 3] on a constant grid, n at least 1; not remembered, for they are large.

        Raises MediaError.
        """
        with Video(self.path) as video:
            return np.stack([frame for _, frame in video.sample([grid])])


@dataclass(frozen=True)
class Pair:
    """One clip of one system. Both sounds begin with the picture."""

    generated: Sound
    reference: Sound
    film: Film | None = None  # None: measures that need the picture are left out
