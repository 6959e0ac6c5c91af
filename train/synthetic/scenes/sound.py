"""What is heard in a simulated scene: recordings, modal synthesis, or both, placed at the times of contact.

Whatever belongs to one object (which recordings, which modes, which of the two ways) is drawn from its voice; what
differs from hit to hit comes from the clip's generator. Materials are listed in MATERIALS.
"""

from dataclasses import dataclass
from math import pi
from pathlib import Path

import numpy as np

from train.synthetic.events import Event
from train.synthetic.modal_synthesis import Bodies, Modes, click, ring, touch
from train.synthetic.recordings import (
    RATE,
    Floats,
    Sounds,
    background,
    colour_of,
    coloured,
    place,
    reshape,
    reverb,
    tuned,
)
from train.synthetic.splits import GROUPS

SCENE_GROUPS = {
    **GROUPS,
    "door": ("door_close", "door_open", "close_door_", "open_door_", "vehicle_close", "vehicle_open"),
    "dice": ("dice_", "die_"),
    "coins": ("handle_coins", "chips_handle"),
    "cloth": ("cloth", "handle_small_leather", "belt_handle"),
}
# Materials without recordings of their own -> the group that stands in.
STAND_INS = {"cardboard": "card", "paper": "card", "leather": "soft", "rubber": "soft", "drawer": "wood"}
STAND_INS["water"] = "soft"
MATERIALS = (*(g for g in SCENE_GROUPS if g != "ambience"), *STAND_INS)
# Materials whose modes are listed under another name.
TABLES = {"bell": "metal", "coins": "metal", "chip": "plastic", "dice": "plastic", "drawer": "wood", "cloth": "soft"}
SURFACES = {"boards": "wood", "floor": "stone", "grating": "metal", "carpet": "soft", "grass": "soft", "snow": "soft"}
SURFACE_SIZE, SURFACE_SECONDS = 0.4, 0.3  # metres, seconds: how what is struck answers
SPLASHES = {"rain": 900.0, "pour": 4000.0}  # drops per second


