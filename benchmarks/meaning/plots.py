"""Spectrograms of generated sounds below those of the true sounds. Needs matplotlib (the extra `bench`)."""

from pathlib import Path

from benchmarks.common.pairing import Rows
from benchmarks.meaning.measure import Measured
from train.evaluate.plots import spectrogram_pairs
from train.metrics.semantic import RATE


def draw_plots(folder: Path, measured: Measured, rows: dict[str, Rows]) -> None:
    """Write STEM.png for every video, with all systems, and a contact sheet of all videos for every system."""
    for k, track in enumerate(measured.tracks):
        pairs = [
            (f"{name}: lift {own[k]['lift']:+.2f}", track.sound.samples, measured.sounds[name][k].at(RATE))
            for name, own in rows.items()
        ]
        spectrogram_pairs(folder / f"{track.path.stem}.png", pairs, RATE, "generated")
    for name, own in rows.items():
        sheet = "contact-sheet.png" if len(rows) == 1 else f"contact-sheet-{name}.png"
        pairs = [
            (f"{track.path.stem[:32]}: {row['lift']:+.2f}", track.sound.samples, sound.at(RATE))
            for track, row, sound in zip(measured.tracks, own, measured.sounds[name], strict=True)
        ]
        spectrogram_pairs(folder / sheet, pairs, RATE, "generated")
