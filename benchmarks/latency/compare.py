"""Two results of `benchmarks.latency` side by side."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.latency.tables import KEY, described, markdown, shown
from runtime.errors import OptionError

Values = dict[str, Any]
CHANGED = 0.10  # a ratio further from 1 than this is flagged
COMPARED = ("seconds", "p95", "peak_mb", "load_seconds", "first_clip_seconds")
WORK = ("threads", "guidance", "clip", "repeat", "limit")  # settings that change what a point does


def read_result(path: Path) -> Values:
    """A result of this benchmark. Raises OptionError."""
    try:
        values: Values = json.loads(path.read_text(encoding="utf-8"))
        points = [*values["results"], *values.get("baselines", [])]
        if values["benchmark"] != "latency" or not all(set(KEY) <= set(p) for p in points):
            raise ValueError("no result of benchmarks.latency with " + ", ".join(KEY))
        if not isinstance(values["machine"], dict):
            raise ValueError("its machine is no object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise OptionError(f"{path} cannot be compared ({reason}); give files that --out wrote") from error
    return values


def point_key(point: Values) -> tuple[Any, ...]:
    return tuple(round(v) if isinstance(v := point[k], float) else v for k in KEY)


def differing(before: Values, after: Values, names: Iterable[str]) -> dict[str, list[Any]]:
    """Name -> what either file says, where that is not the same."""
    return {n: [before.get(n), after.get(n)] for n in names if before.get(n) != after.get(n)}


def compare(before: Values, after: Values) -> Values:
    """Ratios after / before of every point that both have; `changed` where one moves by more than CHANGED."""
    rows = []
    for table in ("results", "baselines"):
        old = {point_key(p): p for p in before.get(table, [])}
        for point in after.get(table, []):
            if (was := old.get(point_key(point))) is None:
                continue
            ratios = {k: point[k] / was[k] for k in COMPARED if point.get(k) and was.get(k)}
            changed = [k for k, ratio in ratios.items() if abs(ratio - 1) > CHANGED]
            rows.append({k: point[k] for k in KEY} | {"table": table, "ratios": ratios, "changed": changed})
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


def told(value: Any) -> str:
    return "not told" if value is None else json.dumps(value)


def comparison_document(found: Values) -> str:
    rows = [
        [*described(r), *(shown(r["ratios"].get(k)) for k in COMPARED), ", ".join(r["changed"]) or "no"]
        for r in found["points"]
    ]
    header = ["size", "backend", "precision", "steps", "candidates", "clip s", *COMPARED, "changed by over 10 %"]
    machine = "the same machine and versions" if found["same_machine"] else "ANOTHER MACHINE OR OTHER VERSIONS"
    rate = found["fp32_rate_ratio"]
    lines = [f"Ratios, the second file over the first; {machine}; fp32 rate of matrix products {shown(rate)}."]
    lines.append("Revisions: " + ", then ".join(r or "not told" for r in found["revisions"]) + ".")
    for kind in ("settings", "bundles"):
        for name, (old, new) in found[kind].items():
            lines.append(f"WARNING: other work, {kind} {name}: {told(old)}, then {told(new)}.")
    alone = [f"{len(found[k])} points are in the {w} file only" for k, w in
             (("only_before", "first"), ("only_after", "second")) if found[k]]  # fmt: skip
    return "\n\n".join([*lines, *alone, markdown(header, rows) if rows else "No point is in both files."])
