"""The table of benchmarks.latency.peers, and its place in a guide."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.latency.tables import markdown
from runtime.audio import replacing
from runtime.errors import OptionError

STAGES = ("video", "features", "generation", "codec")
BEGIN = "<!-- what follows is written by python -m benchmarks.latency.peers --table -->"
END = "<!-- end of what is written -->"
WIDTH = 148  # columns of prose


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Results of this command. Raises OptionError for other files and for results of different machines."""
    results = []
    for path in paths:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"--table {path} cannot be read ({error}); give results of --out") from error
        if not isinstance(values, dict) or values.get("benchmark") != "peers":
            raise OptionError(f"--table {path} is not a result of benchmarks.latency.peers; give a file of its --out")
        results.append(values)
    machines = {(r["machine"]["cpu"], r["machine"]["cores"], r["settings"]["threads"]) for r in results}
    if len(machines) > 1:
        raise OptionError(f"--table: the results are of different machines ({sorted(machines)}); give those of one")
    return results


def stage_seconds(system: dict[str, Any], stage: str) -> tuple[float, bool]:
    """Seconds of a stage with its parts, such as "features: CLIP", and whether some of its work was left out."""

    def within(name: str) -> bool:
        return name.partition(":")[0] == stage

    seconds = sum(s for name, s in system["stages"].items() if within(name))
    return seconds, any(within(name) for name in system["in_part"])


def cell(seconds: float, in_part: bool) -> str:
    text = f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
    return text + (" *" if in_part else "")


def row(system: dict[str, Any]) -> list[str]:
    stages = [cell(*stage_seconds(system, stage)) for stage in STAGES]
    per_second = system["seconds"] / system["sound_seconds"]
    everything = cell(system["seconds"], bool(system["in_part"]))
    sound = f"{system['sound_seconds']:.4g} s, {system['sample_rate'] / 1000:g} kHz"
    return [system["name"], sound, str(system["steps"]), *stages, everything, f"{per_second:.2f}"]


def table(systems: Sequence[dict[str, Any]]) -> str:
    """Markdown: one row for each system."""
    header = ["system", "sound", "steps", *STAGES, "all", "per second of sound"]
    return markdown(header, [row(system) for system in systems])


def details(system: dict[str, Any]) -> str:
    """One item of a list: how a system was measured."""
    parts = [f"{name.partition(': ')[2]} {seconds:.1f} s" for name, seconds in system["stages"].items() if ":" in name]
    text = f"**{system['name']}**: {system['precision']}, {system['method']}"
    if system.get("commit"):
        text += f", commit {system['commit'][:10]}"
    text += f". Parts: {', '.join(parts)}." if parts else "."
    if system["in_part"]:
        left = [f"{name.rpartition(': ')[2]} {note}" for name, note in system["in_part"].items()]
        text += f" Computed in part: {', '.join(left)}."
    if system.get("packages"):
        text += " " + ", ".join(f"{name} {version}" for name, version in system["packages"].items()) + "."
    if system.get("stand_ins"):
        text += f" Not installed, not needed to generate: {', '.join(system['stand_ins'])}."
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def block(results: Sequence[dict[str, Any]]) -> str:
    """The table and what one has to know to read it."""
    systems = {system["name"] + str(system["steps"]): system for r in results for system in r["systems"]}
    machine, days = results[0]["machine"], sorted({r["date"] for r in results})
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    head = (
        f"{machine['cpu']} ({', '.join(machine['extensions'])}), {results[0]['settings']['threads']} threads, "
        f"{machine['system']}, Python {machine['python']}, {packages}. Measured on {' and '.join(days)}."
    )
    lines = [textwrap.fill(head, WIDTH), "", table(list(systems.values())), ""]
    if any(system["in_part"] for system in systems.values()):
        lines += ["`*`: some of the work was left out and charged, see below.", ""]
    return "\n".join([*lines, *(details(system) for system in systems.values())])


def write_block(guide: Path, text: str) -> None:
    """Put the block between its two marks in a guide. Raises OptionError if the guide lacks them."""
    try:
        before, _, rest = guide.read_text(encoding="utf-8").partition(BEGIN)
    except OSError as error:
        raise OptionError(f"--docs {guide} cannot be read ({error.strerror}); give docs/PEERS.md") from error
    _, found, after = rest.partition(END)
    if not found:
        raise OptionError(f"--docs {guide} lacks the lines {BEGIN!r} and {END!r}; give docs/PEERS.md")
    with replacing(guide) as part:
        part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
