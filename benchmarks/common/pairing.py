"""What benchmarks share that compare: candidates of one clip with SCAV's choice, and bundles with one another.

Everything is paired, clip by clip, with a bootstrap 95 % interval over clips.
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
from train.evaluate.bootstrap import summarise, words

Rows = list[dict[str, Any]]


def add_options(parser: ArgumentParser) -> None:
    """--engines, --backend, --precision, and what is sampled but steps and seed."""
    add, default = parser.add_argument, runtime.SamplingConfig()
    add("--engines", type=Path, action="append", help="bundle (default: the shipped one); again for a comparison")
    add("--backend", default="auto", help="backend (default: auto)")
    add("--precision", choices=(AUTO, *PRECISIONS), action="append",
        help="of the step (default: what the backend prefers); again for a comparison")  # fmt: skip
    for name in ("guidance", "diversity"):
        value = getattr(default, name)
        add(f"--{name}", type=float, default=value, help=f"{name} (default: {value:g})")
    add("--candidates", type=int, default=1, help="SCAV chooses the best of so many (default: 1)")
    add("--compare-candidates", action="store_true", help="score all of them: SCAV's choice against mean and best")


def check_options(args: Namespace) -> None:
    """Raises OptionError for what does not go together."""
    if args.compare_candidates and args.candidates < 2:
        raise runtime.OptionError(f"--compare-candidates needs --candidates 2 or more; got {args.candidates}")
    names = [folder.resolve().name for folder in args.engines or []]
    if len(set(names)) < len(names):
        raise runtime.OptionError("bundles are told apart by their folders' names, and two are alike; rename one")
    if len(set(args.precision or [])) < len(args.precision or []):
        raise runtime.OptionError(f"--precision was given twice alike: {', '.join(args.precision)}; give each once")


def compared(args: Namespace) -> dict[str, tuple[Path | None, str]]:
    """Name -> folder and precision of what is compared: every bundle of --engines in every --precision."""
    folders = {folder.resolve().name: folder for folder in args.engines} if args.engines else {"shipped": None}
    precisions = args.precision or [AUTO]
    several = len(precisions) > 1
    return {f"{n}-{p}" if several else n: (folder, p) for n, folder in folders.items() for p in precisions}


def sampling_options(args: Namespace) -> dict[str, Any]:
    """Options of SamplingConfig but the seed: all candidates come back where all are scored."""
    chosen = {name: getattr(args, name) for name in ("steps", "guidance", "diversity", "candidates")}
    return chosen | {"takes": args.candidates if args.compare_candidates else 1}


# ---------------------------------------------------------------- candidates
def candidates(scores: Sequence[ArrayLike]) -> dict[str, Any] | None:
    """Scores of each clip's takes, [N] or [seeds, N], the one that SCAV chose first; None where there are none.

    The choice, the mean of all, the best there was, and by how much the choice is above the mean and below the best.
    """
    if not len(scores):
        return None
    clips = [np.atleast_2d(np.asarray(takes, np.float64)) for takes in scores]
    chosen, mean = (np.array([f(takes) for takes in clips]) for f in (lambda t: t[:, 0].mean(), np.mean))
    best = np.array([takes.max(axis=1).mean() for takes in clips])
    named = {"chosen": chosen, "mean": mean, "difference": chosen - mean, "best_possible": best}
    named["to_best"] = chosen - best
    return {"takes": clips[0].shape[1]} | {name: summarise(v) for name, v in named.items()}


def candidate_lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, words) for a table of what `candidates` found."""
    labels = {"chosen": "SCAV's choice", "mean": "mean of all", "difference": "choice - mean"}
    for key, label in (labels | {"best_possible": "best possible", "to_best": "choice - best"}).items():
        yield f"{label} of {found['takes']}", words(found[key])


# ---------------------------------------------------------------- bundles
def differences(rows: Mapping[str, Rows], score: str) -> dict[str, dict[str, Any] | None]:
    """{"a - b": difference of a score by clip} of every two bundles, over the clips that have it in both."""
    found = {}
    for a, b in combinations(rows, 2):
        both = [(x[score], y[score]) for x, y in zip(rows[a], rows[b], strict=True) if score in x and score in y]
        found[f"{a} - {b}"] = summarise([x - y for x, y in both])
    return found
