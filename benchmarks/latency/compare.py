"""Compare two results of benchmarks.latency."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common.report import format_number
from benchmarks.latency.tables import POINT_KEY, markdown, point_cells
from runtime.errors import OptionError

Values = dict[str, Any]
CHANGED = 0.10  # ratios that differ more from 1 are reported as changed
COMPARED = ("seconds", "p95", "peak_mb", "load_seconds", "first_clip_seconds")
WORK = ("threads", "guidance", "clip", "repeat", "limit")  # settings that change the work of a point


def read_result(path: Path) -> Values:
    """Read a result of benchmarks.latency. Raises OptionError if the file is something else."""
    try:
        values: Values = json.loads(path.read_text(encoding="utf-8"))
        points = [*values["results"], *values.get("baselines", [])]
        if values["benchmark"] != "latency" or not all(set(POINT_KEY) <= set(p) for p in points):
            raise ValueError("not a result of benchmarks.latency with " + ", ".join(POINT_KEY))
        if not isinstance(values["machine"], dict):
            raise ValueError("its machine is not an object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise OptionError(f"{path} cannot be compared ({reason}); give files that --out wrote") from error
    return values


def point_key(point: Values) -> tuple[Any, ...]:
    return tuple(round(v) if isinstance(v := point[k], float) else v for k in POINT_KEY)


def differing(before: Values, after: Values, names: Iterable[str]) -> dict[str, list[Any]]:
    """Name -> both values, for names whose values differ."""
    return {n: [before.get(n), after.get(n)] for n in names if before.get(n) != after.get(n)}


def compare(before: Values, after: Values) -> Values:
    """Ratios after / before of every point in both results; `changed` lists ratios that differ by more than CHANGED."""
    rows = []
    for table in ("results", "baselines"):
        old = {point_key(p): p for p in before.get(table, [])}
        for point in after.get(table, []):
            if (old_point := old.get(point_key(point))) is None:
                continue
            ratios = {k: point[k] / old_point[k] for k in COMPARED if point.get(k) and old_point.get(k)}
            changed = [k for k, ratio in ratios.items() if abs(ratio - 1) > CHANGED]
            rows.append({k: point[k] for k in POINT_KEY} | {"table": table, "ratios": ratios, "changed": changed})
    rates = [v.get("machine_floor", {}).get("gflops", {}).get("fp32") for v in (before, after)]
    machines = [v["machine"] for v in (before, after)]
    bundles = [v.get("bundles", {}) for v in (before, after)]
    both = {name for r in rows for name in (r["size"], f"{r['size']} in pairs")}
    return {
        "benchmark": "latency-compare",
        "revisions": [before.get("revision"), after.get("revision")],
        "same_machine": machines[0] == machines[1],
        "settings": differing(before.get("settings", {}), after.get("settings", {}), WORK),
        "bundles": differing(bundles[0], bundles[1], sorted({*bundles[0], *bundles[1]} & both)),
        "fp32_rate_ratio": rates[1] / rates[0] if all(rates) else None,
        "points": rows,
        "only_before": [
            list(k) for k in map(point_key, before["results"]) if k not in map(point_key, after["results"])
        ],
        "only_after": [list(k) for k in map(point_key, after["results"]) if k not in map(point_key, before["results"])],
    }


def value_text(value: Any) -> str:
    return "not recorded" if value is None else json.dumps(value)


def comparison_document(comparison: Values) -> str:
    """The comparison as Markdown."""
    rows = [
        [*point_cells(r), *(format_number(r["ratios"].get(k)) for k in COMPARED), ", ".join(r["changed"]) or "no"]
        for r in comparison["points"]
    ]
    header = ["size", "backend", "precision", "steps", "candidates", "clip s", *COMPARED, "changed by more than 10 %"]
    machine = "the same machine and versions" if comparison["same_machine"] else "DIFFERENT MACHINES OR VERSIONS"
    rate = comparison["fp32_rate_ratio"]
    lines = [f"Ratios of the second file to the first; {machine}; fp32 rate of matrix products {format_number(rate)}."]
    lines.append("Revisions: " + ", then ".join(r or "not recorded" for r in comparison["revisions"]) + ".")
    for kind in ("settings", "bundles"):
        for name, (old, new) in comparison[kind].items():
            lines.append(f"WARNING: different {kind}: {name}: {value_text(old)}, then {value_text(new)}.")
    alone = [f"{len(comparison[k])} points are in the {w} file only" for k, w in
             (("only_before", "first"), ("only_after", "second")) if comparison[k]]  # fmt: skip
    return "\n\n".join([*lines, *alone, markdown(header, rows) if rows else "No point is in both files."])
