"""Runs every system on every video, and scores the embeddings of its sounds against those of the true sounds."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.common.pairing import Rows
from benchmarks.meaning.judge import Judge
from benchmarks.meaning.systems import System, Track, read_track
from train.metrics.inputs import Sound
from train.metrics.semantic import own_rank, semantic_lift, similarities

TRUTH = "true track"
Embedding = NDArray[np.float64]  # [D]
Embed = Callable[[Sound], Embedding]


@dataclass
class Measured:
    """The usable videos, and the embeddings of each system by video, seed and take.

    guesses: the judge's guesses by video: for the true track under the name TRUTH, for each system over all seeds.
    """

    tracks: list[Track] = field(default_factory=list)
    truth: list[Embedding] = field(default_factory=list)
    systems: dict[str, list[list[list[Embedding]]]] = field(default_factory=dict)
    first: dict[str, list[list[Sound]]] = field(default_factory=dict)  # SCAV's choice by video and seed; with a judge
    sounds: dict[str, list[Sound]] = field(default_factory=dict)  # first choice of each video; empty unless kept
    guesses: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)

    def add_guesses(self, judge: Judge, track: Track, sounds: Mapping[str, list[list[Sound]]]) -> None:
        """Judge the true sound of a video, and SCAV's choice of every system and seed."""
        heard = {TRUTH: [[track.sound]]} | dict(sounds)
        for name, seeds in sounds.items():
            self.first.setdefault(name, []).append([takes[0] for takes in seeds])
        for name, seeds in heard.items():
            own = [guess for takes in seeds for guess in judge.judge(takes[0], track.sound, track.shown)]
            self.guesses.setdefault(name, []).append(own)


def run_videos(
    paths: Iterable[Path], systems: Mapping[str, System], embed: Embed, keep: bool, judge: Judge | None = None
) -> Measured:
    """Embed and judge the true sound and all systems' sounds. Videos that cannot be used are reported and left out.

    keep: also return the sound of each system's first choice, for plots.
    """
    found = Measured(systems={name: [] for name in systems}, sounds={name: [] for name in systems})
    for path in paths:
        try:
            track = read_track(path)
            sounds = {name: system(track) for name, system in systems.items()}
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        found.tracks.append(track)
        found.truth.append(embed(track.sound))
        if judge:
            found.add_guesses(judge, track, sounds)
        for name, seeds in sounds.items():
            found.systems[name].append([[embed(take) for take in takes] for takes in seeds])
            if keep:
                found.sounds[name].append(seeds[0][0])
        print(f"{len(found.tracks)} {path.name}", flush=True)
    return found


def score_system(measured: Measured, name: str, concepts: Mapping[str, list[str]]) -> Rows:
    """One row per video: `lift` and `rank` of SCAV's choice, means over seeds; with several takes also their lifts.

    concepts: file name of a real video -> concepts that are seen and heard. Simulated videos have their own.
    """
    truth, rows = np.stack(measured.truth), []
    for k, (track, seeds) in enumerate(zip(measured.tracks, measured.systems[name], strict=True)):
        cosines = [similarities(np.stack(takes), truth) for takes in seeds]
        lifts = [[semantic_lift(take, k) for take in takes] for takes in cosines]
        row: dict[str, Any] = {"clip": track.path.name}
        row["concepts"] = track.concepts or concepts.get(track.path.name, [])
        row["lift"] = float(np.mean([takes[0] for takes in lifts]))
        row["rank"] = float(np.mean([own_rank(takes[0], k) for takes in cosines]))
        if len(seeds[0]) > 1:
            row["takes"] = lifts
        if measured.guesses:
            row["heard"], row["heard_true"] = measured.guesses[name][k], measured.guesses[TRUTH][k]
        rows.append(row)
    return rows


def swapped_lifts(truth: list[Embedding]) -> list[float]:
    """For each video: the mean lift of the other videos' true sounds. This is the floor of the measure."""
    cosines = similarities(np.stack(truth), np.stack(truth))
    count = range(len(truth))
    return [float(np.mean([semantic_lift(cosines[j], k) for j in count if j != k])) for k in count]
