"""Draws what a clip shows: which concepts, in which spans of time, and which variants show no concept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.synthetic.concepts.table import Concept

TODAY = 3  # one variant in three shows no concept
WEIGHTS = {"hit": 0.25, "burst": 0.3, "steady": 0.25, "notes": 0.2}  # how often a concept of each sounding is drawn
# what a clip shows: one concept, two at once, one for a part of the time, one after the other
ONE, BOTH, PART, CHANGE = 0.6, 0.15, 0.15, 0.1
SHORTEST = 1.5  # seconds of a span


@dataclass(frozen=True)
class Seen:
    """The concepts seen from `begin` to `end` (seconds), with weights that sum to 1; empty: no concept is seen."""

    begin: float
    end: float
    shown: Mapping[str, float]


def as_today(index: int, variant: int) -> bool:
    """Whether a variant of the scene with this number shows no concept: it has impacts of materials, or silence.

    For any number of variants per scene, at least a third of all variants of the first N scenes do.
    """
    return (variant - index) % TODAY == 0


def draw_concept(concepts: Sequence[Concept], rng: np.random.Generator) -> Concept:
    """Draw a sounding by WEIGHTS, then one of the concepts that have it."""
    soundings = [name for name in WEIGHTS if any(c.sounding == name for c in concepts)]
    weights = np.array([WEIGHTS[name] for name in soundings])
    sounding = soundings[int(rng.choice(len(soundings), p=weights / weights.sum()))]
    among = [c for c in concepts if c.sounding == sounding]
    return among[int(rng.integers(len(among)))]


def draw_seen(concepts: Sequence[Concept], seconds: float, rng: np.random.Generator) -> list[Seen]:
    """What a clip shows, as consecutive spans from 0 to `seconds`."""
    first = draw_concept(concepts, rng).name
    others = [c for c in concepts if c.name != first]
    way = rng.random()
    if way >= ONE and way < ONE + BOTH and others:
        weight = round(float(rng.uniform(0.3, 0.7)), 3)
        return [Seen(0, seconds, {first: weight, draw_concept(others, rng).name: round(1 - weight, 3)})]
    if way < ONE + BOTH or seconds < 2 * SHORTEST:
        return [Seen(0, seconds, {first: 1.0})]
    cut = round(float(rng.uniform(SHORTEST, seconds - SHORTEST)), 3)
    then: dict[str, float] = {}
    if way >= ONE + BOTH + PART and others:
        then = {draw_concept(others, rng).name: 1.0}
    order = [{first: 1.0}, then] if rng.random() < 0.5 else [then, {first: 1.0}]
    return [Seen(0, cut, order[0]), Seen(cut, seconds, order[1])]
