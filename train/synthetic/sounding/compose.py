"""Makes one clip: a scene's picture with new sound: by concepts, or by materials as scenes have it without concepts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import OptionError
from train.synthetic.build import Clip, ClipSpec
from train.synthetic.concepts.table import Concept, pool_labels, read_table
from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats
from train.synthetic.scenes.sound import Foley
from train.synthetic.sounding.layer import Cue, Layer, Moment, decibels
from train.synthetic.sounding.notes import add_phrase
from train.synthetic.sounding.plan import Seen, as_today, draw_seen
from train.synthetic.sounding.pool import ClassRecordings
from train.synthetic.sounding.scene import Movement, Scene, movement_of
from train.synthetic.sounding.steady import add_running
from train.synthetic.sounding.ways import add_calls, add_hits
from train.synthetic.splits import SPLITS

QUIET = 0.06  # share of the concepts that are seen but not heard
TOUCHED = 0.25  # share of clips with concepts that are not hit, in which contacts are heard faintly
WAYS = {"hit": add_hits, "burst": add_calls, "steady": add_running, "notes": add_phrase}  # how a sounding is made
VOICES = 1 << 20  # numbers of the concepts' voices, above those of a scene's objects


@dataclass(frozen=True)
class SoundingSpec(ClipSpec):
    """Which clips to make. Clip n is variant n % per_scene of scene n // per_scene."""

    scenes: tuple[Scene, ...] = ()
    per_scene: int = 3
    class_sounds: tuple[Path, ...] = ()
    impacts: Path | None = None
    table: Path | None = None  # concept table; None: the project's own

    def place(self, index: int) -> tuple[Scene, int]:
        """The scene and the variant of a clip."""
        return self.scenes[index // self.per_scene], index % self.per_scene

    def clip_id(self, index: int) -> str:
        scene, variant = self.place(index)
        return f"{scene.id}-s{self.seed:04d}-{variant:02d}"

    def renderer(self) -> "SoundingRenderer":
        return SoundingRenderer(self)


class SoundingRenderer:
    """Makes the clips of a spec."""

    def __init__(self, spec: SoundingSpec) -> None:
        """Raises OptionError for an unusable concept table, PoolError for an unusable pool."""
        self.spec = spec
        table = read_table(spec.table, pool_labels([spec.sounds, *spec.class_sounds]))
        labels = [label for concept in table for label in concept.labels]
        self.pool = ClassRecordings.load([spec.sounds], spec.class_sounds, spec.split, labels)
        self.foley = Foley.load(spec.sounds, spec.impacts, spec.split)
        self.concepts = [concept for concept in table if self.pool.of(concept)]
        self.named = {concept.name: concept for concept in self.concepts}
        if not self.concepts:
            raise OptionError(f"no concept has recordings of the split {spec.split}; add a folder: --class-sounds DIR")
        self.skipped = [*self.foley.skipped, *(line for line in self.pool.skipped if line not in self.foley.skipped)]

    def render(self, index: int) -> Clip:
        spec = self.spec
        scene, variant = spec.place(index)
        rng = np.random.default_rng([spec.seed, scene.seed, scene.index, SPLITS.index(spec.split), variant])
        seen: list[Seen] = []
        if as_today(scene.index, variant):
            audio, used = self.foley.mix(list(scene.events), rng, scene.seconds)
            events = [asdict(event) | {"concept": ""} for event in scene.events]
        else:
            seen = draw_seen(self.concepts, scene.seconds, rng)
            audio, used, events = self.sound(scene, seen, rng)
        kept = {key: scene.metadata[key] for key in ("film", "camera") if key in scene.metadata}
        metadata = {
            "id": spec.clip_id(index), "split": spec.split, "seed": spec.seed, "index": scene.index,
            "variant": variant, "picture": scene.id, "scenes": scene.metadata.get("scenes", []),
            "silent": not audio.any(), "concepts": [[s.begin, s.end, dict(s.shown)] for s in seen],
            "sounds": sorted(set(used)), "credits": self.pool.credit(used),
            **kept,
            "events": events,
        }  # fmt: skip
        return Clip(metadata, audio, lambda part: link(scene.video, part))

    # ------------------------------------------------------------ sound of concepts
    def sound(
        self, scene: Scene, seen: Sequence[Seen], rng: np.random.Generator
    ) -> tuple[Floats, list[str], list[dict[str, Any]]]:
        """The sound [L] of a scene that shows concepts, its recordings, and its events in the order of time."""
        movement = movement_of(scene.video)
        total = np.zeros(round(scene.seconds * RATE), np.float32)
        used: list[str] = []
        events: list[dict[str, Any]] = []
        for number, span in enumerate(seen):
            layers = self._layers(scene, movement, span, VOICES * (number + 1), rng)
            for layer, gain in layers:
                total += layer.audio * decibels(gain)
                used += layer.used
                events += [asdict(event) | {"concept": layer.concept} for event in layer.events]
        total, used = self.foley.finish(total, used, rng)
        return total, used, sorted(events, key=lambda event: event["time"])

    def _layers(
        self, scene: Scene, movement: Movement, span: Seen, voice: int, rng: np.random.Generator
    ) -> list[tuple[Layer, float]]:
        """The layers of what is seen in one span, each with its gain in dB."""
        inside = [event for event in scene.events if span.begin <= event.time < span.end]
        if not span.shown:
            return [(self._today(scene, inside, rng), 0.0)]
        shown = [(self.named[name], weight) for name, weight in span.shown.items()]
        owners = share_out(inside, [(c, w) for c, w in shown if c.sounding == "hit"], rng)
        layers = []
        for number, (concept, weight) in enumerate(shown):
            layer = Layer(concept.name, np.zeros(round(scene.seconds * RATE), np.float32))
            if rng.random() >= QUIET:
                moments = moments_of(inside, movement, span)
                contacts = owners.get(concept.name, [])
                times = (span.begin, span.end)
                cue = Cue(self.pool.of(concept), times, moments, contacts, movement.curve, voice + number)
                WAYS[concept.sounding](layer, cue, rng)
            layers.append((layer, float(rng.normal(0, 3) + 10 * np.log10(weight)) if len(shown) > 1 else 0.0))
        if not any(c.sounding == "hit" for c, _ in shown) and rng.random() < TOUCHED:
            layers.append((self._today(scene, inside, rng), float(rng.uniform(-24, -9))))
        return layers

    def _today(self, scene: Scene, events: list[Event], rng: np.random.Generator) -> Layer:
        """The sound of contacts by their materials."""
        audio, used = self.foley.contacts(events, rng, scene.seconds)
        return Layer("", audio, list(events), used)


def share_out(
    events: Sequence[Event], shown: Sequence[tuple[Concept, float]], rng: np.random.Generator
) -> Mapping[str, list[Event]]:
    """Divide the events among concepts that are hit: all those of an object go to one, drawn by the weights."""
    found: dict[str, list[Event]] = {concept.name: [] for concept, _ in shown}
    if shown:
        weights = np.array([weight for _, weight in shown])
        names, clip = list(found), int(rng.integers(1 << 30))
        for event in events:
            own = np.random.default_rng([event.voice, clip])
            found[names[int(own.choice(len(names), p=weights / weights.sum()))]].append(event)
    return found


def moments_of(events: Sequence[Event], movement: Movement, span: Seen) -> list[Moment]:
    """When something happens in a span: contacts and beginnings of what slides, or else the peaks of movement."""
    found = [(event.time, event.strength) for event in events]
    return found or [(t, s) for t, s in movement.peaks if span.begin <= t < span.end]


def link(video: Path, part: Path) -> None:
    """Give a scene's video another name, without a copy of its content."""
    try:
        os.link(video, part)
    except OSError as error:
        raise OSError(
            error.errno, f"the picture cannot be shared ({error}); the output must be on the same disk as the scenes"
        ) from error
