"""The Markdown tables of benchmarks.latency."""

from collections.abc import Sequence
from typing import Any

from benchmarks.common.report import format_number
from benchmarks.latency.points import STAGES

Values = dict[str, Any]
POINT_KEY = ("size", "backend", "precision", "steps", "candidates", "clip_seconds")  # these identify a point


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: text aligned left, numbers right."""
    numbers = [all(row[k][:1] in "-+0123456789" for row in rows) for k in range(len(header))]
    rule = ["--:" if number else "---" for number in numbers]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(header), rule, *map(list, rows)])


def point_cells(point: Values) -> list[str]:
    return [str(point[k]) for k in POINT_KEY]


# ---------------------------------------------------------------- tables
def points_table(points: Sequence[Values]) -> str:
    """Seconds, memory and quality."""
    rows = []
    for p in points:
        agreement, f1 = p.get("agreement") or {}, p.get("onset_f1")
        quality = [format_number(agreement.get(k), ".4f") for k in ("tokens_equal_given", "tokens_equal_free")]
        quality.append(format_number(f1["mean"] if f1 else None, ".3f"))
        times = [f"{p[k]:.2f}" for k in ("seconds", "p95", "load_seconds", "first_clip_seconds")]
        rows.append([*point_cells(p), *times, f"{p['peak_mb']:.0f}", *quality])
    header = ["size", "backend", "precision", "steps", "candidates", "clip s", "seconds", "p95", "import + load"]
    header += ["to first sound", "peak MB", "tokens equal, teacher-forced", "free-running", "onset F1"]
    return markdown(header, rows)


def stages_table(points: Sequence[Values]) -> str:
    """Seconds of each stage, and the share of the machine's peak rate of matrix products that it reaches."""
    rows = []
    for p in points:
        shares = p.get("shares") or {}
        cells = []
        for stage in STAGES:
            share = f" ({shares[stage]:.0%})" if stage in shares else ""
            cells.append(f"{p['stages'][stage]:.3f}{share}")
        rows.append([*point_cells(p), *cells])
    return markdown(["size", "backend", "precision", "steps", "candidates", "clip s", *STAGES], rows)


def baselines_table(baselines: Sequence[Values]) -> str:
    rows = []
    for b in baselines:
        times = [f"{b[k]:.2f}" for k in ("seconds", "p95", "first_clip_seconds")]
        rows.append([*point_cells(b), *times, f"{b['peak_mb']:.0f}", format_number(b.get("tokens_equal"), ".4f")])
    header = ["size", "baseline", "precision", "steps", "candidates", "clip s", "seconds", "p95", "to first sound"]
    return markdown([*header, "peak MB", "tokens equal to ours in fp32"], rows)


def pairs_table(pairs: Sequence[Values]) -> str:
    rows = [
        [p["size"], str(p["steps"]), f"{p['ours']['backend']} {p['ours']['precision']}", f"{p['ours']['seconds']:.2f}",
         f"{p['theirs']['backend']} {p['theirs']['precision']}", f"{p['theirs']['seconds']:.2f}",
         f"{p['ratio']:.2f} [{p['lowest']:.2f}, {p['highest']:.2f}]", str(p["pairs"])]
        for p in pairs
    ]  # fmt: skip
    return markdown(["size", "steps", "ours", "seconds", "baseline", "seconds", "times as fast", "pairs"], rows)


def floor_table(floors: Sequence[Values]) -> str:
    """Every matrix product of a step with its shape and its measured rate."""
    rows = []
    for floor in floors:
        for r in floor["products"]:
            shape = f"{r['batch']} x [{r['m']}, {r['k']}] x [{r['k']}, {r['n']}]"
            row = [floor["size"], floor["precision"], r["name"], str(r["count"]), shape, r["precision"]]
            rows.append([*row, f"{r['gflops']:.0f}", r["library"]])
        read = floor.get("weights_floor_seconds")
        weights = "" if read is None else f"reading the weights once: {read * 1000:.1f} ms"
        rows.append([floor["size"], floor["precision"], "a whole step", "", weights, "", f"{floor['gflops']:.0f}", ""])
    return markdown(["size", "step", "product", "times", "shape", "computed in", "GFLOP/s", "fastest"], rows)


def profiles_table(profiles: Sequence[Values]) -> str:
    """The operators of a step on the CPU, or the kernels of a clip on a GPU, that take 1 % or more."""
    rows = [
        [
            p["size"],
            p.get("backend", "cpu"),
            p["precision"],
            o["operator"],
            str(o["calls"]),
            f"{o['milliseconds']:.1f}",
            f"{o['share']:.1%}",
        ]
        for p in profiles
        for o in p["operators"]
        if o["share"] >= 0.01
    ]
    return markdown(["size", "backend", "precision", "operator", "calls", "ms", "share"], rows)


