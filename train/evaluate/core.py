"""`python -m train.evaluate SYSTEM_DIR [SYSTEM_DIR ...] --reference DIR --out REPORT/`: score any system's sounds.

A SYSTEM_DIR, or NAME=DIR, holds sounds or videos, one per clip, called as the reference's. REPORT/ gets report.json,
report.md (the paper's Tables 1 and 2), plots, and index.html with players. A measure whose weights are not in
--weights is left out, with a line that says which file it needs.

Exit status: 0 the result is complete; 3 the report is written, but clips were left out; 1 error, no report.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from runtime.errors import MediaError, OptionError
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch

    from train.errors import CheckpointError
    from train.evaluate.avbench import AVBenchmark
    from train.evaluate.codec import Codec, load_codec, reconstruct, row_name
    from train.evaluate.files import SHORTEST, Folder, Problem, fit, read_list, read_sound, scan, scan_systems
    from train.evaluate.page import Clip, Shown, choose
    from train.evaluate.report import Report, Section, write_report
    from train.evaluate.scores import Loaded, Measured, Tally, columns, measure
    from train.metrics import METRICS, Film, MissingWeights, Pair
    from train.models.loading import WeightsError, file_sha256

INCOMPLETE = 3  # exit status
EXPECTED = (MediaError, OptionError, CheckpointError, WeightsError, ModuleNotFoundError, OSError)


def load_measures(names: Sequence[str] | None, weights: Path | None, device: str) -> tuple[list[Loaded], list[str]]:
    """The measures that can be taken, and a line for each that cannot. A measure that was asked for must be there."""
    unknown = sorted(set(names or ()) - set(METRICS))
    if unknown:
        raise OptionError(f"--metrics {', '.join(unknown)}: unknown; choose from {', '.join(METRICS)}")
    ready, missing = [], []
    for name in names or METRICS:
        try:
            ready.append(Loaded(METRICS[name], METRICS[name].load(weights, device)))
        except MissingWeights as error:
            if names:
                raise OptionError(str(error)) from error
            missing.append(str(error))
    return ready, missing


@dataclass
class Evaluation:
    """One run: the folders, and what goes wrong with them."""

    reference: Folder
    systems: list[Folder]
    codec: Codec | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def rows(self) -> list[str]:
        """The codec's row first, as in the paper."""
        return [*([] if self.codec is None else [row_name(self.codec)]), *(folder.name for folder in self.systems)]

    def __post_init__(self) -> None:
        names = [folder.name for folder in self.systems]
        if self.codec is not None and row_name(self.codec) in names:
            raise OptionError(f"a system is called {row_name(self.codec)!r}, as the row of --codec; write NAME=DIR")
        for folder in (self.reference, *self.systems):
            self.problems += folder.problems
        claimed = {problem.clip for folder in (self.reference, *self.systems) for problem in folder.problems}
        for folder in self.systems:
            self._compare(folder, claimed)

    def _compare(self, folder: Folder, claimed: set[str]) -> None:
        """Names that only one side has; `claimed` are told already."""
        if not set(folder.clips) & set(self.reference.clips):
            mine, theirs = next(iter(folder.clips), "-"), next(iter(self.reference.clips), "-")
            raise OptionError(
                f"no file of {folder.path} is called as one of {self.reference.path} ({mine!r}, {theirs!r}); "
                "name the sounds after the reference's clips"
            )
        for clip in sorted((set(self.reference.clips) - set(folder.clips)) - claimed):
            self.problems.append(Problem("missing", folder.name, clip, f"no file in {folder.path}"))
        for clip in sorted((set(folder.clips) - set(self.reference.clips)) - claimed):
            words = f"{folder.clips[clip].sound.name} has no counterpart in {self.reference.path}"
            self.problems.append(Problem("no reference", folder.name, clip, words))

    def clips(self, names: Iterable[str] | None = None) -> Iterator[Clip]:
        """The reference's clips (or those of `names`) that can be read, with every sound made for them."""
        for name in self.reference.clips if names is None else names:
            media = self.reference.clips[name]
            reference, problems = read_sound(media, "reference", name)
            self.problems += problems
            if reference is None:
                continue
            clip = Clip(name, reference, media.film, {})
            if self.codec is not None:
                clip.made[row_name(self.codec)] = reconstruct(self.codec, reference)
            for folder in self.systems:
                if name in folder.clips:
                    sound, problems = read_sound(folder.clips[name], folder.name, name)
                    self.problems += problems
                    if sound is not None:
                        clip.made[folder.name] = sound
            yield clip

    def score(self, clip: Clip, measures: Sequence[Loaded]) -> Iterator[tuple[str, Measured]]:
        """(system, what was measured) for every sound of a clip."""
        film = None if clip.film is None else Film(clip.film)
        for system, sound in clip.made.items():
            generated, reference, words = fit(sound, clip.reference)
            if words is not None:
                self.problems.append(Problem("duration", system, clip.name, words))
            if reference.seconds < SHORTEST:
                words = f"{reference.seconds:.2f} s in common with the reference; at least {SHORTEST:g} s are needed"
                self.problems.append(Problem("too short", system, clip.name, words))
                continue
            measured = measure(measures, Pair(generated, reference, film))
            for failure in measured.failures:
                self.problems.append(Problem("not measured", system, clip.name, failure))
            yield system, measured


