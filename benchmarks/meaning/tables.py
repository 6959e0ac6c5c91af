"""Summaries and tables of benchmarks.meaning."""

from typing import Any

import numpy as np

from benchmarks.common.pairing import Rows, candidate_lines, compare_candidates, paired_differences
from benchmarks.common.ratios import ratio_of_sums
from benchmarks.common.report import table
from train.evaluate.bootstrap import format_summary, summarise

NO_CONCEPT = "none"  # no concept of the table is seen and heard, or none is known


def summarise_concepts(rows: Rows) -> dict[str, dict[str, Any] | None]:
    """Lift by concept. A video with several concepts counts for each of them."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        for concept in row["concepts"] or [NO_CONCEPT]:
            groups.setdefault(concept, []).append(row["lift"])
    return {concept: summarise(groups[concept]) for concept in sorted(groups)}


def summarise_heard(rows: Rows) -> dict[str, Any] | None:
    """How often the judge hears a concept that is shown: of the sounds, of the true tracks, and the ratio of both.

    Values are means over videos. None if nothing was judged.
    """
    judged = [row for row in rows if row.get("heard") and row.get("heard_true")]
    if not judged:
        return None
    figures: dict[str, Any] = {"spans": sum(len(row["heard_true"]) for row in judged)}
    for key in ("right", "right_five"):
        pairs = [[float(np.mean([g[key] for g in row[kind]])) for kind in ("heard", "heard_true")] for row in judged]
        own, true = zip(*pairs, strict=True)
        figures[key] = {"generated": summarise(own), "true_track": summarise(true), "ratio": ratio_of_sums(pairs)}
    return figures


def summarise_system(rows: Rows) -> dict[str, Any]:
    """Lift and rank over videos, lift by concept, and SCAV's choice against the other candidates."""
    figures: dict[str, Any] = {key: summarise([row[key] for row in rows]) for key in ("lift", "rank")}
    figures |= {"rank_chance": (len(rows) + 1) / 2, "concepts": summarise_concepts(rows)}
    figures["heard"] = summarise_heard(rows)
    return figures | {"candidates": compare_candidates([row["takes"] for row in rows if "takes" in row])}


def summary(rows: dict[str, Rows], floors: dict[str, list[float]]) -> dict[str, Any]:
    """{"systems": {name: figures}, "pairs": {"a - b": difference of lift by video}, "floors": {name: lift}}."""
    return {
        "systems": {name: summarise_system(own) for name, own in rows.items()},
        "pairs": paired_differences(rows, "lift"),
        "floors": {name: summarise(values) for name, values in floors.items()},
    }


def print_tables(values: dict[str, Any]) -> None:
    systems = values["systems"]
    lines = [
        [name, format_summary(s["lift"]), f"{format_summary(s['rank'], '.1f')} (chance {s['rank_chance']:g})"]
        for name, s in systems.items()
    ]
    lines += [[f"floor: {name}", format_summary(lift), ""] for name, lift in values["floors"].items()]
    print("\n" + table(["system", "semantic lift", "rank of own true sound"], lines))
    for name, difference in values["pairs"].items():
        print(f"paired lift, {name}: {format_summary(difference)}")
    for name, s in systems.items():
        for key, figures in (s["heard"] or {}).items():
            if key != "spans":
                texts = [
                    f"{part} {format_summary(figures[part], '.3f')}" for part in ("generated", "true_track", "ratio")
                ]
                print(f"{name}: concept {key.replace('_', ' within ')}: {', '.join(texts)}")
        for label, value in candidate_lines(s["candidates"]) if s["candidates"] else ():
            print(f"{name}: {label:22} {value}")
    concepts = {name: s["concepts"] for name, s in systems.items()}
    first = next(iter(concepts.values()))
    cells = [[c, str(first[c]["n"]), *(f"{own[c]['mean']:+.3f}" for own in concepts.values())] for c in first]
    print("\n" + table(["concept", "clips", *systems], cells))
