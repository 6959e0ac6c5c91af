"""Plots of benchmarks.latency: time by stage; time against steps, candidates and clip length; pairs with PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmarks.latency.points import STAGES
from train.evaluate.plots import save

Values = dict[str, Any]
AXES = (("steps", "unmasking steps"), ("candidates", "candidates"), ("clip_seconds", "seconds of the clip"))


def point_label(point: Values) -> str:
    return f"{point['size']} {point['backend']} {point['precision']}"


def draw_stages(path: Path, points: Sequence[Values]) -> None:
    """One stacked bar per point, with its stages."""
    figure = Figure(figsize=(11, 1.4 + 0.34 * len(points)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(points)
    for n, stage in enumerate(STAGES):
        widths = [p["stages"][stage] for p in points]
        axes.barh(range(len(points)), widths, left=left, color=f"C{n}", label=stage.replace("_", " "))
        left = [a + b for a, b in zip(left, widths, strict=True)]
    names = [f"{point_label(p)}, {p['steps']} steps x {p['candidates']}, {p['clip_seconds']} s" for p in points]
    axes.set(yticks=range(len(points)), yticklabels=names, xlabel="seconds", title="time by stage")
    axes.invert_yaxis()
    axes.legend(ncols=len(STAGES), fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.12))
    save(figure, path)


def draw_curves(path: Path, points: Sequence[Values]) -> None:
    """Seconds against each axis of the grid. A line joins points that differ only in this axis."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    for axes, (name, axis_label) in zip(figure.subplots(1, len(AXES)), AXES, strict=True):
        others = [other for other, _ in AXES if other != name]
        lines: dict[tuple[Any, ...], list[Values]] = {}
        for p in points:
            lines.setdefault((point_label(p), *(p[o] for o in others)), []).append(p)
        for key, line in sorted(lines.items(), key=lambda item: str(item[0])):
            if len(line) > 1:
                line.sort(key=lambda p: p[name])
                fixed = ", ".join(
                    f"{o.replace('clip_seconds', 'clip')} {v}" for o, v in zip(others, key[1:], strict=True)
                )
                at, middle = [p[name] for p in line], [p["seconds"] for p in line]
                axes.plot(at, middle, marker="o", label=f"{key[0]}, {fixed}")
                axes.fill_between(at, middle, [p["p95"] for p in line], alpha=0.15)
        axes.set(xlabel=axis_label, ylabel="seconds (median; shade to p95)", xscale="log", yscale="log")
        measured = sorted({p[name] for p in points})
        axes.xaxis.set_major_locator(FixedLocator(measured))
        axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in measured]))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axis in (axes.xaxis, axes.yaxis):  # labels of minor ticks would overlap
            axis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    save(figure, path)


def draw_pairs(path: Path, pairs: Sequence[Values]) -> None:
    """Speed relative to each baseline."""
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    names = []
    for n, p in enumerate(pairs):
        axes.barh(n, p["ratio"], color=f"C{n % 10}", alpha=0.8)
        axes.plot([p["lowest"], p["highest"]], [n, n], color="black", linewidth=1.2)
        ours, theirs = p["ours"], p["theirs"]
        names.append(f"{p['size']}: {ours['backend']} {ours['precision']} / {theirs['backend']} {theirs['precision']}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(yticks=range(len(pairs)), yticklabels=names, xlabel="times as fast, in pairs", xlim=(0, None))
    axes.invert_yaxis()
    save(figure, path)


def draw(folder: Path, values: Values) -> None:
    """Write latency-stages.png, latency-curves.png and latency-pairs.png."""
    if values["results"]:
        draw_stages(folder / "latency-stages.png", values["results"])
        draw_curves(folder / "latency-curves.png", values["results"])
    if values["pairs"]:
        draw_pairs(folder / "latency-pairs.png", values["pairs"])
