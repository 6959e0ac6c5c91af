"""A classifier of the material that makes a sound, trained on real recordings that the measured clips do not use.

Features are log-mel statistics of half a second after an onset. The model is multinomial logistic regression in NumPy.
Classes are coarse: glass and wood differ, two drums do not.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.metrics.onsets import HOP, RATE, WINDOW
from train.models.mel import ONSETS, mel_filters
from train.synthetic.recordings import RATE as SOUND_RATE
from train.synthetic.recordings import repitch
from train.synthetic.scenes.sound import SCENE_GROUPS
from train.synthetic.splits import group_of, split_files
from train.tasks.codec_data import Pool, PoolError, read_pool, reverberate

Floats = NDArray[np.floating]
SECONDS = 0.5  # after an onset that are classified
EARLY = 0.02  # seconds before the onset that are included, because detected onsets are not exact
FLOOR = 1e-5  # -50 dB below the loudest band; quieter bands count as background
SEGMENTS = (0, 2, 4, 8, 16, 28, 52)  # frames; the mean level of each segment is a feature
VARIANTS = 7  # per recording: the original, and copies with another pitch, brightness, room and background
STEPS, LEARNING_RATE, DECAY = 400, 0.5, 1e-3
CLASSES = {  # class -> materials, as train.synthetic.scenes.sound names them; water has no class
    "wood": ("wood", "chop", "door", "drawer"),
    "metal": ("metal", "bell", "coins"),
    "glass": ("glass", "ceramic"),
    "stone": ("stone",),
    "plastic": ("plastic", "chip", "dice"),
    "paper": ("card", "paper", "cardboard"),
    "soft": ("soft", "cloth", "leather", "rubber"),
    "drum": ("kick", "tom", "snare", "cajon"),
    "cymbal": ("hihat", "cymbal"),
    "steps": ("boards", "floor", "grass", "snow", "grating", "carpet"),
    "clap": ("clap",),
}
CLASS_OF = {material: name for name, materials in CLASSES.items() for material in materials}


def window_after(audio: Floats, onset: float, until: float | None = None) -> Floats:
    """SECONDS of audio at 16 kHz after an onset (s); silence from `until` (the next onset) on."""
    start = max(0, round((onset - EARLY) * RATE))
    length = round((SECONDS + EARLY) * RATE)
    end = start + length if until is None else min(start + length, round((until - EARLY) * RATE))
    part = np.asarray(audio[start : max(start, end)], np.float32)
    fade = min(len(part), 160)
    part = part * np.concatenate([np.ones(len(part) - fade), np.linspace(1, 0, fade)]).astype(np.float32)
    return np.pad(part, (0, length - len(part)))


def features(window: Floats) -> Floats:
    """Features [F] of a window: mean log spectra of six segments and their spread, relative to the loudest band."""
    padded = np.pad(np.asarray(window, np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1))) @ mel_filters(ONSETS)
    level = np.log10(np.maximum(power / (power.max() + 1e-20), FLOOR))
    parts = [level[a:b].mean(axis=0) for a, b in pairwise(SEGMENTS)]
    return np.concatenate([*parts, level.std(axis=0), [level[a:].max() for a in SEGMENTS[:-1]]])


def vary(sound: Floats, rng: np.random.Generator) -> Floats:
    """Change pitch and brightness at random, as size and strength do in clips; sometimes add a room or noise."""
    cutoff = 2500 + 17000 * rng.random()
    out = repitch(np.asarray(sound[:RATE], np.float32), float(2 ** rng.uniform(-0.7, 0.7)), cutoff * SOUND_RATE / RATE)
    out = np.pad(out[:RATE], (0, max(0, RATE - len(out))))
    if rng.random() < 0.5:
        out = reverberate(out, rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.3), RATE, rng)
    if rng.random() < 0.5:
        out = out + rng.standard_normal(len(out)).astype(np.float32) * np.abs(out).max() * 10 ** rng.uniform(-3.5, -2)
    return np.pad(out, (round(EARLY * RATE), 0))


@dataclass(frozen=True)
class Classifier:
    """Logistic regression on standardised features: classes [C], weights [F, C], bias [C], mean and scale [F]."""

    classes: tuple[str, ...]
    weights: Floats
    bias: Floats
    mean: Floats
    scale: Floats

    def __call__(self, windows: Sequence[Floats]) -> list[str]:
        """The class of each window [L] at 16 kHz."""
        if not windows:
            return []
        x = (np.stack([features(w) for w in windows]) - self.mean) / self.scale
        return [self.classes[k] for k in np.argmax(x @ self.weights + self.bias, axis=1)]


def fit(x: Floats, labels: Sequence[str]) -> Classifier:
    """Train by full-batch gradient descent with momentum. Every class has the same total weight."""
    classes = tuple(sorted(set(labels)))
    y = np.array([classes.index(label) for label in labels])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = (x - mean) / scale
    weight_of_example = (1 / np.bincount(y, minlength=len(classes)))[y] / len(classes)
    target = np.eye(len(classes))[y]
    weights, bias = np.zeros((x.shape[1], len(classes))), np.zeros(len(classes))
    momenta = [np.zeros_like(weights), np.zeros_like(bias)]
    for _ in range(STEPS):
        logits = z @ weights + bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (exponentials / exponentials.sum(axis=1, keepdims=True) - target) * weight_of_example[:, None]
        for move, gradient in zip(momenta, (z.T @ error + DECAY * weights, error.sum(axis=0)), strict=True):
            move *= 0.9
            move -= LEARNING_RATE * 0.1 * gradient
        weights += momenta[0]
        bias += momenta[1]
    return Classifier(classes, weights, bias, mean, scale)


def start_at_attack(audio: Floats) -> Floats:
    """Cut the part before the level first reaches a quarter of its peak, except for 1 ms."""
    level = np.abs(audio)
    return audio[max(0, int(np.argmax(level >= level.max(initial=0) / 4)) - RATE // 1000) :]


def train(folder: Path, seed: int = 0) -> tuple[Classifier, dict[str, Any]]:
    """Train on the train split of a pool.

    Returns the classifier, and its accuracy on the test split, overall and per class. Raises PoolError if the pool
    cannot be used.
    """
    pools = read_pool(folder, RATE)
    with open(folder / "sounds.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    groups = {row["file"]: group_of(row["label"], SCENE_GROUPS) for row in rows}
    train_files, rng = split_files(rows, "train", SCENE_GROUPS), np.random.default_rng(seed)

    def labelled(pool: Pool) -> list[tuple[str, Floats, str]]:
        named = (
            (file, sound, CLASS_OF.get(str(groups[file]))) for file, sound in zip(pool.names, pool.sounds, strict=True)
        )
        return [(file, start_at_attack(sound), name) for file, sound, name in named if name is not None]

    seen = [(sound, name) for file, sound, name in labelled(pools[0]) if file in train_files]
    held_out = [(sound, name) for _, sound, name in labelled(pools[1])]
    if len({name for _, name in seen}) < 2:
        raise PoolError(
            f"{folder} has too few recordings of known materials; give the pool that the clips were made with"
        )
    x, labels = [], []
    for sound, name in seen:
        for k in range(VARIANTS):
            variant = vary(sound, rng) if k else np.pad(sound, (round(EARLY * RATE), 0))
            cut = (
                EARLY + rng.uniform(0.1, SECONDS) if k % 2 else None
            )  # half of the variants are cut, as by the next onset in a clip
            x.append(features(window_after(variant, EARLY, cut)))
            labels.append(name)
    classifier = fit(np.stack(x), labels)
    truth = [name for _, name in held_out]
    guesses = classifier([window_after(np.pad(s, (round(EARLY * RATE), 0)), EARLY) for s, _ in held_out])
    facts = {"trained_on": len(seen), "held_out": len(held_out), "classes": list(classifier.classes)}
    return classifier, facts | accuracy(guesses, truth) | {"per_class": per_class(guesses, truth)}


def accuracy(guesses: list[str], truth: list[str]) -> dict[str, float]:
    """Share of correct guesses; and the share of always guessing the most frequent class, and of uniform guessing."""
    if not truth:
        return {}
    correct = float(np.mean([g == t for g, t in zip(guesses, truth, strict=True)]))
    most = max(truth.count(t) for t in set(truth)) / len(truth)
    return {"accuracy": correct, "chance_most_frequent": most, "chance_uniform": 1 / len(CLASSES)}


def per_class(guesses: list[str], truth: list[str]) -> dict[str, dict[str, float]]:
    """Recall and number of examples of every class that occurs."""
    out = {}
    for name in sorted(set(truth)):
        hits = [g == name for g, t in zip(guesses, truth, strict=True) if t == name]
        out[name] = {"accuracy": float(np.mean(hits)), "n": len(hits)}
    return out
