"""A video's true track, and how generated sounds compare with it: onsets, loudness, silence."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import runtime
from benchmarks.common.report import find_videos
from engines.contract import FloatArray
from runtime.audio import resample
from runtime.video import Video
from train.data.video_files import video_sound
from train.metrics.onsets import RATE, Floats, lift_of_onsets, onset_f1, onset_strength, pick_onsets

TOLERANCE = 0.05  # seconds between two onsets that match
LOUDNESS_WINDOW = 0.05  # seconds
SILENT_TRACK, SILENT_SOUND = -60.0, -50.0  # dBFS of the loudest 50 ms; below this a sound counts as silent


def peak_rms(audio: FloatArray, rate: int) -> float:
    """RMS level of the loudest 50 ms, in dBFS."""
    width = min(len(audio), round(LOUDNESS_WINDOW * rate))
    total = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    return float(10 * np.log10(max((total[width:] - total[:-width]).max() / width, 0) + 1e-18))


def rms_level(audio: FloatArray) -> float:
    """RMS level in dBFS, at least -100."""
    return float(10 * np.log10(np.square(audio, dtype=np.float64).mean() + 1e-10))


def detect_onsets(audio: FloatArray) -> Floats:
    """Onset times in seconds of audio [L] at 16 kHz."""
    return np.asarray(pick_onsets(onset_strength(audio)))


@dataclass(frozen=True)
class TrueTrack:
    """A video with its true sound."""

    path: Path  # of the video
    start: float  # first frame of the video, in the file's time (s)
    audio: FloatArray  # [L] at 16 kHz, from the first frame on
    onsets: Floats  # seconds, detected in `audio`

    @property
    def silent(self) -> bool:
        return peak_rms(self.audio, RATE) < SILENT_TRACK

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE


def read_true_track(path: Path) -> TrueTrack:
    """Read the true sound of one video. Raises MediaError if it has none."""
    with Video(path) as video:
        start = float(video.start)
    audio = video_sound(path, start, RATE)
    return TrueTrack(path, start, audio, detect_onsets(audio))


def read_true_tracks(folder: Path, limit: int) -> list[TrueTrack]:
    """Read all videos that have ID.flac, ID.wav or their own sound, and report the others on stderr.

    Raises OptionError if no video can be used.
    """
    tracks = []
    for path in find_videos(folder, limit):
        try:
            tracks.append(read_true_track(path))
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
    if not tracks:
        raise runtime.OptionError(f"no video in {folder} has a true sound to compare with; add ID.flac or ID.wav")
    return tracks


def score_takes(track: TrueTrack, takes: list[runtime.Take]) -> dict[str, float]:
    """Compare takes with the true track; means over takes.

    A silent track gives only `stays_silent`. Another track gives `loudness` (dB above the track), and if it has onsets
    also `f1` (within 50 ms) and `lift` (F1 within 100 ms minus chance).
    """
    if track.silent:
        loudest = [peak_rms(take.audio, take.sample_rate) for take in takes]
        return {"stays_silent": float(np.mean([peak < SILENT_SOUND for peak in loudest]))}
    sounds = [resample(take.audio, take.sample_rate, RATE) for take in takes]
    row = {"loudness": float(np.mean([rms_level(sound) for sound in sounds])) - rms_level(track.audio)}
    if len(track.onsets):
        found = [detect_onsets(sound) for sound in sounds]
        row["f1"] = float(np.mean([onset_f1(track.onsets, times, TOLERANCE).f1 for times in found]))
        row["lift"] = float(np.mean([lift_of_onsets(track.onsets, times, track.seconds)["lift"] for times in found]))
    return row