def read_subsets(paths: Sequence[Path], reference: Folder, problems: list[Problem]) -> dict[str, frozenset[str]]:
    """Test set -> its clips, by the lists' names. Raises OptionError where a list has no clip of the reference."""
    subsets: dict[str, frozenset[str]] = {}
    for path in paths:
        names = read_list(path)
        known = frozenset(names) & frozenset(reference.clips)
        if not known:
            raise OptionError(
                f"none of the {len(names)} names in {path} is a clip of {reference.path} ({names[0]!r} first)"
            )
        if path.stem in (*subsets, reference.path.resolve().name):
            raise OptionError(f"two test sets are called {path.stem}; rename the list {path}")
        words = f"{path} names it, and {reference.path} has no such clip"
        problems += [Problem("not in the reference", path.stem, n, words) for n in names if n not in known]
        subsets[path.stem] = known
    return subsets


def facts(measures: Sequence[Loaded], weights: Path | None, codec: Codec | None) -> dict[str, Any]:
    """What the numbers depend on: versions, and hashes of the weights."""
    found: dict[str, Any] = {"versions": f"numpy {np.__version__}, torch {torch.__version__}, PyAV {av.__version__}"}
    for loaded in measures:
        for entry in loaded.metric.weights:
            path = None if weights is None else entry.find(weights)
            if path is not None:
                found[path.name] = f"sha256 {file_sha256(path)}"
    return found | ({} if codec is None else {"codec": codec.name})


def tally(args: argparse.Namespace, evaluation: Evaluation, measures: Sequence[Loaded], shown: Shown) -> list[Section]:
    """One pass over the clips: every test set's rows."""
    sets = {args.reference.resolve().name: frozenset(evaluation.reference.clips)}
    sets |= read_subsets(args.subset, evaluation.reference, evaluation.problems)
    tallies = {title: {name: Tally() for name in evaluation.rows} for title in sets}
    export = None if args.av_benchmark is None else AVBenchmark(args.av_benchmark)
    for number, clip in enumerate(evaluation.clips(), 1):
        print(f"{number}/{len(evaluation.reference.clips)} {clip.name}", file=sys.stderr, flush=True)
        for system, measured in evaluation.score(clip, measures):
            for title in (title for title, known in sets.items() if clip.name in known):
                tallies[title][system].add(clip.name, measured)
        shown.take(clip)
        if export is not None:
            export.take(clip)
    if export is not None:
        print("\n".join(export.words()))
    order = columns(measures)
    doubts = {t: [f"{n}: {words}" for n, one in tallies[t].items() for words in one.too_few()] for t in sets}
    return [Section(t, len(sets[t]), {n: one.row(order) for n, one in tallies[t].items()}, doubts[t]) for t in sets]


def run(args: argparse.Namespace) -> Report:
    """Everything but the command line. Raises what EXPECTED names."""
    if args.show < 0:
        raise OptionError(f"--show is {args.show}; it must be 0 or more")
    codec = None if args.codec is None else load_codec(args.codec, args.device)
    evaluation = Evaluation(scan(args.reference, "reference"), scan_systems(args.systems), codec)
    measures, missing = load_measures(args.metrics.split(",") if args.metrics else None, args.weights, args.device)
    for line in missing:
        print(line, file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    shown = Shown(args.out, choose(sorted(evaluation.reference.clips), args.show))
    sections = tally(args, evaluation, measures, shown)
    ceiling = None if codec is None else row_name(codec)
    report = Report(str(args.reference), columns(measures), sections, ceiling, missing)
    report.problems, report.measured_with = evaluation.problems, facts(measures, args.weights, codec)
    report.meanings = {loaded.metric.name: loaded.metric.title for loaded in measures}
    shown.finish(report)
    write_report(report, args.out)
    return report
