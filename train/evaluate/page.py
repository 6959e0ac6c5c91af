"""Makes index.html: a static page with the results, and players and plots for some of the clips."""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from runtime.audio import replacing
from runtime.errors import MediaError
from train.evaluate.files import RATE
from train.evaluate.frame_difference import frame_difference
from train.evaluate.playable import write_playable
from train.evaluate.plots import Bar, Strip, bars, onset_strip, spectrogram_pairs
from train.evaluate.report import ARROWS, Report, Section, best_of, cell, completeness
from train.metrics import Sound
from train.metrics.onsets import RATE as ONSET_RATE

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; } .clip { border-top: 1px solid #ccc; padding: 1rem 0; }
.players { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } video, audio, img { width: 100%; }
table { border-collapse: collapse; } td, th { padding: .25rem .75rem; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; } .scroll { overflow-x: auto; }
.best { font-weight: 600; } li { overflow-wrap: anywhere; }
"""


WHERE = 'All details are in <a href="report.md">report.md</a> and <a href="report.json">report.json</a>. '
WHERE += "Brackets hold 95 % confidence intervals over clips."
STRIPS = (
    "The plot under each player shows, from top to bottom: how much the picture changes, the onset strength of the "
    "true and of the generated sound, and both spectrograms. Each curve and spectrogram is scaled to its own maximum. "
    "Ticks are onsets; dotted lines are the onsets of the true sound. Click a plot to see it in full size."
)
PAIRS = "True sounds above, generated sounds below. Levels are relative to the maximum of the true sound."


BEST = ' class="best"'


@dataclass(frozen=True)
class Clip:
    """One clip of the reference, and the sounds that systems made for it. Unreadable ones are absent."""

    name: str
    reference: Sound
    film: Path | None
    made: dict[str, Sound]


@dataclass
class ShownClips:
    """The clips that the page shows. `add` writes their media and plots into `out`; `finish` writes the page."""

    out: Path
    names: frozenset[str]
    players: dict[str, dict[str, str]] = field(default_factory=dict)  # clip -> system -> file, relative to the page
    pairs: dict[str, list[tuple[str, Sound, Sound]]] = field(default_factory=dict)  # system -> clips

    def add(self, clip: Clip) -> None:
        """Write the media and plots of a clip, if the page shows it."""
        if clip.name not in self.names:
            return
        files = self.players.setdefault(clip.name, {})
        for system, sound in {"reference": clip.reference, **clip.made}.items():
            path = write_playable(sound, clip.film, self.out / "media" / clip.name / system)
            files[system] = path.relative_to(self.out).as_posix()
        self._strips(clip)
        for system, sound in clip.made.items():
            self.pairs.setdefault(system, []).append((clip.name, clip.reference, sound))

    def _strips(self, clip: Clip) -> None:
        """Write one plot per system with the onsets of picture, true and generated sound, and both spectrograms."""
        truth = clip.reference.at(ONSET_RATE)
        movement = np.zeros(1)
        if clip.film is not None:
            try:
                movement = frame_difference(clip.film, clip.reference.seconds)
            except MediaError:
                pass  # A video that cannot be decoded is plotted as if nothing moved.
        folder = self.out / "strips" / clip.name
        folder.mkdir(parents=True, exist_ok=True)
        for system, sound in clip.made.items():
            strip = Strip(f"{clip.name}: {system}", movement, np.zeros(0), truth, sound.at(ONSET_RATE))
            onset_strip(folder / f"{system}.png", strip)

    def finish(self, report: Report) -> None:
        """Write the bar charts, the pairs of spectrograms, and index.html."""
        for number, section in enumerate(report.sections):
            panels = bar_panels(report, section)
            if panels:
                bars(self.out / f"bars-{number}.png", panels)
        for system, found in self.pairs.items():
            pairs = [(name, truth.at(RATE), made.at(RATE)) for name, truth, made in found]
            (self.out / "spectrograms").mkdir(exist_ok=True)
            spectrogram_pairs(self.out / "spectrograms" / f"{system}.png", pairs, RATE, "generated")
        with replacing(self.out / "index.html") as part:
            part.write_text(page(report, self), encoding="utf-8")


def choose(names: list[str], count: int) -> frozenset[str]:
    """At most `count` names, spread evenly over the list."""
    count = min(count, len(names))
    return frozenset(names[k * len(names) // count] for k in range(count))


def bar_panels(report: Report, section: Section) -> list[tuple[str, list[Bar]]]:
    """One bar chart per column that any system has."""
    panels = []
    for column, better in report.columns.items():
        have = {name: row[column] for name, row in section.rows.items() if column in row}
        if have:
            ends = {n: (e["value"], e["value"]) if e["low"] is None else (e["low"], e["high"]) for n, e in have.items()}
            panels.append((f"{column} {ARROWS[better]}", [Bar(n, e["value"], *ends[n]) for n, e in have.items()]))
    return panels


# ---------------------------------------------------------------- page
def page(report: Report, shown: ShownClips) -> str:
    """The content of index.html. It needs no server and no network."""
    title = f"Evaluation against {escape(report.reference)}"
    body = [f"<h1>{title}</h1>", f"<p>{escape(completeness(report))} {WHERE}</p>"]
    for number, section in enumerate(report.sections):
        body += [f"<h2>{escape(section.name)}: {section.clips} clips</h2>", *html_table(report, section)]
        if (shown.out / f"bars-{number}.png").exists():
            body.append(f'<img src="bars-{number}.png" alt="bar charts with 95 % confidence intervals">')
    notes = [*(f"{name}: {words}" for name, words in report.meanings.items()), *report.left_out]
    body += ["<ul>", *(f"<li>{escape(line)}</li>" for line in notes), "</ul>"]
    if shown.players:
        body += ["<h2>Clips</h2>", f"<p>{STRIPS}</p>"]
    for clip, files in shown.players.items():
        body += [f'<section class="clip"><h3>{escape(clip)}</h3><div class="players">']
        for system, file in files.items():
            body.append(player(clip, system, file))
        body.append("</div></section>")
    if shown.pairs:
        body += ["<h2>Spectrograms</h2>", f"<p>{PAIRS}</p>"]
    for system in shown.pairs:
        name = quote(f"{system}.png")
        body += [f"<h3>{escape(system)}</h3>", f'<img src="spectrograms/{name}" alt="spectrograms">']
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def player(clip: str, system: str, file: str) -> str:
    """A player with the system's name, and the system's plot under it."""
    kind = "video" if file.endswith(".mp4") else "audio"
    words = (
        f'<figcaption>{escape(system)}</figcaption><{kind} controls preload="metadata" src="{quote(file)}"></{kind}>'
    )
    if system != "reference":
        strip = quote(f"strips/{clip}/{system}.png")
        words += f'<a href="{strip}"><img loading="lazy" src="{strip}" alt="onsets and spectrograms"></a>'
    return f"<figure>{words}</figure>"


def html_table(report: Report, section: Section) -> list[str]:
    """A table of the columns that any system has."""
    columns = [c for c in report.columns if any(c in row for row in section.rows.values())]
    lines = ['<div class="scroll"><table><tr><th></th>']
    lines += [f"<th>{escape(c)} {ARROWS[report.columns[c]]}</th>" for c in columns]
    best = {c: best_of(section.rows, c, report.columns[c], report.ceiling) for c in columns}
    for name, row in section.rows.items():
        cells = "".join(f"<td{BEST if best[c] == name else ''}>{cell(row.get(c), False)}</td>" for c in columns)
        lines.append(f"</tr><tr><td>{escape(name)}</td>{cells}")
    return [*lines, "</tr></table></div>"]
