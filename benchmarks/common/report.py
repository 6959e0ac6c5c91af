"""What every benchmark does with its clips and numbers: folders, tables, and the JSON of the last line."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.common.machine import facts, revision
from runtime.audio import replacing
from runtime.errors import MaskVATError, OptionError
from train.extras import requires_extra

VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be, the first to the left."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def find_clips(folder: Path, limit: int | None = None) -> list[Path]:
    """The videos of a folder by name, the first `limit` of them. Raises OptionError where there are none."""
    if limit is not None and limit < 1:
        raise OptionError(f"--limit is {limit}; it must be 1 or more")
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder; give one of {', '.join(VIDEOS)} files")
    clips = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEOS)[:limit]
    if not clips:
        raise OptionError(f"no videos in {folder}; give a folder of {', '.join(VIDEOS)} files")
    return clips


def plots_folder(folder: Path | None) -> None:
    """Make the folder of the pictures; OptionError where matplotlib, which draws them, is not installed."""
    if folder is None:
        return
    try:
        with requires_extra("bench", __name__):
            import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionError(f"--plots cannot be drawn: {error}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make the folder {folder} ({error.strerror}); choose another for --plots") from error
    if not os.access(folder, os.W_OK):
        raise OptionError(f"no permission to write in {folder}; choose another for --plots")


def writable(path: Path | None, option: str) -> None:
    """Raises OptionError where a file cannot be written later."""
    if path is None:
        return
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OptionError(f"{option} {path}: the folder {folder} does not exist; create it or choose another")
    if path.is_dir():
        raise OptionError(f"{option} {path} is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise OptionError(f"{option} {path}: no permission to write in {folder}; choose another folder")


def result(benchmark: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the benchmark's name, the date, the checkout's revision and the machine."""
    named = {"benchmark": benchmark, "date": date.today().isoformat(), "revision": revision()}
    return named | {"machine": facts()} | values


def keep(values: dict[str, Any], out: Path | None) -> None:
    """Write the JSON where it is wanted."""
    if out is not None:
        with replacing(out) as part:
            part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def finish(values: dict[str, Any], out: Path | None) -> None:
    """Write the JSON where it is wanted, and print it as the last line, whatever becomes of the file."""
    try:
        keep(values, out)
    finally:
        print(json.dumps(values))


def command(run: Callable[[Namespace], None], args: Namespace, *errors: type[Exception]) -> int:
    """Run a benchmark: its exit status; an expected error is one line on stderr."""
    try:
        writable(getattr(args, "out", None), "--out")
        run(args)
    except (MaskVATError, OSError, *errors) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
