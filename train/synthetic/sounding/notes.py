"""The sound of instruments: phrases on a scale whose notes begin at the movements of the picture, with some between."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats
from train.synthetic.sounding.layer import Cue, Layer, Moment, decibels, draw_label, fade, stretch
from train.synthetic.sounding.pool import Recording
from train.synthetic.sounding.ways import add_calls

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))  # semitones
STEPS, CHANCES = (-4, -2, -1, 0, 1, 2, 4), (0.06, 0.16, 0.23, 0.1, 0.23, 0.16, 0.06)  # of a melody, on its scale
CLOSEST = 0.09  # seconds between two notes
BENT = 3.0  # most semitones by which a recording is moved
ALONE = 0.6  # chance of a phrase if nothing moves
RINGS = 2.0  # longest note in seconds


@dataclass(frozen=True)
class Style:
    """How one player plays in one clip."""

    scale: tuple[int, ...]  # MIDI numbers of its notes that can be played
    beat: float  # seconds
    fill: float  # chance of a note at a beat between two movements
    chords: bool
    legato: float  # length of a note against the time to the next one; 0: it rings


def draw_style(pitches: Sequence[float], rings: bool, rng: np.random.Generator) -> Style:
    """A scale within the range of the recordings, a tempo, and habits. `rings`: notes decay, so they may overlap."""
    root, scale = int(rng.integers(12)), SCALES[int(rng.integers(len(SCALES)))]
    low, high = min(pitches) - BENT, max(pitches) + BENT
    inside = [n for n in range(int(np.ceil(low)), int(high) + 1) if (n - root) % 12 in scale]
    near = [n for n in inside if min(abs(n - p) for p in pitches) <= BENT]
    return Style(
        tuple(near or [round(pitches[0])]),
        float(60 / np.exp(rng.uniform(np.log(60), np.log(200)))),
        float(rng.uniform(0.3, 0.9)) if rng.random() < 0.6 else 0.0,
        bool(rng.random() < 0.2),
        float(rng.uniform(0.6, 1.05)) if rng.random() < 0.4 or not rings else 0.0,
    )


def onsets(
    moments: Sequence[Moment], span: tuple[float, float], style: Style, rng: np.random.Generator
) -> list[Moment]:
    """Times and strengths of notes: at the majority of movements, and at beats that divide the time between two."""
    every = rng.uniform(0.75, 1)
    found: list[Moment] = []
    for time, strength in sorted(moments):
        if (not found or time - found[-1][0] >= CLOSEST) and rng.random() < every:
            found.append((time, strength))
    if not moments:
        return own_rhythm(span, style, rng) if rng.random() < ALONE else []
    between: list[Moment] = []
    for (a, first), (b, second) in pairwise(found):
        count = round((b - a) / style.beat)
        if count > 1 and b - a < 8 * style.beat:
            between += [
                (a + (b - a) * k / count, 0.7 * min(first, second) + 0.1)
                for k in range(1, count)
                if rng.random() < style.fill
            ]
    return sorted(found + between)


def own_rhythm(span: tuple[float, float], style: Style, rng: np.random.Generator) -> list[Moment]:
    """Notes of half a beat to two beats, with rests."""
    found, time = [], span[0] + float(rng.uniform(0, min(2.0, (span[1] - span[0]) / 2)))
    while time < span[1] - 0.1:
        if rng.random() > 0.12:
            found.append((time, float(rng.uniform(0.4, 0.9))))
        time += style.beat * float(rng.choice([0.5, 1, 1, 1, 2]))
    return found


def add_phrase(layer: Layer, cue: Cue, rng: np.random.Generator) -> None:
    """Notes of one instrument while it is seen. Recordings without a clear pitch are played as calls."""
    label = draw_label(cue.labels, rng)
    tuned = [(r.pitch, r) for r in cue.labels[label] if r.pitch is not None]
    if not tuned:
        add_calls(layer, cue, rng)
        return
    style = draw_style([pitch for pitch, _ in tuned], tuned[0][1].decays, rng)
    place = int(rng.integers(len(style.scale)))
    notes = onsets(cue.moments, cue.span, style, rng)
    ends = [*(time for time, _ in notes[1:]), cue.span[1]][: len(notes)]
    for (time, strength), following in zip(notes, ends, strict=True):
        place += int(rng.choice(STEPS, p=CHANCES))
        place = int(np.clip(place, 0, len(style.scale) - 1))
        seconds = min(RINGS, following - time if style.legato else RINGS)
        seconds = max(0.12, seconds * (style.legato or 1))
        for part in (0, 2, 4) if style.chords else (0,):
            if place + part < len(style.scale):
                samples, name = play(tuned, style.scale[place + part], seconds, rng)
                event = Event(time, "note", "", 0.0, strength, cue.voice, end=time + len(samples) / RATE)
                gain = rng.normal(0, 1) - 12 * (1 - strength) - (4 if style.chords else 0)
                layer.add(samples * decibels(gain), event, name)


def play(
    tuned: list[tuple[float, Recording]], note: int, seconds: float, rng: np.random.Generator
) -> tuple[Floats, str]:
    """A note (MIDI number) from one of the recordings whose pitch is nearest: its samples, and the recording's name."""
    nearest = min(abs(pitch - note) for pitch, _ in tuned)
    among = [(pitch, r) for pitch, r in tuned if abs(pitch - note) <= nearest + 0.5]
    pitch, recording = among[int(rng.integers(len(among)))]
    factor = float(2 ** (np.clip(note - pitch, -BENT - 1, BENT + 1) / 12))
    begin = max(0, recording.hits[0][0] - RATE // 500)
    cut = recording.cut((begin, begin + round((seconds + 0.02) * factor * RATE)))
    samples = stretch(cut, factor)[: round(seconds * RATE)]
    samples /= max(1e-9, float(np.abs(samples).max(initial=0)))
    return fade(samples, 0.001, min(0.08, seconds / 3)), recording.name
