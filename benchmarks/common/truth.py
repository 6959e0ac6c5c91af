"""A clip's true track, and how made sounds compare with it: onsets, loudness, silence."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import runtime
from benchmarks.common.report import find_clips
from engines.contract import FloatArray
from runtime.audio import resample
from runtime.video import Video
from train.data.clip_files import clip_sound
from train.metrics.onsets import RATE, Floats, lift_of_onsets, onset_f1, onset_strength, pick_onsets

TOLERANCE = 0.05  # seconds
LOUDNESS_WINDOW = 0.05  # seconds
SILENT_TRACK, SILENT_SOUND = -60.0, -50.0  # dBFS of the loudest 50 ms, below which it counts as silent


def peak_rms(audio: FloatArray, rate: int) -> float:
    """dBFS of the loudest 50 ms."""
    width = min(len(audio), round(LOUDNESS_WINDOW * rate))
    total = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    return float(10 * np.log10(max((total[width:] - total[:-width]).max() / width, 0) + 1e-18))


def detect(audio: FloatArray) -> np.ndarray:
    """Onset times (s) of [L] at 16 kHz."""
    return pick_onsets(onset_strength(audio))


@dataclass(frozen=True)
class Truth:
    """A clip and its true track [L] at 16 kHz, with the onsets (s) found in it."""

    path: Path
    audio: FloatArray
    onsets: Floats

    @property
    def silent(self) -> bool:
        return peak_rms(self.audio, RATE) < SILENT_TRACK


def read_truths(folder: Path, limit: int) -> list[Truth]:
    """Clips with ID.flac, ID.wav or a sound track; others are named on stderr. Raises OptionError if none is left."""
    truths = []
    for path in find_clips(folder, limit):
        try:
            with Video(path) as video:
                start = float(video.start)
            audio = clip_sound(path, start, RATE)
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        truths.append(Truth(path, audio, np.asarray(detect(audio))))
    if not truths:
        raise runtime.OptionError(f"no video in {folder} has a true sound to compare with; add ID.flac or ID.wav")
    return truths


def level(audio: FloatArray) -> float:
    """RMS in dBFS, not below -100."""
    return float(10 * np.log10(np.square(audio, dtype=np.float64).mean() + 1e-10))


def against(truth: Truth, takes: list[runtime.Take]) -> dict[str, float]:
    """How takes sound beside the true track."""
    if truth.silent:
        loudest = [peak_rms(take.audio, take.sample_rate) for take in takes]
        return {"stays_silent": float(np.mean([peak < SILENT_SOUND for peak in loudest]))}
    sounds = [resample(take.audio, take.sample_rate, RATE) for take in takes]
    row = {"loudness": float(np.mean([level(sound) for sound in sounds])) - level(truth.audio)}
    if len(truth.onsets):
        found, seconds = [np.asarray(detect(sound)) for sound in sounds], len(truth.audio) / RATE
        row["f1"] = float(np.mean([onset_f1(truth.onsets, times, TOLERANCE).f1 for times in found]))
        row["lift"] = float(np.mean([lift_of_onsets(truth.onsets, times, seconds)["lift"] for times in found]))
    return row
