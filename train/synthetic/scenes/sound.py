"""Makes the sound of a simulated scene: recordings, modal synthesis, or both, at the time of each event.

What belongs to one object (its recordings, its modes, and which of the two it uses) is drawn from its number, `voice`.
What differs from hit to hit is drawn from the clip's generator. MATERIALS lists the known materials.
"""

from dataclasses import dataclass
from math import pi
from pathlib import Path

import numpy as np

from train.synthetic.events import Event
from train.synthetic.modal_synthesis import Modes, ModeTables, contact_duration, contact_noise, impact_sound
from train.synthetic.recordings import (
    RATE,
    Floats,
    Recordings,
    add_at,
    add_background,
    add_reverb,
    pitch_for_size,
    repitch,
    shape_noise,
    spectrum_of,
)
from train.synthetic.splits import GROUPS

SCENE_GROUPS = {
    **GROUPS,
    "door": ("door_close", "door_open", "close_door_", "open_door_", "vehicle_close", "vehicle_open"),
    "dice": ("dice_", "die_"),
    "coins": ("handle_coins", "chips_handle"),
    "cloth": ("cloth", "handle_small_leather", "belt_handle"),
}
# Material without recordings of its own -> the group that stands in for it.
STAND_INS = {"cardboard": "card", "paper": "card", "leather": "soft", "rubber": "soft", "drawer": "wood"}
STAND_INS["water"] = "soft"
MATERIALS = (*(g for g in SCENE_GROUPS if g != "ambience"), *STAND_INS)
# Material -> the name under which its modes are listed.
TABLES = {"bell": "metal", "coins": "metal", "chip": "plastic", "dice": "plastic", "drawer": "wood", "cloth": "soft"}
SURFACES = {"boards": "wood", "floor": "stone", "grating": "metal", "carpet": "soft", "grass": "soft", "snow": "soft"}
SURFACE_SIZE, SURFACE_SECONDS = 0.4, 0.3  # size in metres and ringing time of the surface that is struck
SPLASHES = {"rain": 900.0, "pour": 4000.0}  # drops per second


