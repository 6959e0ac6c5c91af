"""The one model that all timeline files are written from. Everything is counted in whole frames of one exact rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from unicodedata import category

from runtime.edit.timecode import Timecode, time_base
from runtime.errors import OptionError


@dataclass(frozen=True)
class TimelineSound:
    """A sound file, which begins at frame `first` of the timeline and lasts `frames` frames."""

    path: Path  # absolute
    name: str
    rate: int  # Hz
    channels: int
    depth: int  # bits per sample
    samples: int
    first: int
    frames: int
    media_start: int = 0  # frame number of its first sample by its own time stamp; 0 without one


@dataclass(frozen=True)
class Timeline:
    """A whole video from frame 0 on, and the sounds that belong to it."""

    name: str
    rate: Fraction  # frames per second
    video: Path  # absolute
    frames: int  # of the video
    size: tuple[int, int]  # width and height of the picture
    sounds: Sequence[TimelineSound]
    start: Timecode | None = None  # of the video's first picture

    def __post_init__(self) -> None:
        paths = [self.video, *(sound.path for sound in self.sounds)]
        check_names(paths)
        for path in paths:
            if not path.is_absolute():
                raise OptionError(f"a timeline needs absolute paths; got {path}")
        if self.frames < 1:
            raise OptionError(f"a timeline needs a video of 1 frame or more; got {self.frames}")

    @property
    def media_start(self) -> int:
        """Frame number of the first picture by the video's timecode; 0 without one."""
        return self.start.frame if self.start is not None else 0

    @property
    def start_code(self) -> Timecode:
        """Timecode at which the timeline begins: the video's own, or 00:00:00:00."""
        return self.start or Timecode(0, self.rate)

    @property
    def base(self) -> int:
        """The whole rate at which timecode counts."""
        return time_base(self.rate)

    @property
    def ntsc(self) -> bool:
        """Whether the rate is 1000/1001 of a whole one."""
        return self.rate == Fraction(self.base * 1000, 1001)


def check_names(paths: Sequence[Path]) -> None:
    """Raise OptionError for a name that no timeline file can hold."""
    for path in paths:
        if any(category(letter) in ("Cc", "Cs") for letter in str(path.absolute())):
            raise OptionError(f"the name {str(path)!r} has characters that no timeline file can hold; rename the file")


def sound_frames(first_sample: int, samples: int, sample_rate: int, rate: Fraction) -> tuple[int, int]:
    """(first frame, frames) of a sound on the timeline, rounded here and nowhere else."""
    first = round(Fraction(first_sample, sample_rate) * rate)
    return first, max(1, round(Fraction(samples, sample_rate) * rate))
