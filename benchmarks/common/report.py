"""Shared by every benchmark command: options, folders of videos, tables, and the JSON object on the last line."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.common.machine import facts, revision
from engines.backends import AUTO, PRECISIONS
from runtime.audio import replacing
from runtime.errors import MaskVATError, OptionError
from train.data.video_files import VIDEOS
from train.extras import requires_extra


# ---------------------------------------------------------------- options
def command_parser(name: str, doc: str | None) -> ArgumentParser:
    """A parser for `python -m NAME` whose --help begins with the module's docstring."""
    return ArgumentParser(prog=f"python -m {name}", description=doc, formatter_class=RawDescriptionHelpFormatter)


def add_bundle_options(parser: ArgumentParser) -> None:
    """Add --engines, --backend and --precision for a command that measures one bundle."""
    add = parser.add_argument
    add("--engines", type=Path, help="folder of the bundle (default: the bundle that ships with MaskVAT)")
    add("--backend", default="auto", help="backend (default: auto)")
    add("--precision", choices=(AUTO, *PRECISIONS), default=AUTO,
        help="precision of the step graph (default: what the backend prefers)")  # fmt: skip


def add_output_options(parser: ArgumentParser, plots: str = "") -> None:
    """Add --out, and --plots with this help text if the command draws plots."""
    parser.add_argument("--out", type=Path, help="also write the JSON result to this file")
    if plots:
        parser.add_argument("--plots", type=Path, help=plots)


# ---------------------------------------------------------------- folders and files
def find_videos(folder: Path, limit: int | None = None) -> list[Path]:
    """The videos of a folder, sorted by name; at most `limit`. Raises OptionError if there are none."""
    if limit is not None and limit < 1:
        raise OptionError(f"--limit is {limit}; it must be 1 or more")
    if not folder.is_dir():
        raise OptionError(f"{folder} is not a folder; give a folder of {', '.join(VIDEOS)} files")
    videos = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEOS)[:limit]
    if not videos:
        raise OptionError(f"no videos in {folder}; give a folder of {', '.join(VIDEOS)} files")
    return videos


def make_plots_folder(folder: Path | None) -> None:
    """Make the folder for --plots. Raises OptionError if it cannot be written, or if matplotlib is missing."""
    if folder is None:
        return
    try:
        with requires_extra("bench", __name__):
            import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionError(f"--plots needs matplotlib: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make the folder {folder} ({error.strerror}); choose another for --plots") from error
    if not os.access(folder, os.W_OK):
        raise OptionError(f"no permission to write in {folder}; choose another folder for --plots")


def check_writable(path: Path | None, option: str) -> None:
    """Raises OptionError if the file cannot be written later. Called before a long measurement."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OptionError(f"{option} {path}: the folder {folder} does not exist; create it or choose another")
    if path.is_dir():
        raise OptionError(f"{option} {path} is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise OptionError(f"{option} {path}: no permission to write in {folder}; choose another folder")


# ---------------------------------------------------------------- tables
def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table. The first column is aligned left, all others right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def format_number(value: float | None, form: str = ".2f") -> str:
    """A table cell; "-" for a value that was not measured."""
    return "-" if value is None else f"{value:{form}}"


# ---------------------------------------------------------------- results
def make_result(benchmark: str, values: dict[str, Any]) -> dict[str, Any]:
    """Put the benchmark's name, the date, the git revision and the machine before `values`."""
    header = {"benchmark": benchmark, "date": date.today().isoformat(), "revision": revision()}
    return header | {"machine": facts()} | values


def save_result(values: dict[str, Any], out: Path | None) -> None:
    """Write the JSON result to `out`, if given."""
    if out is not None:
        with replacing(out) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def finish(values: dict[str, Any], out: Path | None) -> None:
    """Write the JSON result to `out`, if given, and print it as the last line, even if writing fails."""
    try:
        save_result(values, out)
    finally:
        print(json.dumps(values))


def run_command(run: Callable[[Namespace], None], args: Namespace, *errors: type[Exception]) -> int:
    """Run a benchmark and return its exit status. An expected error is printed as one line on stderr."""
    try:
        check_writable(getattr(args, "out", None), "--out")
        run(args)
    except (MaskVATError, OSError, *errors) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
