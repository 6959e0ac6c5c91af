"""The sound of concepts that run: as long as they are seen, louder and sometimes faster when the picture moves."""

import numpy as np

from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats
from train.synthetic.sounding.layer import Cue, Layer, draw_label, fade
from train.synthetic.sounding.pool import Recording, seconds_of
from train.synthetic.sounding.scene import GRID

OVERLAP = 0.15  # seconds over which two stretches of a recording are crossfaded
LONG = 1.0  # shortest recording that can run, in seconds
WORKING = 0.3  # share of clips in which it runs only while the picture moves
ON, OFF, BRIEF = 0.25, 0.1, 0.4  # movement at which it starts and stops; seconds of the shortest run and pause


def running_sound(recording: Recording, speed: Floats, rng: np.random.Generator) -> Floats:
    """A recording that runs for len(speed) samples, with peak 1, at a speed of its own for every sample.

    Random stretches of it follow each other with crossfades of equal power, so nothing clicks or repeats audibly.
    """
    first, last = recording.running
    source = recording.cut((first, max(last, first + 2)))
    need = int(speed.sum()) + 4
    stream = stretches(source, need, rng)
    return np.interp(np.cumsum(speed) - speed[0], np.arange(len(stream)), stream).astype(np.float32)


def stretches(source: Floats, length: int, rng: np.random.Generator) -> Floats:
    """[length] of a recording: a part of it if it is long enough, or else random parts that overlap."""
    if len(source) >= length:
        start = int(rng.integers(len(source) - length + 1))
        return source[start : start + length]
    overlap = min(round(OVERLAP * RATE), len(source) // 4)
    rise = np.sin(np.linspace(0, np.pi / 2, overlap, dtype=np.float32))
    out = np.zeros(length + len(source), np.float32)
    at = 0
    while at < length:
        size = int(rng.uniform(0.6, 1) * len(source))
        start = int(rng.integers(len(source) - size + 1))
        part = source[start : start + size].copy()
        if at:
            part[:overlap] *= rise
        if overlap:
            part[-overlap:] *= rise[::-1]
        out[at : at + size] += part
        at += max(1, size - overlap)
    return out[:length]


def follow(curve: Floats, attack: float, release: float) -> Floats:
    """A smooth curve that rises within `attack` seconds and falls within `release` seconds."""
    up, down = (1 - np.exp(-1 / (GRID.fps * seconds)) for seconds in (attack, release))
    out, value = np.empty_like(curve), float(curve[0]) if len(curve) else 0.0
    for k, target in enumerate(curve.tolist()):
        value += (target - value) * (up if target > value else down)
        out[k] = value
    return out


def runs(curve: Floats) -> list[tuple[int, int]]:
    """[begin, end) of the runs in which a curve rises above ON, until it falls below OFF; brief pauses are bridged."""
    shortest, on = round(BRIEF * GRID.fps), -1
    found: list[tuple[int, int]] = []
    for k, value in enumerate([*curve.tolist(), 0.0]):
        if on < 0 and value > ON:
            on = k
        elif on >= 0 and value < OFF:
            if found and on - found[-1][1] < shortest:
                found[-1] = (found[-1][0], k)
            else:
                found.append((on, k))
            on = -1
    return [(a, b) for a, b in found if b - a >= shortest]


def add_running(layer: Layer, cue: Cue, rng: np.random.Generator) -> None:
    """A sound that runs while it is seen and follows the movement of the picture."""
    long = {name: [r for r in found if seconds_of([r]) >= LONG] for name, found in cue.labels.items()}
    choice = {name: found for name, found in long.items() if found} or cue.labels
    recordings = choice[draw_label(choice, rng)]
    recording = recordings[int(rng.integers(len(recordings)))]
    depth, faster = rng.uniform(3, 20), rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0
    pitch = float(np.exp(rng.normal(0, 0.06)))
    smooth = follow(cue.curve, rng.uniform(0.08, 0.3), rng.uniform(0.2, 0.6))
    if not cue.curve.any():
        smooth = follow(rng.random(len(smooth), dtype=np.float32), 1.5, 1.5)
    begin, end = (min(len(smooth), round(t * GRID.fps)) for t in cue.span)
    parts = [(begin, end)]
    if cue.curve.any() and rng.random() < WORKING:
        parts = [(max(a, begin), min(b, end)) for a, b in runs(cue.curve) if min(b, end) - max(a, begin) > 4]
    parts = [(a, b) for a, b in parts if b - a > 1]
    times = (rng.uniform(0.02, 0.3), rng.uniform(0.05, 0.5))  # seconds of fading in and out
    for first, last in parts:
        part = _run(recording, smooth[first:last], (depth, faster, pitch), rng)
        event = _event(smooth[first:last], first, depth, cue.voice)
        layer.add(fade(part, *times), event, recording.name)
    layer.level(rng.uniform(0.1, 0.22))


def _run(recording: Recording, curve: Floats, style: tuple[float, float, float], rng: np.random.Generator) -> Floats:
    """The sound of one run that follows a smooth movement [T]. `style`: range in dB, gain in speed, pitch."""
    depth, faster, pitch = style
    length = round(len(curve) / GRID.fps * RATE)
    inside = np.interp(np.linspace(0, len(curve) - 1, length), np.arange(len(curve)), curve).astype(np.float32)
    speed = np.float32(pitch) * (1 + np.float32(faster) * (inside - np.float32(0.5)))
    gain = np.exp(np.float32(-np.log(10) / 20 * depth) * (1 - inside))
    return np.asarray(running_sound(recording, speed, rng) * gain, np.float32)


def _event(curve: Floats, first: int, depth: float, voice: int) -> Event:
    """The event of a run; its envelope has 12.5 levels per second."""
    levels = tuple(np.round(10 ** (-depth / 20 * (1 - curve[::2])), 3).tolist())
    strength = round(float(curve.max()), 3)
    return Event(first / GRID.fps, "run", "", 0.0, strength, voice, (first + len(curve)) / GRID.fps, envelope=levels)
