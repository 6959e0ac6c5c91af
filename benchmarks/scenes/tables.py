"""Summaries and tables of benchmarks.scenes, for each bundle and for pairs of bundles."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.common.pairing import Rows, candidate_lines, compare_candidates, paired_differences
from benchmarks.common.report import format_number, table
from benchmarks.common.true_track import SILENT_SOUND
from benchmarks.scenes.materials import accuracy, per_class
from train.evaluate.bootstrap import format_summary, summarise

BOOTSTRAPS = 2000


def ratio_of_sums(pairs: ArrayLike) -> dict[str, Any] | None:
    """Sum of the first numbers of pairs [clips, 2] over the sum of the second, with a bootstrap 95 % interval.

    Both numbers of a clip are resampled together. Returns None if there are no clips or the second sum is 0.
    """
    data = np.asarray(pairs, np.float64).reshape(-1, 2)
    if not data[:, 1].any():
        return None
    draws = data[np.random.default_rng(0).integers(0, len(data), (BOOTSTRAPS, len(data)))].sum(axis=1)
    ratios = draws[:, 0] / np.maximum(draws[:, 1], 1e-9)
    low, high = (float(np.quantile(ratios, q)) for q in (0.025, 0.975))
    return {"mean": float(data[:, 0].sum() / data[:, 1].sum()), "interval": [low, high], "n": len(data)}


def summarise_kinds(rows: Rows) -> dict[str, dict[str, Any]]:
    """Per kind of event: number of clips, F1 and that of the codec's copy, and accuracy of materials at its impacts."""
    out: dict[str, dict[str, Any]] = {}
    for kind in sorted({r["kind"] for r in rows}):
        own = [r for r in rows if r["kind"] == kind]
        scored = [r for r in own if "f1" in r]
        at = [h for r in rows for h in r.get("heard", []) if h["kind"] == kind]
        entry: dict[str, Any] = {"clips": len(own), "peak_rms": float(np.median([r["peak_rms"] for r in own]))}
        for key in ("f1", "codec_f1"):
            entry[key] = float(np.mean([r[key] for r in scored])) if scored else None
        entry["material"] = float(np.mean([h["guess"] == h["truth"] for h in at])) if at else None
        out[kind] = entry
    return out


def summarise_materials(rows: Rows, key: str) -> dict[str, Any] | None:
    """Accuracy over impacts with its interval over clips, chance levels, and accuracy per class."""
    per_video = [r[key] for r in rows if r.get(key)]
    pairs = [h for video in per_video for h in video]
    if not pairs:
        return None
    guesses, truth = [h["guess"] for h in pairs], [h["truth"] for h in pairs]
    share = ratio_of_sums([(sum(h["guess"] == h["truth"] for h in video), len(video)) for video in per_video])
    assert share is not None
    return (
        accuracy(guesses, truth)
        | {"interval": share["interval"], "n": len(pairs)}
        | {"per_class": per_class(guesses, truth)}
    )


def summarise_bundle(rows: Rows) -> dict[str, Any]:
    """Figures of one bundle: summaries over clips."""
    scored = [r for r in rows if "f1" in r]
    silent = [r for r in rows if r["kind"] == "silent"]
    out: dict[str, Any] = {key: summarise([r[key] for r in scored]) for key in ("f1", "chance", "codec_f1")}
    out["f1_over_codec"] = ratio_of_sums([(r["f1"], r["codec_f1"]) for r in scored])
    for key, name in (("peak_rms", "silent"), ("codec_peak_rms", "silent_codec")):
        out[name] = summarise([float(r[key] < SILENT_SOUND) for r in silent])
    out |= {
        "material": summarise_materials(rows, "heard"),
        "material_true_track": summarise_materials(rows, "heard_true"),
    }
    takes = [r["takes"] for r in rows if "takes" in r]
    return out | {"kinds": summarise_kinds(rows), "candidates": compare_candidates(takes)}


def summary(rows: dict[str, Rows]) -> dict[str, Any]:
    """{"bundles": {name: figures}, "pairs": {"a - b": summary of the difference of F1 by clip}}."""
    return {"bundles": {name: summarise_bundle(r) for name, r in rows.items()}, "pairs": paired_differences(rows, "f1")}


# ---------------------------------------------------------------- tables
def material_text(m: dict[str, Any] | None) -> str:
    if m is None:
        return "-"
    low, high = m["interval"]
    chance = f"chance {m['chance_most_frequent']:.2f} most frequent, {m['chance_uniform']:.2f} uniform"
    return f"{m['accuracy']:.3f} [{low:.3f}, {high:.3f}] of {m['n']} impacts ({chance})"


def print_bundle(name: str, s: dict[str, Any]) -> None:
    videos = s["f1"]["n"] if s["f1"] else 0
    print(f"\n{name}: {videos} clips with impacts, {s['silent']['n'] if s['silent'] else 0} silent")
    for key, label in (
        ("f1", "onset F1"),
        ("chance", "chance"),
        ("codec_f1", "codec's copy"),
        ("f1_over_codec", "ratio"),
    ):
        print(f"  {label:22} {format_summary(s[key], '.3f')}")
    silent, silent_codec = (format_summary(s[key], ".3f") for key in ("silent", "silent_codec"))
    print(f"  {'silent stays silent':22} {silent}, codec {silent_codec}")
    print(f"  {'material':22} {material_text(s['material'])}")
    print(f"  {'material, true track':22} {material_text(s['material_true_track'])}")
    if (c := s["candidates"]) is not None:
        for label, value in candidate_lines(c):
            print(f"  {label:22} {value}")
    rows = [
        [
            k,
            str(v["clips"]),
            *(format_number(v[x]) for x in ("f1", "codec_f1", "material")),
            format_number(v["peak_rms"], ".0f"),
        ]
        for k, v in s["kinds"].items()
    ]
    print("\n" + table(["kind", "clips", "F1", "codec", "material", "peak dBFS"], rows))


def print_tables(values: dict[str, Any], classifier: dict[str, Any] | None) -> None:
    for name, s in values["bundles"].items():
        print_bundle(name, s)
    for name, difference in values["pairs"].items():
        print(f"paired F1, {name}: {format_summary(difference)}")
    if classifier is not None:
        share = format_number(classifier.get("accuracy"), ".3f")
        print(f"classifier: {share} on {classifier['held_out']} held-out recordings")
