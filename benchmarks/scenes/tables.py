"""Summaries of benchmarks.scenes: of each bundle, of pairs of bundles, and their tables."""

from typing import Any

import numpy as np

from benchmarks.common.pairing import Rows, candidate_lines, candidates, differences
from benchmarks.common.report import table
from benchmarks.scenes.materials import accuracy, per_class
from train.evaluate.bootstrap import summarise, words

SILENT_BELOW = -50.0  # dBFS of the loudest 50 ms


def ratio(rows: Rows) -> dict[str, Any] | None:
    """Mean F1 over the codec's mean F1; clips resampled together."""
    pairs = np.array([(r["f1"], r["codec_f1"]) for r in rows])
    if not len(pairs) or not pairs[:, 1].any():
        return None
    rng = np.random.default_rng(0)
    draws = pairs[rng.integers(0, len(pairs), (2000, len(pairs)))].mean(axis=1)
    ratios = draws[:, 0] / np.maximum(draws[:, 1], 1e-9)
    low, high = (float(np.quantile(ratios, q)) for q in (0.025, 0.975))
    return {"mean": float(pairs[:, 0].mean() / pairs[:, 1].mean()), "interval": [low, high], "n": len(pairs)}


def kinds(rows: Rows) -> dict[str, dict[str, Any]]:
    """Per kind of event: clips, F1 and the codec's; material accuracy at the kind's impacts."""
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


def materials(rows: Rows, key: str) -> dict[str, Any] | None:
    """Accuracy over impacts, its interval over clips, chance, and per class."""
    per_clip = [r[key] for r in rows if r.get(key)]
    pairs = [h for clip in per_clip for h in clip]
    if not pairs:
        return None
    guesses, truth = [h["guess"] for h in pairs], [h["truth"] for h in pairs]
    counts = np.array([(sum(h["guess"] == h["truth"] for h in clip), len(clip)) for clip in per_clip])
    draws = counts[np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))].sum(axis=1)
    shares = draws[:, 0] / draws[:, 1]
    low, high = (float(np.quantile(shares, q)) for q in (0.025, 0.975))
    out = accuracy(guesses, truth) | {"interval": [low, high], "n": len(pairs)}
    return out | {"per_class": per_class(guesses, truth)}


def of_bundle(rows: Rows) -> dict[str, Any]:
    scored = [r for r in rows if "f1" in r]
    silent = [r for r in rows if r["kind"] == "silent"]
    out: dict[str, Any] = {key: summarise([r[key] for r in scored]) for key in ("f1", "chance", "codec_f1")}
    out["f1_over_codec"] = ratio(scored)
    for key, name in (("peak_rms", "silent"), ("codec_peak_rms", "silent_codec")):
        out[name] = summarise([float(r[key] < SILENT_BELOW) for r in silent])
    out |= {"material": materials(rows, "heard"), "material_true_track": materials(rows, "heard_true")}
    return out | {"kinds": kinds(rows), "candidates": candidates([r["takes"] for r in rows if "takes" in r])}


def summary(rows: dict[str, Rows]) -> dict[str, Any]:
    """{"bundles": {name: figures}, "pairs": {"a - b": difference of F1 by clip}}."""
    return {"bundles": {name: of_bundle(r) for name, r in rows.items()}, "pairs": differences(rows, "f1")}


# ---------------------------------------------------------------- tables
def number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def material_words(m: dict[str, Any] | None) -> str:
    if m is None:
        return "-"
    low, high = m["interval"]
    chance = f"chance {m['chance_most_frequent']:.2f} most frequent, {m['chance_uniform']:.2f} uniform"
    return f"{m['accuracy']:.3f} [{low:.3f}, {high:.3f}] of {m['n']} impacts ({chance})"


def print_bundle(name: str, s: dict[str, Any]) -> None:
    clips = s["f1"]["n"] if s["f1"] else 0
    print(f"\n{name}: {clips} clips with impacts, {s['silent']['n'] if s['silent'] else 0} silent")
    for key, label in (
        ("f1", "onset F1"),
        ("chance", "chance"),
        ("codec_f1", "codec's copy"),
        ("f1_over_codec", "ratio"),
    ):
        print(f"  {label:22} {words(s[key], '.3f')}")
    print(f"  {'silent stays silent':22} {words(s['silent'], '.3f')}, codec {words(s['silent_codec'], '.3f')}")
    print(f"  {'material':22} {material_words(s['material'])}")
    print(f"  {'material, true track':22} {material_words(s['material_true_track'])}")
    if (c := s["candidates"]) is not None:
        for label, told in candidate_lines(c):
            print(f"  {label:22} {told}")
    rows = [
        [k, str(v["clips"]), *(number(v[x]) for x in ("f1", "codec_f1", "material")), number(v["peak_rms"], ".0f")]
        for k, v in s["kinds"].items()
    ]
    print("\n" + table(["kind", "clips", "F1", "codec", "material", "peak dBFS"], rows))


def print_tables(values: dict[str, Any], classifier: dict[str, Any] | None) -> None:
    for name, s in values["bundles"].items():
        print_bundle(name, s)
    for name, difference in values["pairs"].items():
        print(f"paired F1, {name}: {words(difference)}")
    if classifier is not None:
        share = number(classifier.get("accuracy"), ".3f")
        print(f"classifier: {share} on {classifier['held_out']} held-out recordings")
