"""`Layer`: the sound of one concept in a clip while it is made; and helpers for all ways to make it."""

from dataclasses import dataclass, field

import numpy as np

from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats, add_at
from train.synthetic.sounding.pool import Recording

Moment = tuple[float, float]  # seconds and strength (0 to 1) of something that moves in the picture
Labels = dict[str, list[Recording]]


@dataclass(frozen=True)
class Cue:
    """What the sound of one concept follows."""

    labels: Labels  # its recordings
    span: tuple[float, float]  # seconds in which it is seen
    moments: list[Moment]  # in this span
    contacts: list[Event]  # in this span, of the objects that are this concept
    curve: Floats  # movement [T], 0 to 1, at 25 values per second from the scene's start on
    voice: int  # number of its events


@dataclass
class Layer:
    """The sound [L] of one concept, its events, and the names of its recordings."""

    concept: str
    audio: Floats
    events: list[Event] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def add(self, part: Floats, event: Event, name: str) -> None:
        """Add the sound of an event, which begins at its time, and note the recording that it comes from."""
        add_at(self.audio, part, event.time)
        self.events.append(event)
        self.used.append(name)

    def level(self, rms: float) -> None:
        """Scale a sustained sound to an RMS level over the time that it lasts, but to a peak of 1 at most."""
        sounding = self.audio[self.audio != 0]
        if len(sounding):
            gain = rms / max(1e-9, float(np.sqrt(np.mean(sounding**2))))
            self.audio *= np.float32(min(gain, 1 / max(1e-9, float(np.abs(sounding).max()))))


def decibels(value: float) -> np.float32:
    """The factor of a gain in dB."""
    return np.float32(10 ** (value / 20))


def stretch(samples: Floats, factor: float) -> Floats:
    """Play at `factor` times the speed, which changes pitch and length, with Catmull-Rom interpolation."""
    position = np.arange(0, max(0, len(samples) - 1), factor)
    k = position.astype(np.int64)
    t = (position - k).astype(np.float32)
    padded = np.pad(samples, (1, 2))
    a, b, c, d = (padded[k + n] for n in range(4))
    return (b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))).astype(np.float32)


def fade(samples: Floats, begin: float, end: float) -> Floats:
    """Fade in over `begin` seconds and out over `end` seconds, in place; both at most half of the length."""
    rise, fall = (min(len(samples) // 2, round(seconds * RATE)) for seconds in (begin, end))
    samples[:rise] *= np.sin(np.linspace(0, np.pi / 2, rise, dtype=np.float32)) ** 2
    samples[len(samples) - fall :] *= np.cos(np.linspace(0, np.pi / 2, fall, dtype=np.float32)) ** 2
    return samples


def some_of(recordings: list[Recording], most: int, rng: np.random.Generator) -> list[Recording]:
    """One to `most` of the recordings: those of one object or animal."""
    count = min(len(recordings), int(rng.integers(1, most + 1)))
    return [recordings[k] for k in rng.choice(len(recordings), count, replace=False)]


def draw_label(labels: Labels, rng: np.random.Generator) -> str:
    """One of the labels; a label with more recordings is drawn more often."""
    names = list(labels)
    weights = np.sqrt([len(labels[name]) for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]
