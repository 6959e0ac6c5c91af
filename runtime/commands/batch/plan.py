"""Check a whole batch before any work: missing files, options, outputs that exist or have the same name."""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from runtime.commands.batch.options import MAX_JOBS, args_of
from runtime.commands.batch.sources import Entry, read_sources, with_name
from runtime.commands.make import read_options, read_request
from runtime.commands.standard_streams import say
from runtime.commands.words import KnownWords
from runtime.errors import MaskVATError, MediaError, OptionError
from runtime.sampling import whole_number

SHOWN = 20  # problems that are listed


@dataclass(frozen=True)
class Plan:
    """The sounds to make. `outputs` has all files of each; `skipped` are the numbers of those that exist."""

    entries: list[Entry]
    outputs: list[list[Path]]
    skipped: list[int]


def make_plan(args: Namespace) -> Plan:
    """Read the sources and check everything that needs no decoding. Raises MaskVATError.

    Without --keep-going, a problem of one video ends the batch. All problems are listed.
    """
    whole_number("jobs", getattr(args, "jobs", 1), 1, MAX_JOBS)
    sampling, _, edit = read_options(args)  # once: a wrong flag is no problem of each video
    known = KnownWords(args)
    known.check(edit.words, sampling)
    with _out_dir(args.out_dir):
        plan = _check_entries(args, read_sources(args.sources, args.out_dir), known)
        bad = [with_name(entry, entry.problem) for entry in plan.entries if entry.problem]
        whole = _summary_problem(args, plan)
        if whole or (bad and not args.keep_going):
            _refuse([] if args.keep_going else bad, whole, len(plan.entries))
    return plan


def _check_entries(args: Namespace, entries: list[Entry], known: KnownWords) -> Plan:
    plan = Plan([], [], [])
    owners: dict[Path, Path] = {}  # file -> the video that it is made for, or that it is
    owners.update({entry.video.resolve(): entry.video for entry in entries if not entry.problem})
    for entry in entries:
        outputs: list[Path] = []
        try:
            if not entry.problem:
                outputs = _check_entry(args, entry, known, len(plan.entries), plan.skipped)
                _own(outputs, entry.video, owners)
        except (MaskVATError, OSError) as error:
            entry, outputs = entry.failing(" ".join(str(error).split())), []
        plan.entries.append(entry)
        plan.outputs.append(outputs)
    return plan


def _check_entry(args: Namespace, entry: Entry, known: KnownWords, number: int, skipped: list[int]) -> list[Path]:
    """The outputs of one video. Raises MaskVATError."""
    video = entry.video
    if not os.path.lexists(video) or not video.exists():
        raise MediaError(f"{video}: no such file; check the path")
    if not os.access(video, os.R_OK):
        raise MediaError(f"{video}: no permission to read it")
    one = args_of(args, entry)
    request = read_request(Namespace(**vars(one) | {"overwrite": True}), try_copy=False)
    known.check(request.edit.words, request.sampling)
    there = request.outputs.files
    found = [path for path in there if os.path.lexists(path)]
    if args.skip_existing and len(found) == len(there):
        skipped.append(number)
    elif found and not args.overwrite:
        missing = [path for path in there if path not in found]
        half = f", and {missing[0]} does not" if missing else ""
        skip = "" if args.skip_existing else "--skip-existing to leave its video out, "
        raise MediaError(f"{found[0]} exists{half}; give {skip}--overwrite to replace it, or another name")
    return there


def _own(outputs: list[Path], video: Path, owners: dict[Path, Path]) -> None:
    """Note whose the outputs are. Raises OptionError if one has the name of another video's output, or of a video."""
    for path in outputs:
        owner = owners.get(path.resolve())
        if owner is not None:
            what = "a video of the batch" if owner.resolve() == path.resolve() else f"also the output for {owner}"
            raise OptionError(f"two files of one name: {path}, the output for {video}, is {what}; name outputs in a "
                "table, or use another --out-dir")  # fmt: skip
    owners.update({path.resolve(): video for path in outputs})


def _summary_problem(args: Namespace, plan: Plan) -> str:
    """What is wrong with --summary, or nothing."""
    path: Path | None = args.summary
    if path is None:
        return ""
    taken = {p.resolve() for outputs in plan.outputs for p in outputs} | {e.video.resolve() for e in plan.entries}
    if path.suffix.lower() != ".json" or path.resolve() in taken:
        return f"--summary {path}: give a name of its own that ends in .json"
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        return f"cannot write {path}: it is a folder, or its folder is missing or cannot be written"
    if path.exists() and not (args.overwrite or args.skip_existing):
        return f"{path} exists; give --skip-existing to go on, --overwrite to make everything again, or another name"
    return ""


def _refuse(bad: list[str], whole: str, count: int) -> NoReturn:
    """List the problems of videos and that of the whole batch, and raise the error that ends it."""
    lines = [*([whole] if whole else []), *bad]
    end = "nothing was made" + (" (--keep-going makes the others)" if not whole and len(bad) < count else "")
    if len(lines) == 1:
        raise OptionError(f"{lines[0]}; {end}")
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"... and {len(lines) - SHOWN} more")
    raise OptionError(f"{len(lines)} problems in a batch of {count}; {end}")


@contextmanager
def _out_dir(folder: Path | None) -> Iterator[None]:
    """Make the folder of the outputs, for good only if the checks pass."""
    made = folder is not None and not folder.exists()
    if folder is not None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise MediaError(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        if made and folder is not None:
            with suppress(OSError):
                folder.rmdir()
        raise
