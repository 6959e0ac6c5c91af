"""The report of an evaluation: report.json, and report.md with tables like the paper's Tables 1 and 2."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from runtime.audio import replacing
from train.checkpoint import write_json
from train.evaluate.files import LEFT_OUT, NOTED, RATE, Problem
from train.evaluate.scores import Row
from train.metrics.registry import Better

PAPER: dict[str, dict[str, Better]] = {  # columns of Tables 1 and 2, by what they measure
    "quality": {"FDD": "lower", "FDM": "lower", "FAD": "lower"},
    "relevance": {"WC": "higher", "CC": "higher"},
    "alignment": {"NS": "higher", "SS": "lower"},
}
ARROWS = {"higher": "↑", "lower": "↓"}
SHOWN = 5  # messages of each kind in report.md; report.json has all


@dataclass(frozen=True)
class Section:
    """One test set: its name, its number of clips in the reference, and a row per system."""

    name: str
    clips: int
    rows: dict[str, Row]
    doubts: list[str] = field(default_factory=list)  # Frechet distances that rest on too few vectors


@dataclass
class Report:
    """The content of a report."""

    reference: str
    columns: dict[str, Better]
    sections: list[Section]
    ceiling: str | None  # name of the codec's row, which is never marked as the best
    left_out: list[str] = field(default_factory=list)  # measures that were left out, with the reason
    problems: list[Problem] = field(default_factory=list)
    measured_with: dict[str, Any] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)  # measure -> its description

    @property
    def complete(self) -> bool:
        """Whether every system has a usable sound for every clip, and every measure worked on it."""
        return not any(problem.kind in LEFT_OUT for problem in self.problems)


# ---------------------------------------------------------------- JSON
def as_json(report: Report) -> dict[str, Any]:
    """The content of report.json. `systems` has the rows of the whole reference, `subsets` those of each subset."""
    whole, *subsets = report.sections
    problems = [{"kind": p.kind, "where": p.where, "clip": p.clip, "words": p.message} for p in report.problems]
    return {
        "reference": report.reference,
        "date": date.today().isoformat(),
        "complete": report.complete,
        "clips": whole.clips,
        "systems": whole.rows,
        "subsets": {section.name: {"clips": section.clips, "systems": section.rows} for section in subsets},
        "doubts": {section.name: section.doubts for section in report.sections},
        "better": report.columns,
        "meanings": report.meanings,
        "left_out": report.left_out,
        "counts": dict(Counter(p.kind for p in report.problems)),
        "problems": problems,
        "measured_with": report.measured_with,
    }


# ---------------------------------------------------------------- Markdown
def number(value: float) -> str:
    """Format a number with at most three decimals, and at most four digits if it has decimals."""
    decimals = next((3 - k for k in range(3) if abs(value) < 10 ** (k + 1)), 0)
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def cell(entry: Mapping[str, Any] | None, best: bool) -> str:
    """`value [low, high]`. The best value is bold; a missing one is a dash."""
    if entry is None:
        return "–"
    value = f"**{number(entry['value'])}**" if best else number(entry["value"])
    return value if entry["low"] is None else f"{value} [{number(entry['low'])}, {number(entry['high'])}]"


def best_of(rows: Mapping[str, Row], column: str, better: Better, ceiling: str | None) -> str | None:
    """The system with the best value; None if there are fewer than two systems to compare."""
    have = {name: row[column]["value"] for name, row in rows.items() if column in row and name != ceiling}
    if len(have) < 2:
        return None
    return (max if better == "higher" else min)(have, key=lambda name: have[name])


def table(report: Report, section: Section, columns: Mapping[str, Better]) -> list[str]:
    """A Markdown table, one row per system."""
    heads = [f"{name} {ARROWS[better]}" for name, better in columns.items()]
    best = {name: best_of(section.rows, name, better, report.ceiling) for name, better in columns.items()}
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(columns)]
    for name, row in section.rows.items():
        cells = [cell(row.get(column), best[column] == name) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def section_lines(report: Report, section: Section) -> list[str]:
    """The lines of one test set: the paper's table, then a table of the other measures."""
    paper = {name: better for group in PAPER.values() for name, better in group.items()}
    others = {name: better for name, better in report.columns.items() if name not in paper}
    groups = "; ".join(f"{name}: {', '.join(group)}" for name, group in PAPER.items())
    lines = [f"## {section.name}: {section.clips} clips", "", f"Measures of the paper's Tables 1 and 2 ({groups}).", ""]
    lines += table(report, section, paper)
    if others:
        lines += ["", "Other measures.", "", *table(report, section, others)]
    counts = {n: sorted({entry["clips"] for entry in row.values()}) for n, row in section.rows.items()}
    fewer = (
        " Some values rest on fewer clips, because a measure can be undefined for a clip (one without onsets, say)."
        if any(len(have) > 1 for have in counts.values())
        else ""
    )
    doubts = [f"Unreliable, because there are too few clips: {'; '.join(section.doubts)}."] if section.doubts else []
    words = [
        f"{name} {'–'.join(str(k) for k in (have[0], have[-1])[: len(have)])}" for name, have in counts.items() if have
    ]
    counted = f"Clips per value: {'; '.join(words)}.{fewer}" if words else "No clip could be scored."
    return [*lines, "", counted, *doubts, ""]


def problem_lines(report: Report) -> list[str]:
    """The lines about problems: their number, and the first messages of each kind."""
    lines = ["## Files", ""]
    if not report.problems:
        return [*lines, "Every clip of every system was scored.", ""]
    for kind, meaning in (LEFT_OUT | NOTED).items():
        found = [p for p in report.problems if p.kind == kind]
        if found:
            lines.append(f"- {kind}: {len(found)} ({meaning})")
            lines += [f"  - {problem}" for problem in found[:SHOWN]]
            lines += [f"  - and {len(found) - SHOWN} more in report.json"] if len(found) > SHOWN else []
    return [*lines, ""]


def completeness(report: Report) -> str:
    """A sentence that says whether the result is complete, and the date."""
    how = "complete" if report.complete else "NOT complete: some clips were left out (see Files)"
    return f"The result is {how}. {date.today().isoformat()}."


def as_markdown(report: Report) -> str:
    """The content of report.md."""
    lines = [f"# Evaluation against {report.reference}", "", completeness(report), ""]
    for section in report.sections:
        lines += section_lines(report, section)
    lines += ["## Measures", ""]
    lines += [f"- {name}: {title}" for name, title in report.meanings.items()]
    lines += ["- ↑ higher is better; ↓ lower is better; – not measured", ""]
    if report.left_out:
        lines += ["## Measures left out", "", *(f"- {line}" for line in report.left_out), ""]
    lines += problem_lines(report)
    lines += ["## How it was measured", ""]
    lines += [
        "- Brackets hold 95 % confidence intervals: percentiles of a bootstrap over clips. Those of a Frechet distance",
        "  are corrected for the bias of bootstrap samples. The best system is bold; the codec's row does not compete.",
        f"- Sounds are mono and read at {RATE} Hz (swresample, 64 filter taps). Both sounds of a pair have one length.",
        *(f"- {name}: {value}" for name, value in report.measured_with.items()),
    ]
    return "\n".join(lines) + "\n"


def write_report(report: Report, out: Path) -> None:
    """Write report.md, then report.json. If report.json exists, the report is complete."""
    with replacing(out / "report.md") as part:
        part.write_text(as_markdown(report), encoding="utf-8")
    write_json(out / "report.json", as_json(report))
