"""A judge of concepts: a small classifier that guesses the concept of a sound.

It is trained on the recordings of the train split, which simulated test videos do not use. Its score on the true tracks
says how far it can be trusted. It has nothing to do with the embedding of semantic lift.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.small_classifier import fit
from benchmarks.common.true_track import SILENT_TRACK, peak_rms
from benchmarks.meaning.shown import Shown
from train.metrics.inputs import Sound
from train.metrics.onsets import HOP, RATE, WINDOW
from train.models.mel import ONSETS, mel_filters
from train.synthetic.concepts.table import Concept
from train.tasks.codec_data import Pool, PoolError, read_pools, reverberate

Floats = NDArray[np.float32]
LENGTH, EVERY = RATE, RATE // 2  # samples of a window, and from one window to the next
QUIET = 30.0  # dB below the loudest window of a span; quieter windows are not judged
FLOOR = 1e-5  # -50 dB below the loudest band
COPIES, PARTS = 3, 4  # variants of a recording; most windows of each variant
HIDDEN, STEPS = 256, 3000
SHORTEST = 1.0  # seconds of a span that is judged


def features(window: Floats) -> Floats:
    """Features [4 * 40] of a window [L] at 16 kHz: mean, spread, maximum and change of each band's log level."""
    padded = np.pad(np.asarray(window, np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1))) @ mel_filters(ONSETS)
    level = np.log10(np.maximum(power / (power.max() + 1e-20), FLOOR))
    parts = (level.mean(0), level.std(0), level.max(0), np.abs(np.diff(level, axis=0)).mean(0))
    return np.concatenate(parts).astype(np.float32)


def loud_windows(sound: Floats) -> list[Floats]:
    """Windows of a sound at 16 kHz that are not quiet against its loudest; a short sound is padded with silence."""
    padded = np.pad(np.asarray(sound, np.float32), (0, max(0, LENGTH - len(sound))))
    windows = [padded[i : i + LENGTH] for i in range(0, len(padded) - LENGTH + 1, EVERY)]
    power = np.array([np.square(w, dtype=np.float64).mean() for w in windows])
    return [w for w, p in zip(windows, power, strict=True) if p >= power.max() * 10 ** (-QUIET / 10)]


def vary(sound: Floats, rng: np.random.Generator) -> Floats:
    """A sound as clips may have it: at another speed, repeated after a pause, in a room, over noise."""
    speed = 2 ** rng.uniform(-0.3, 0.3)
    out = np.interp(np.arange(0, len(sound) - 1, speed), np.arange(len(sound)), sound).astype(np.float32)
    if len(out) < LENGTH:
        pause = np.zeros(int(rng.uniform(0, 0.5) * RATE), np.float32)
        out = np.tile(np.concatenate([out, pause]), -(-LENGTH // max(1, len(out) + len(pause))))
    if rng.random() < 0.5:
        out = reverberate(out, rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.3), RATE, rng)
    if rng.random() < 0.5:
        noise = rng.standard_normal(len(out)).astype(np.float32)
        out = out + noise * np.abs(out).max(initial=0) * np.float32(10 ** rng.uniform(-3.5, -2))
    return np.asarray(out, np.float32)


@dataclass(frozen=True)
class Judge:
    """Guesses concepts. `classify`: features [N, F] -> probabilities [N, concepts]."""

    concepts: tuple[str, ...]
    classify: Callable[[Floats], Floats]

    def ranking(self, sound: Floats) -> list[str]:
        """All concepts, the most probable first, for a sound [L] at 16 kHz."""
        windows = loud_windows(sound)
        logs = np.log(self.classify(np.stack([features(w) for w in windows])) + 1e-6).mean(0)
        return [self.concepts[k] for k in np.argsort(-logs)]

    def judge(self, sound: Sound, true: Sound, spans: Sequence[Shown]) -> list[dict[str, Any]]:
        """A guess for every span that shows concepts, unless it is short or the true track is silent in it.

        right, right_five: whether a concept that is shown is the first guess, or one of the first five. A silent sound
        is wrong.
        """
        audio, reference, found = sound.at(RATE), true.at(RATE), []
        for span in spans:
            begin, end = round(span.begin * RATE), round(span.end * RATE)
            if not span.concepts or len(reference[begin:end]) < SHORTEST * RATE:
                continue
            if peak_rms(reference[begin:end], RATE) < SILENT_TRACK:
                continue
            part = audio[begin:end]
            silent = len(part) == 0 or peak_rms(part, RATE) < SILENT_TRACK
            guesses = [] if silent else self.ranking(part)[:5]
            right = [guess in span.concepts for guess in guesses]
            entry = {"concepts": sorted(span.concepts), "guess": guesses[0] if guesses else None}
            found.append(entry | {"right": bool(right[:1] == [True]), "right_five": any(right)})
        return found


def labels_of(folders: Sequence[Path]) -> dict[str, str]:
    """Recording -> label, for several folders with sounds.csv."""
    found = {}
    for folder in folders:
        with open(folder / "sounds.csv", encoding="utf-8", newline="") as table:
            found |= {row["file"]: row["label"] for row in csv.DictReader(table)}
    return found


def train_judge(materials: Path, classes: Path, table: Sequence[Concept]) -> tuple[Judge, dict[str, Any]]:
    """Train on the recordings of both pools that are not held out. Also return the score on the held-out ones.

    Raises PoolError if the pools have recordings of fewer than two concepts.
    """
    labels = labels_of([materials, classes])
    owner = {label: concept.name for concept in table for label in concept.labels}

    def named(pool: Pool) -> list[tuple[Floats, str]]:
        both = zip(pool.names, pool.sounds, strict=True)
        return [(sound, owner[labels[name]]) for name, sound in both if labels[name] in owner]

    training, held_out = map(named, read_pools(materials, classes, RATE))
    concepts = tuple(sorted({name for _, name in training}))
    if len(concepts) < 2:
        raise PoolError(f"{materials} and {classes} have recordings of {len(concepts)} concepts; 2 are needed")
    rng, inputs, answers = np.random.default_rng(0), [], []
    for sound, name in training:
        for copy in range(COPIES):
            windows = loud_windows(vary(sound, rng) if copy else sound)
            for k in rng.permutation(len(windows))[:PARTS]:
                inputs.append(features(windows[k]))
                answers.append(concepts.index(name))
    counts = np.bincount(answers, minlength=len(concepts))
    drawn = rng.choice(len(answers), len(answers), p=(1 / counts)[answers] / len(concepts))  # concepts equally often
    targets = np.eye(len(concepts), dtype=np.float32)[np.array(answers)[drawn]]
    judge = Judge(concepts, fit(np.stack(inputs)[drawn], targets, HIDDEN, STEPS, 0))
    known = [(sound, name) for sound, name in held_out if name in concepts]
    ranks = [(judge.ranking(sound)[:5], name) for sound, name in known]
    facts: dict[str, Any] = {"concepts": len(concepts), "trained_on": len(training), "held_out": len(known)}
    facts["right"] = float(np.mean([guesses[0] == name for guesses, name in ranks])) if ranks else None
    facts["right_five"] = float(np.mean([name in guesses for guesses, name in ranks])) if ranks else None
    return judge, facts