def machine_lines(values: Values) -> str:
    m = values["machine"]
    cpu = " ".join([m["cpu"], *m.get("extensions", ())])  # results from before 2026-11-25 have no extensions
    lines = [f"{values['date']}, {cpu}, {m['cores']} cores, {m['system']}, Python {m['python']}"]
    lines.append(", ".join(f"{k} {v}" for k, v in m["packages"].items()))
    if m.get("card"):
        lines.append(m["card"])
    if "machine_floor" in values:
        floor = values["machine_floor"]
        rates = ", ".join(f"{k} {v:.0f} GFLOP/s" for k, v in floor["gflops"].items())
        rates += "".join(f", card {k} {v / 1000:.0f} TFLOP/s" for k, v in floor.get("card_gflops", {}).items())
        copied = f"copying {floor['bandwidth_gb_per_second']:.1f} GB/s"
        if "card_bandwidth_gb_per_second" in floor:
            copied += f", card {floor['card_bandwidth_gb_per_second']:.0f} GB/s"
        lines.append(f"square matrix products: {rates}; {copied}")
    return "  \n".join(lines)


def bars_lines(bars: Values) -> str:
    """The end-to-end figures. Some may be missing, because a run can end early."""
    lines = []
    if "backend" in bars:  # results from before 2026-11-26 do not have it
        lines.append(
            f"- backend {bars['backend']}, step in {bars['precision']}, {bars['threads'] or 'default'} threads"
        )
    for w in bars.get("whole_process", ()):
        memory = f", peak memory {w['command_peak_mb']:.0f} MB" if w.get("command_peak_mb") else ""
        lines.append(f"- whole process, 10 s clip, {w['steps']} steps: {w['seconds']:.2f} s{memory}")
    if "import_and_load" in bars:
        lines.append(f"- import and load: {bars['import_and_load']['seconds']:.2f} s")
    if "long_clip_memory" in bars:
        memory = bars["long_clip_memory"]
        above = f"{memory['above_mb']:+.0f} MB for {memory['long_seconds']} s"
        lines.append(f"- peak memory with two steps: {memory['short_mb']:.0f} MB for 10 s, {above}")
    if "installed_mb" in bars:
        sizes = bars["installed_mb"]
        packages = ", ".join(f"{k} {v:.1f}" for k, v in sizes["packages"].items())
        lines.append(f"- installed, without the bundle: {sizes['total']:.1f} MB ({packages})")
    return "\n".join(lines)


def first_sound_table(found: Values) -> str:
    """How soon a long clip is heard, with --stream and without."""
    rows = []
    for name, label in (("stream", "--stream"), ("whole", "without")):
        r = found[name]
        times = [format_number(r[k], ".2f") for k in ("first_seconds", "eight_seconds", "seconds")]
        rows.append([label, *times, format_number(r["peak_mb"], ".0f")])
    header = [
        f"{found['clip_seconds']} s, {found['steps']} steps",
        "s to the first sound",
        "s to 8 s of it",
        "s to the end",
    ]
    return markdown([*header, "peak MB"], rows)


def at_once_table(found: Values) -> str:
    """How long a clip takes while others are made."""
    rows = []
    for p in found["points"]:
        times = [f"{p[k]:.2f}" for k in ("seconds", "p95")]
        rows.append([str(p["at_once"]), str(p["threads"]), *times, f"{p['clips_per_hour']:.0f}"])
    header = [f"clips of {found['clip_seconds']} s at once, {found['steps']} steps", "threads each", "seconds", "p95"]
    return markdown([*header, "clips per hour"], rows)


def document(values: Values) -> str:
    """All tables, after the machine."""
    parts = ["# Latency", machine_lines(values), *values["notes"]]
    tables = (
        ("Points", "results", points_table),
        ("Stages: seconds (share of the peak rate of matrix products)", "results", stages_table),
        ("Pairs with PyTorch", "pairs", pairs_table),
        ("Baselines", "baselines", baselines_table),
        ("Floor of a step", "floors", floor_table),
        ("One step on the CPU by operator, one clip on a GPU by kernel", "profiles", profiles_table),
    )
    for title, name, make in tables:
        if values.get(name):
            parts += [f"## {title}", make(values[name])]
    if values.get("bars"):
        parts += ["## Whole process, memory, size", bars_lines(values["bars"])]
    if values.get("first_sound"):
        parts += ["## How soon a long clip is heard", first_sound_table(values["first_sound"])]
    if values.get("at_once"):
        parts += ["## Several clips at once", at_once_table(values["at_once"])]
    return "\n\n".join(parts) + "\n"
