"""Runs an evaluation: pairs the clips of the folders, scores them in one pass, and writes the report.

`run` is the whole evaluation. `Evaluation` gives the paired clips; train.listen uses it too.
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
    from train.evaluate.files import SHORTEST, Folder, Problem, match_length, read_list, read_sound, scan, scan_systems
    from train.evaluate.page import Clip, ShownClips, choose
    from train.evaluate.report import Report, Section, write_report
    from train.evaluate.scores import Loaded, Measured, Tally, columns, measure
    from train.metrics import METRICS, Film, MissingWeights, Pair
    from train.models.loading import WeightsError, file_sha256

EXPECTED = (MediaError, OptionError, CheckpointError, WeightsError, ModuleNotFoundError, OSError)


def load_measures(names: Sequence[str] | None, weights: Path | None, device: str) -> tuple[list[Loaded], list[str]]:
    """Load the measures; also returns a line for each one whose weights are missing.

    Raises OptionError for an unknown name, and for missing weights of a measure in `names`.
    """
    unknown = sorted(set(names or ()) - set(METRICS))
    if unknown:
        raise OptionError(f"--metrics has unknown names: {', '.join(unknown)}; choose from {', '.join(METRICS)}")
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
    """The folders of one evaluation, and the problems found in them."""

    reference: Folder
    systems: list[Folder]
    codec: Codec | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def rows(self) -> list[str]:
        """The names of the report's rows. The codec's comes first, as in the paper."""
        return [*([] if self.codec is None else [row_name(self.codec)]), *(folder.name for folder in self.systems)]

    def __post_init__(self) -> None:
        names = [folder.name for folder in self.systems]
        if self.codec is not None and row_name(self.codec) in names:
            raise OptionError(
                f"a system has the name {row_name(self.codec)!r}, which --codec uses; write NAME=DIR to rename it"
            )
        for folder in (self.reference, *self.systems):
            self.problems += folder.problems
        claimed = {problem.clip for folder in (self.reference, *self.systems) for problem in folder.problems}
        for folder in self.systems:
            self._compare(folder, claimed)

    def _compare(self, folder: Folder, claimed: set[str]) -> None:
        """Note the clips that only one side has, except `claimed`, which have a problem already."""
        if not set(folder.clips) & set(self.reference.clips):
            mine, theirs = next(iter(folder.clips), "-"), next(iter(self.reference.clips), "-")
            raise OptionError(
                f"{folder.path} and {self.reference.path} have no file name in common (they have {mine!r} and "
                f"{theirs!r}, for example); name the sounds like the reference's clips"
            )
        for clip in sorted((set(self.reference.clips) - set(folder.clips)) - claimed):
            self.problems.append(Problem("missing", folder.name, clip, f"no file in {folder.path}"))
        for clip in sorted((set(folder.clips) - set(self.reference.clips)) - claimed):
            words = f"{folder.clips[clip].sound.name} has no counterpart in {self.reference.path}"
            self.problems.append(Problem("no reference", folder.name, clip, words))

    def clips(self, names: Iterable[str] | None = None) -> Iterator[Clip]:
        """Yield the readable clips of the reference (or of `names`), with every sound made for them."""
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
        """Yield (system, measurements) for every sound of a clip."""
        film = None if clip.film is None else Film(clip.film)
        for system, sound in clip.made.items():
            generated, reference, words = match_length(sound, clip.reference)
            if words is not None:
                self.problems.append(Problem("duration", system, clip.name, words))
            if reference.seconds < SHORTEST:
                words = f"it has {reference.seconds:.2f} s in common with the reference; {SHORTEST:g} s are needed"
                self.problems.append(Problem("too short", system, clip.name, words))
                continue
            measured = measure(measures, Pair(generated, reference, film))
            for failure in measured.failures:
                self.problems.append(Problem("not measured", system, clip.name, failure))
            yield system, measured


def read_subsets(paths: Sequence[Path], reference: Folder, problems: list[Problem]) -> dict[str, frozenset[str]]:
    """The clips of each --subset list, by the list's name. Raises OptionError if it has no clip of the reference."""
    subsets: dict[str, frozenset[str]] = {}
    for path in paths:
        names = read_list(path)
        known = frozenset(names) & frozenset(reference.clips)
        if not known:
            raise OptionError(
                f"none of the {len(names)} names in {path} is a clip of {reference.path} (the first is {names[0]!r})"
            )
        if path.stem in (*subsets, reference.path.resolve().name):
            raise OptionError(f"two test sets have the name {path.stem}; rename the list {path}")
        words = f"{path} lists it, but {reference.path} has no clip of that name"
        problems += [Problem("not in the reference", path.stem, n, words) for n in names if n not in known]
        subsets[path.stem] = known
    return subsets


def provenance(measures: Sequence[Loaded], weights: Path | None, codec: Codec | None) -> dict[str, Any]:
    """What the results depend on: the versions of libraries, and the hashes of the weights."""
    found: dict[str, Any] = {"versions": f"numpy {np.__version__}, torch {torch.__version__}, PyAV {av.__version__}"}
    for loaded in measures:
        for entry in loaded.metric.weights:
            path = None if weights is None else entry.find(weights)
            if path is not None:
                found[path.name] = f"sha256 {file_sha256(path)}"
    return found | ({} if codec is None else {"codec": codec.name})


def score_all(
    args: argparse.Namespace, evaluation: Evaluation, measures: Sequence[Loaded], shown: ShownClips
) -> list[Section]:
    """Score all clips in one pass; returns a section with its rows for every test set."""
    sets = {args.reference.resolve().name: frozenset(evaluation.reference.clips)}
    sets |= read_subsets(args.subset, evaluation.reference, evaluation.problems)
    tallies = {title: {name: Tally() for name in evaluation.rows} for title in sets}
    export = None if args.av_benchmark is None else AVBenchmark(args.av_benchmark)
    for number, clip in enumerate(evaluation.clips(), 1):
        print(f"{number}/{len(evaluation.reference.clips)} {clip.name}", file=sys.stderr, flush=True)
        for system, measured in evaluation.score(clip, measures):
            for title in (title for title, known in sets.items() if clip.name in known):
                tallies[title][system].add(clip.name, measured)
        shown.add(clip)
        if export is not None:
            export.add(clip)
    if export is not None:
        print("\n".join(export.summary_lines()))
    order = columns(measures)
    doubts = {t: [f"{n}: {words}" for n, one in tallies[t].items() for words in one.undersampled()] for t in sets}
    return [Section(t, len(sets[t]), {n: one.row(order) for n, one in tallies[t].items()}, doubts[t]) for t in sets]


def run(args: argparse.Namespace) -> Report:
    """The whole evaluation, given the parsed options. Raises one of EXPECTED."""
    if args.show < 0:
        raise OptionError(f"--show is {args.show}; it must be 0 or more")
    codec = None if args.codec is None else load_codec(args.codec, args.device)
    evaluation = Evaluation(scan(args.reference, "reference"), scan_systems(args.systems), codec)
    measures, missing = load_measures(args.metrics.split(",") if args.metrics else None, args.weights, args.device)
    for line in missing:
        print(line, file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    shown = ShownClips(args.out, choose(sorted(evaluation.reference.clips), args.show))
    sections = score_all(args, evaluation, measures, shown)
    ceiling = None if codec is None else row_name(codec)
    report = Report(str(args.reference), columns(measures), sections, ceiling, missing)
    report.problems, report.measured_with = evaluation.problems, provenance(measures, args.weights, codec)
    report.meanings = {loaded.metric.name: loaded.metric.title for loaded in measures}
    shown.finish(report)
    write_report(report, args.out)
    return report
