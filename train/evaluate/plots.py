"""Plots of evaluations: spectrograms, onset strips and bar charts. Needs matplotlib (the extra `bench`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from runtime.audio import replacing
from train.metrics.onsets import FRAME_RATE, RATE, onset_strength, pick_onsets

Floats = NDArray[np.floating]
FFT = 1024
RANGE = 80  # dB below the maximum that a spectrogram shows
QUIETEST = -42.0  # least maximum, 90 dB below that of a full-scale sine; with a lower one, silence would look loud
DPI = 110
ABREAST = 4  # pairs of spectrograms in a row
COLOURS = {"picture": "tab:gray", "truth": "tab:blue", "made": "tab:red"}


@dataclass(frozen=True)
class Strip:
    """The data of one clip's plot.

    movement: envelope at 100 Hz. contacts: times in seconds, empty if unknown. truth, made: true and generated sound
    [L] at 16 kHz.
    """

    title: str
    movement: Floats
    contacts: Floats
    truth: Floats
    made: Floats


@dataclass(frozen=True)
class Bar:
    """A system's value of one measure, with its interval. Without an interval, low and high equal the value."""

    name: str
    value: float
    low: float
    high: float


def save(figure: Figure, path: Path) -> None:
    """Write a PNG file. It appears under its name only when it is complete."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=DPI)


def spectrogram(audio: Floats, hop: int) -> Floats:
    """Levels [frames, FFT / 2 + 1] in dB of a sound [L], with a Hann window."""
    padded = np.pad(np.asarray(audio, np.float64), FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::hop]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)))
    return 10 * np.log10(power + 1e-12)


def draw_spectrogram(axes: Axes, audio: Floats, rate: int, top: float | None = None) -> float:
    """Draw a spectrogram; returns its maximum level. Pass that as `top` to give another one the same scale."""
    level = spectrogram(audio, max(1, min(FFT // 4, len(audio) // 400)))
    top = max(float(level.max()), QUIETEST) if top is None else top
    extent = (0.0, len(audio) / rate, 0.0, rate / 2000)
    axes.imshow(level.T - top, origin="lower", aspect="auto", extent=extent, vmin=-RANGE, vmax=0, cmap="magma")
    return top


def spectrogram_pairs(
    path: Path, pairs: Sequence[tuple[str, Floats, Floats]], rate: int, made: str = "decoded"
) -> None:
    """Plot pairs (name, original, other sound): originals above, the others below, on the original's scale.

    `made` says what the other sounds are.
    """
    columns, lines = min(ABREAST, len(pairs)), -(-len(pairs) // ABREAST)
    figure = Figure(figsize=(3.2 * columns, 5.6 * lines), layout="constrained")
    grid = figure.subplots(2 * lines, columns, squeeze=False)
    for axes in grid.flat[:]:
        axes.set_visible(False)
    for k, (name, original, decoded) in enumerate(pairs):
        line, column = divmod(k, ABREAST)
        above, below = grid[2 * line : 2 * line + 2, column]
        draw_spectrogram(below, decoded, rate, draw_spectrogram(above, original, rate))
        above.set_title(name, fontsize=10)
        below.set_xlabel("seconds")
        for axes, word in ((above, "original"), (below, made)):
            axes.set_visible(True)
            axes.set_ylabel(f"{word}, kHz" if column == 0 else "")
    figure.colorbar(grid[0][0].images[0], ax=grid, label="dB below the original's maximum", pad=0.01, aspect=40)
    save(figure, path)


def draw_envelope(axes: Axes, envelope: Floats, ticks: Floats, colour: str, label: str) -> None:
    """Draw an envelope at 100 Hz, scaled to a maximum of 1, with its onsets (s) as ticks above it."""
    times = np.arange(len(envelope)) / FRAME_RATE
    axes.fill_between(times, envelope / (envelope.max(initial=0) + 1e-9), color=colour, alpha=0.45, linewidth=0)
    axes.vlines(ticks, 1.05, 1.35, color=colour, linewidth=1.8)
    axes.set(ylim=(0, 1.4), yticks=[], xlim=(0, len(envelope) / FRAME_RATE))
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)


def draw_onsets(rows: Sequence[Axes], strip: Strip) -> None:
    """Draw three rows: movement, with contacts as ticks if known, and the true and the generated sound's onsets.

    Dotted lines mark the true onsets in all rows.
    """
    true = onset_strength(strip.truth)
    made = onset_strength(strip.made)
    times = pick_onsets(true)
    known = len(strip.contacts) > 0
    ticks = strip.contacts if known else pick_onsets(strip.movement)
    draw_envelope(
        rows[0], strip.movement - strip.movement.min(), ticks, COLOURS["picture"], "contacts" if known else "movement"
    )
    draw_envelope(rows[1], true, times, COLOURS["truth"], "true")
    draw_envelope(rows[2], made, pick_onsets(made), COLOURS["made"], "generated")
    for axes in rows:
        axes.vlines(times, 0, 1.4, color=COLOURS["truth"], linewidth=0.7, alpha=0.6, linestyle=":")
        axes.set_xlim(0, len(true) / FRAME_RATE)
    rows[0].set_title(strip.title, fontsize=10, loc="left")


def onset_strip(path: Path, strip: Strip) -> None:
    """Plot one clip: onsets of picture, true and generated sound above each other, and both spectrograms."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    rows = figure.subplots(5, 1, sharex=True, height_ratios=(1, 1, 1, 1.8, 1.8))
    draw_onsets(rows[:3], strip)
    for axes, audio, word in zip(rows[3:], (strip.truth, strip.made), ("true", "generated"), strict=True):
        draw_spectrogram(axes, audio, RATE)
        axes.set_ylabel(f"{word}\nkHz", rotation=0, ha="right", va="center", fontsize=9)
    rows[4].set(xlabel="seconds", xlim=(0, len(strip.truth) / RATE))
    save(figure, path)


def contact_sheet(path: Path, strips: Sequence[Strip], columns: int = 2) -> None:
    """Plot the onsets of all clips on one page."""
    lines = -(-len(strips) // columns)
    figure = Figure(figsize=(9.5 * columns, 2.3 * lines + 0.5), layout="constrained")
    cells = figure.subfigures(lines, columns, squeeze=False)
    for cell, strip in zip(cells.flat, strips, strict=False):
        rows = cell.subplots(3, 1, sharex=True)
        draw_onsets(rows, strip)
        rows[2].tick_params(labelsize=8)
    save(figure, path)


def bars(path: Path, panels: Sequence[tuple[str, Sequence[Bar]]]) -> None:
    """Plot one panel per measure, with one bar and interval per system. A system has the same colour in all panels."""
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    names = list(dict.fromkeys(bar.name for _, panel in panels for bar in panel))
    figure = Figure(figsize=(3.4 * columns, (1.1 + 0.28 * len(names)) * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (title, panel) in zip(grid.flat, panels, strict=False):
        for bar in panel:
            row = names.index(bar.name)
            axes.barh(row, bar.value, color=f"C{row % 10}", alpha=0.8)
            axes.plot([bar.low, bar.high], [row, row], color="black", linewidth=1.2)
        axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    save(figure, path)