@dataclass
class Foley:
    """The recordings of one split, and the mode tables if there are any."""

    sounds: Recordings
    bodies: ModeTables

    @classmethod
    def load(cls, sounds: Path, impacts: Path | None, split: str) -> "Foley":
        """Load the recordings of a split from `sounds` and the mode tables from `impacts` (None: recordings only).

        Raises PoolError if a folder is unusable.
        """
        bodies = ModeTables.load(impacts) if impacts else ModeTables()
        return cls(Recordings.load(sounds, split, SCENE_GROUPS), bodies)

    @property
    def skipped(self) -> list[str]:
        """ "file: reason" for each file that could not be used."""
        return self.sounds.skipped + self.bodies.skipped

    def mix(self, events: list[Event], rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
        """Make a clip's sound [L] at 44.1 kHz in [-1, 1]; a clip in which nothing sounds is digital silence.

        Also returns the file names of the recordings, in the order of the events, then the background's. An event made
        by modal synthesis alone adds no name. Raises ValueError for an unknown material.
        """
        audio, used = self.contacts(events, rng, seconds)
        return self.finish(audio, used, rng)

    def contacts(self, events: list[Event], rng: np.random.Generator, seconds: float) -> tuple[Floats, list[str]]:
        """As `mix`, but without room, level and background."""
        audio, used = np.zeros(round(seconds * RATE), np.float32), []
        surface = int(rng.integers(1 << 30))  # the voice of the surfaces that are struck in this clip
        for event in events:
            if event.material not in MATERIALS or event.other not in ("", *MATERIALS):
                raise ValueError(
                    f"unknown material {event.material} or {event.other}; the known ones are {', '.join(MATERIALS)}"
                )
            part, names = self._sustained(event, rng) if event.end else self._impact(event, surface, rng)
            used += names
            add_at(audio, part, event.time)
        return audio, used

    def finish(self, audio: Floats, used: list[str], rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """Give a clip's sound [L] a room, a level and a background; digital silence stays. Changes `audio`.

        Returns the sound and `used` with the background's recording.
        """
        add_reverb(audio, rng)
        peak = float(np.abs(audio).max(initial=0))
        if not peak:
            return audio, used
        target = 10 ** (rng.uniform(-20, -0.5) / 20)
        audio *= np.float32(target / peak)
        used = used + add_background(audio, self.sounds, rng)
        return audio * np.float32(target / max(target, float(np.abs(audio).max()))), used

    def _table(self, material: str) -> str | None:
        """The name of a material's mode tables, or None if it has none."""
        name = TABLES.get(material, material)
        return name if name in self.bodies.tables else None

    def _record(self, material: str, voice: int, rng: np.random.Generator) -> tuple[str, Floats]:
        return self.sounds.pick(STAND_INS.get(material, material), voice, rng)

    def _impact(self, event: Event, surface: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The sound [L] of one contact, and the names of its recordings.

        35 % of the objects sound by their modes, 45 % by a recording, 20 % by both.
        """
        own, table = np.random.default_rng([event.voice, 1]), self._table(event.material)
        way, names, parts = own.random() if table else 0.5, [], []
        if table and (way < 0.35 or way >= 0.8):
            parts.append(self._modes(event, table, rng))
        if way >= 0.35:
            name, samples = self._record(event.material, event.voice, rng)
            names.append(name)
            parts.append(repitch(samples, pitch_for_size(event.size, rng), 2500 + 17000 * event.strength))
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
        """The object's ringing modes with the noise of the contact, with a peak of about 1."""
        body = self.bodies.body(table, event.size, event.voice)
        push = contact_duration([table, SURFACES.get(event.other, event.other)], event.size, event.strength)
        out, noise = impact_sound(body, push), contact_noise(push, rng)
        out /= max(1e-9, float(np.abs(out).max()))
        share = np.random.default_rng([event.voice, 2]).uniform(0.15, 0.5)
        length = min(len(out), len(noise))
        out[:length] += noise[:length] * np.float32(share)
        return out

    def _surface(self, event: Event, voice: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The short sound [L] of the surface that was struck, 9 dB below the object, and its recordings' names."""
        table = SURFACES.get(event.other, self._table(event.other) or "")
        names = []
        if table in self.bodies.tables:
            push = contact_duration([table, TABLES.get(event.material, event.material)], event.size, event.strength)
            out = impact_sound(self.bodies.body(table, SURFACE_SIZE, voice), push)
        else:
            name, samples = self._record(event.other, voice, rng)
            names.append(name)
            out = repitch(samples[:RATE], 0.85, 1500 + 9000 * event.strength)
        out = out[: round(SURFACE_SECONDS * RATE)]
        out *= np.linspace(1, 0, len(out), dtype=np.float32)
        return out * np.float32(0.35 / max(1e-9, float(np.abs(out).max()))), names

    def _colour(self, event: Event, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The spectrum [2049] of a sustained sound, and the name of the recording it comes from, if any."""
        own = np.random.default_rng([event.voice, 3])
        if event.material == "water":
            bubbles = np.exp(own.uniform(np.log(400), np.log(8000), 16))
            return Modes(bubbles, own.uniform(0.2, 1, 16), np.full(16, 0.004)).resonances(), []
        table = SURFACES.get(event.material, self._table(event.material) or "")
        if table in self.bodies.tables and own.random() < 0.5:
            return self.bodies.body(table, event.size, event.voice).resonances(), []
        name, samples = self._record(event.material, event.voice, rng)
        return spectrum_of(samples), [name]

    def _sustained(self, event: Event, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        """The sound [L] of a sustained event, and its recordings' names. The envelope sets loudness and brightness."""
        length = max(1, round(event.end * RATE) - round(event.time * RATE))
        colour, names = self._colour(event, rng)
        noise = excitation(event, length, rng)
        dull = colour / (1 + (np.linspace(0, RATE / 2, len(colour)) / 700) ** 2)
        level = levels(event, length)
        out = level * (even(shape_noise(noise, colour)) * level + even(shape_noise(noise, dull)) * (1 - level))
        return (out * np.float32(0.5 * 10 ** (1.5 * (event.strength - 1)))).astype(np.float32), names


def even(noise: Floats) -> Floats:
    """Scale noise by its RMS level, and compress the few highest peaks to below 1."""
    return np.tanh(noise / max(1e-9, 3 * float(np.sqrt(np.mean(noise**2)))))


def levels(event: Event, length: int) -> Floats:
    """The envelope [length] of a sustained sound: the event's own, or a half sine if it has none."""
    if not event.envelope:
        return np.sin(pi * np.arange(length) / length).astype(np.float32)
    steps = np.linspace(0, len(event.envelope) - 1, length)
    return np.interp(steps, np.arange(len(event.envelope)), event.envelope).astype(np.float32)


def excitation(event: Event, length: int, rng: np.random.Generator) -> Floats:
    """The noise [length] that excites a sustained sound: drops, the bumps of rolling, or the grain of scraping."""
    noise = rng.standard_normal(length, dtype=np.float32)
    if event.kind in SPLASHES:
        drops = rng.random(length, dtype=np.float32) < SPLASHES[event.kind] / RATE
        return noise * (np.float32(0.02) + drops)
    per_second = 2.5 / max(event.size, 0.02) if event.kind == "roll" else 60.0
    spread = 0.7 if event.kind == "roll" else 0.25
    bumps = np.exp(rng.normal(0, spread, max(2, round(per_second * length / RATE) + 2)))
    return noise * np.interp(np.linspace(0, len(bumps) - 1, length), np.arange(len(bumps)), bumps).astype(np.float32)
