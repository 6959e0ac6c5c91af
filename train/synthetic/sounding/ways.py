"""The sounds of concepts that are hit (one sound per contact) and of concepts that call (bursts near movements)."""

from collections.abc import Iterator, Sequence

import numpy as np

from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats, repitch
from train.synthetic.scenes.sound import levels
from train.synthetic.sounding.layer import Cue, Layer, Moment, decibels, draw_label, fade, some_of, stretch
from train.synthetic.sounding.pool import Recording
from train.synthetic.sounding.steady import running_sound

GROUP, FEWEST = 5, 0.7  # most calls of a group; chance of one group if none was drawn


def add_hits(layer: Layer, cue: Cue, rng: np.random.Generator) -> None:
    """One hit of a recording at each contact. What slides or rolls sounds like a recording that runs.

    All hits of an object share one to three recordings and their pitch; both are drawn again for each clip.
    """
    clip, slope = int(rng.integers(1 << 30)), rng.uniform(8, 28)  # dB between the weakest and the strongest contact
    for event in cue.contacts:
        own = np.random.default_rng([event.voice, clip])
        recordings = some_of(cue.labels[draw_label(cue.labels, own)], 3, own)
        recording = recordings[int(rng.integers(len(recordings)))]
        pitch, gain = own.normal(0, 0.06) + rng.normal(0, 0.02), own.normal(0, 2) + rng.normal(0, 0.5)
        if event.end:
            length = max(1, round(event.end * RATE) - round(event.time * RATE))
            part = running_sound(recording, np.full(length, np.exp(pitch), np.float32), rng) * levels(event, length)
            part *= np.float32(0.5)
        else:
            cut = recording.hits[int(rng.integers(len(recording.hits)))]
            samples = recording.cut(cut)
            samples /= max(1e-9, float(np.abs(samples).max()))
            part = repitch(samples, float(np.exp(pitch)), 4000 + 16000 * event.strength)
        layer.add(part * decibels(gain - slope * (1 - event.strength)), event, recording.name)


def add_calls(layer: Layer, cue: Cue, rng: np.random.Generator) -> None:
    """Groups of calls of one animal or person at or soon after movements, with pauses; some come between."""
    span = cue.span
    recordings = some_of(cue.labels[draw_label(cue.labels, rng)], 3, rng)
    pause, pitch = rng.uniform(0.2, 2.5), rng.normal(0, 0.07)
    more, free = rng.uniform(0.25, 0.7), span[0]
    times = list(_call_times(cue.moments, span, rng))
    if not times and rng.random() < FEWEST:
        times = [(float(rng.uniform(*span)), 0.6)]
    for time, strength in times:
        if time < free:
            continue
        for part, name in _group(recordings, 1 + int(min(rng.geometric(1 - more), GROUP) - 1), pitch, rng):
            if time >= span[1]:
                break
            event = Event(time, "call", "", 0.0, strength, cue.voice, end=time + len(part) / RATE)
            layer.add(part * decibels(rng.normal(0, 1.5) - 10 * (1 - strength)), event, name)
            time += len(part) / RATE + rng.uniform(0.03, 0.4)
        free = time + pause


def _call_times(moments: Sequence[Moment], span: tuple[float, float], rng: np.random.Generator) -> Iterator[Moment]:
    """Times in order: of some of the movements, a little later for some, and of calls between them."""
    every, late, rate = rng.uniform(0.35, 1), rng.uniform(0, 0.12), 10 ** rng.uniform(-1.6, -0.4)
    found = [(t + rng.uniform(0, late), s) for t, s in moments if rng.random() < every]
    between = rng.uniform(*span, rng.poisson(rate * (span[1] - span[0])))
    found += [(float(t), float(rng.uniform(0.3, 0.9))) for t in between]
    yield from sorted((t, s) for t, s in found if t < span[1])


def _group(
    recordings: list[Recording], count: int, pitch: float, rng: np.random.Generator
) -> Iterator[tuple[Floats, str]]:
    """(samples, recording) of `count` calls that follow each other in a recording."""
    recording = recordings[int(rng.integers(len(recordings)))]
    first = int(rng.integers(len(recording.calls)))
    for n in range(count):
        begin, end = recording.calls[(first + n) % len(recording.calls)]
        if end - begin > RATE:  # too long for one call: a part of it
            end = begin + int(rng.uniform(0.5, 1) * (end - begin))
        part = stretch(recording.cut((begin, end)), float(np.exp(pitch + rng.normal(0, 0.02))))
        yield fade(part, 0.002, 0.06), recording.name
