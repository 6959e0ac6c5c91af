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
from benchmarks.meaning.systems import System, Track, read_track
from train.metrics.inputs import Sound
from train.metrics.semantic import own_rank, semantic_lift, similarities

Embedding = NDArray[np.float64]  # [D]
Embed = Callable[[Sound], Embedding]


@dataclass
class Measured:
    """The videos that can be used, and of each system the embeddings by video, seed and take."""

    tracks: list[Track] = field(default_factory=list)
    truth: list[Embedding] = field(default_factory=list)
    systems: dict[str, list[list[list[Embedding]]]] = field(default_factory=dict)
    sounds: dict[str, list[Sound]] = field(default_factory=dict)  # first choice of each video; empty unless kept


def run_videos(paths: Iterable[Path], systems: Mapping[str, System], embed: Embed, keep: bool) -> Measured:
    """Embed the true sound and all systems' sounds. Videos that a system cannot use are reported and left out.

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
        for name, seeds in sounds.items():
            found.systems[name].append([[embed(take) for take in takes] for takes in seeds])
            if keep:
                found.sounds[name].append(seeds[0][0])
        print(f"{len(found.tracks)} {path.name}", flush=True)
    return found


def score_system(measured: Measured, name: str, concepts: Mapping[str, list[str]]) -> Rows:
    """One row per video: `lift` and `rank` of SCAV's choice, means over seeds; with several takes also their lifts.

    concepts: file name -> concepts that are seen and heard.
    """
    truth, rows = np.stack(measured.truth), []
    for k, (track, seeds) in enumerate(zip(measured.tracks, measured.systems[name], strict=True)):
        cosines = [similarities(np.stack(takes), truth) for takes in seeds]
        lifts = [[semantic_lift(take, k) for take in takes] for takes in cosines]
        row: dict[str, Any] = {"clip": track.path.name, "concepts": concepts.get(track.path.name, [])}
        row["lift"] = float(np.mean([takes[0] for takes in lifts]))
        row["rank"] = float(np.mean([own_rank(takes[0], k) for takes in cosines]))
        if len(seeds[0]) > 1:
            row["takes"] = lifts
        rows.append(row)
    return rows


def swapped_lifts(truth: list[Embedding]) -> list[float]:
    """For each video: the mean lift of the other videos' true sounds. This is the floor of the measure."""
    cosines = similarities(np.stack(truth), np.stack(truth))
    count = range(len(truth))
    return [float(np.mean([semantic_lift(cosines[j], k) for j in count if j != k])) for k in count]