@dataclass
class Foley:
    """The sounds of one split, and the modes of bodies where tables are given."""

    sounds: Sounds
    bodies: Bodies

    @classmethod
    def load(cls, sounds: Path, impacts: Path | None, split: str) -> "Foley":
        """Recordings (sounds.csv and its files) and tables of modes (None: recordings only); PoolError if unusable."""
        bodies = Bodies.load(impacts) if impacts else Bodies()
        return cls(Sounds.load(sounds, split, SCENE_GROUPS), bodies)

    @property
    def skipped(self) -> list[str]:
        """file: why, of everything that could not be used"""
        return self.sounds.skipped + self.bodies.skipped

    def mix(self, events: list[Event], rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
        """The clip's sound [L] at 44.1 kHz in [-1, 1], and the recordings in the events' order, then the background's.

        An event made by modal synthesis alone names no recording. A clip in which nothing sounds is digital silence.
        """
        audio, used = np.zeros(round(seconds * RATE), np.float32), []
        surface = int(rng.integers(1 << 30))  # the voice of whatever is struck in this clip
        for event in events:
            if event.material not in MATERIALS or event.other not in ("", *MATERIALS):
                raise ValueError(f"no material {event.material} or {event.other}; there are {', '.join(MATERIALS)}")
            part, names = self._sustained(event, rng) if event.end else self._impact(event, surface, rng)
            used += names
            place(audio, part, event.time)
        reverb(audio, rng)
        peak = float(np.abs(audio).max(initial=0))
        if not peak:
            return audio, used
        target = 10 ** (rng.uniform(-20, -0.5) / 20)
        audio *= np.float32(target / peak)
        used += background(audio, self.sounds, rng)
        return audio * np.float32(target / max(target, float(np.abs(audio).max()))), used

    def _table(self, material: str) -> str | None:
        """The tables of an object's material; None if there are none or its recordings do better."""
        name = TABLES.get(material, material)
        return name if name in self.bodies.tables else None

    def _record(self, material: str, voice: int, rng: np.random.Generator) -> tuple[str, Floats]:
        return self.sounds.pick(STAND_INS.get(material, material), voice, rng)

    def _impact(self, event: Event, surface: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """One contact [L] and the recordings in it: modes 35 %, a recording 45 %, both 20 % of the objects."""
        own, table = np.random.default_rng([event.voice, 1]), self._table(event.material)
        way, names, parts = own.random() if table else 0.5, [], []
        if table and (way < 0.35 or way >= 0.8):
            parts.append(self._modes(event, table, rng))
        if way >= 0.35:
            name, samples = self._record(event.material, event.voice, rng)
            names.append(name)
            parts.append(reshape(samples, tuned(event.size, rng), 2500 + 17000 * event.strength))
        if table and event.other:
            part, more = self._surface(event, surface, rng)
            parts.append(part)
            names += more
        out = np.zeros(max(map(len, parts)), np.float32)
        for part in parts:
            out[: len(part)] += part
        decibels = 30 * (event.strength - 1) + own.normal(0, 2) + rng.normal(0, 0.5)
        return out * np.float32(10 ** (decibels / 20)), names

    def _modes(self, event: Event, table: str, rng: np.random.Generator) -> Floats:
        """The struck object's modes and the contact's noise, at a peak of about 1."""
        body = self.bodies.body(table, event.size, event.voice)
        push = touch([table, SURFACES.get(event.other, event.other)], event.size, event.strength)
        out, noise = ring(body, push), click(push, rng)
        out /= max(1e-9, float(np.abs(out).max()))
        share = np.random.default_rng([event.voice, 2]).uniform(0.15, 0.5)
        length = min(len(out), len(noise))
        out[:length] += noise[:length] * np.float32(share)
        return out

    def _surface(self, event: Event, voice: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The short answer [L] of what was struck, 9 dB below the object."""
        table = SURFACES.get(event.other, self._table(event.other) or "")
        names = []
        if table in self.bodies.tables:
            push = touch([table, TABLES.get(event.material, event.material)], event.size, event.strength)
            out = ring(self.bodies.body(table, SURFACE_SIZE, voice), push)
        else:
            name, samples = self._record(event.other, voice, rng)
            names.append(name)
            out = reshape(samples[:RATE], 0.85, 1500 + 9000 * event.strength)
        out = out[: round(SURFACE_SECONDS * RATE)]
        out *= np.linspace(1, 0, len(out), dtype=np.float32)
        return out * np.float32(0.35 / max(1e-9, float(np.abs(out).max()))), names

    def _colour(self, event: Event, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The spectrum [2049] of a sustained sound, and the recording that it was taken from."""
        own = np.random.default_rng([event.voice, 3])
        if event.material == "water":
            bubbles = np.exp(own.uniform(np.log(400), np.log(8000), 16))
            return Modes(bubbles, own.uniform(0.2, 1, 16), np.full(16, 0.004)).resonances(), []
        table = SURFACES.get(event.material, self._table(event.material) or "")
        if table in self.bodies.tables and own.random() < 0.5:
            return self.bodies.body(table, event.size, event.voice).resonances(), []
        name, samples = self._record(event.material, event.voice, rng)
        return colour_of(samples), [name]

    def _sustained(self, event: Event, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """Noise [L] as loud and as bright as the envelope says; where that is 0, nothing."""
        length = max(1, round(event.end * RATE) - round(event.time * RATE))
        colour, names = self._colour(event, rng)
        noise = excitation(event, length, rng)
        dull = colour / (1 + (np.linspace(0, RATE / 2, len(colour)) / 700) ** 2)
        level = levels(event, length)
        out = level * (even(coloured(noise, colour)) * level + even(coloured(noise, dull)) * (1 - level))
        return (out * np.float32(0.5 * 10 ** (1.5 * (event.strength - 1)))).astype(np.float32), names


def even(noise: Floats) -> Floats:
    """Noise at a level that does not depend on its few highest peaks, which are bent to stay below 1."""
    return np.tanh(noise / max(1e-9, 3 * float(np.sqrt(np.mean(noise**2)))))


def levels(event: Event, length: int) -> Floats:
    """The envelope of a sustained sound [length]; without one, half a sine."""
    if not event.envelope:
        return np.sin(pi * np.arange(length) / length).astype(np.float32)
    steps = np.linspace(0, len(event.envelope) - 1, length)
    return np.interp(steps, np.arange(len(event.envelope)), event.envelope).astype(np.float32)


def excitation(event: Event, length: int, rng: np.random.Generator) -> Floats:
    """What makes a sustained sound [length], before its colour: drops, a roll's bumps, or a scrape's grain."""
    noise = rng.standard_normal(length, dtype=np.float32)
    if event.kind in SPLASHES:
        drops = rng.random(length, dtype=np.float32) < SPLASHES[event.kind] / RATE
        return noise * (np.float32(0.02) + drops)
    per_second = 2.5 / max(event.size, 0.02) if event.kind == "roll" else 60.0
    spread = 0.7 if event.kind == "roll" else 0.25
    bumps = np.exp(rng.normal(0, spread, max(2, round(per_second * length / RATE) + 2)))
    return noise * np.interp(np.linspace(0, len(bumps) - 1, length), np.arange(len(bumps)), bumps).astype(np.float32)
