"""Paired comparisons: SCAV's choice with the other candidates of a clip, and bundles with each other.

Every comparison is made clip by clip, with a bootstrap 95 % interval over clips.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import runtime
from engines.backends import AUTO, PRECISIONS
from train.evaluate.bootstrap import format_summary, summarise

Rows = list[dict[str, Any]]


def add_comparison_options(parser: ArgumentParser) -> None:
    """Add --engines, --backend, --precision, and the sampling options except steps and seed."""
    add, default = parser.add_argument, runtime.SamplingConfig()
    add(
        "--engines",
        type=Path,
        action="append",
        help="folder of a bundle (default: the bundle that ships with MaskVAT); repeat to compare several",
    )
    add("--backend", default="auto", help="backend (default: auto)")
    add("--precision", choices=(AUTO, *PRECISIONS), action="append",
        help="precision of the step graph (default: what the backend prefers); repeat to compare several")  # fmt: skip
    for name in ("guidance", "diversity"):
        value = getattr(default, name)
        add(f"--{name}", type=float, default=value, help=f"{name} (default: {value:g})")
    add("--candidates", type=int, default=1, help="number of sounds that SCAV chooses from (default: 1)")
    add(
        "--compare-candidates",
        action="store_true",
        help="score all candidates, and compare SCAV's choice with their mean and their best",
    )


def check_comparison_options(args: Namespace) -> None:
    """Raises OptionError for options that do not fit together."""
    if args.compare_candidates and args.candidates < 2:
        raise runtime.OptionError(f"--compare-candidates needs --candidates 2 or more; got {args.candidates}")
    names = [folder.resolve().name for folder in args.engines or []]
    if len(set(names)) < len(names):
        raise runtime.OptionError("two --engines folders have the same name, which identifies a bundle; rename one")
    if len(set(args.precision or [])) < len(args.precision or []):
        raise runtime.OptionError(f"--precision has a value twice: {', '.join(args.precision)}; give each value once")


def systems_to_compare(args: Namespace) -> dict[str, tuple[Path | None, str]]:
    """Name -> bundle folder and precision: every bundle of --engines in every --precision."""
    folders = {folder.resolve().name: folder for folder in args.engines} if args.engines else {"shipped": None}
    precisions = args.precision or [AUTO]
    several = len(precisions) > 1
    return {f"{n}-{p}" if several else n: (folder, p) for n, folder in folders.items() for p in precisions}


def sampling_options(args: Namespace) -> dict[str, Any]:
    """SamplingConfig options without the seed. With --compare-candidates all candidates are returned as takes."""
    chosen = {name: getattr(args, name) for name in ("steps", "guidance", "diversity", "candidates")}
    return chosen | {"takes": args.candidates if args.compare_candidates else 1}


# ---------------------------------------------------------------- candidates
def compare_candidates(scores: Sequence[ArrayLike]) -> dict[str, Any] | None:
    """Compare SCAV's choice with the other takes, for each clip's scores [N] or [seeds, N]; the choice comes first.

    Returns summaries of the choice, the mean of all takes, the best take, and the choice minus each of these two.
    Returns None if there are no clips.
    """
    if not len(scores):
        return None
    videos = [np.atleast_2d(np.asarray(takes, np.float64)) for takes in scores]
    chosen, mean = (np.array([f(takes) for takes in videos]) for f in (lambda t: t[:, 0].mean(), np.mean))
    best = np.array([takes.max(axis=1).mean() for takes in videos])
    named = {"chosen": chosen, "mean": mean, "difference": chosen - mean, "best_possible": best}
    named["to_best"] = chosen - best
    return {"takes": videos[0].shape[1]} | {name: summarise(v) for name, v in named.items()}


def candidate_lines(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, value) of each line of a table of the figures of `compare_candidates`."""
    labels = {"chosen": "SCAV's choice", "mean": "mean of all", "difference": "choice - mean"}
    for key, label in (labels | {"best_possible": "best possible", "to_best": "choice - best"}).items():
        yield f"{label} of {figures['takes']}", format_summary(figures[key])


# ---------------------------------------------------------------- bundles
def paired_differences(rows: Mapping[str, Rows], score: str) -> dict[str, dict[str, Any] | None]:
    """{"a - b": summary of the difference of a score by clip} for every two bundles.

    Only clips with the score in both bundles count.
    """
    found = {}
    for a, b in combinations(rows, 2):
        both = [(x[score], y[score]) for x, y in zip(rows[a], rows[b], strict=True) if score in x and score in y]
        found[f"{a} - {b}"] = summarise([x - y for x, y in both])
    return found
