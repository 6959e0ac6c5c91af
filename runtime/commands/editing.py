"""The flags for ranges and takes: --range, --save, --from, --redo, --vary, --extend. They are checked first."""

import argparse
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from runtime.commands.words import given_flags, read_words
from runtime.edit.fingerprint import file_fingerprint
from runtime.edit.plan import check_clip
from runtime.edit.request import GenerationRequest, extend, redo, vary
from runtime.edit.take_file import check_take_file, load_take
from runtime.edit.timecode import TimeRange
from runtime.edit.words import Words
from runtime.errors import OptionError
from runtime.sampling import SamplingConfig, read_budget
from runtime.take import Take


class Noted(argparse.Action):
    """Stores a flag's value, and notes in `args.given` that the flag was given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = {*getattr(namespace, "given", ()), self.dest}


def add_edit_options(add: Callable[..., object]) -> None:
    """Add the flags for ranges and takes."""
    add("--range", metavar="IN-OUT", default=argparse.SUPPRESS,
        help="make the sound for a part of the video: seconds (2.1-3.4), frames (120f-180f), or timecode "
        "(01:00:02:05-01:00:04:00) counted from the video's start timecode; OUT is the first frame after it "
        "(default: all of it)")  # fmt: skip
    add("--save", type=Path, metavar="FILE.npz", default=argparse.SUPPRESS,
        help="also save each take, so that it can be changed later")  # fmt: skip
    add("--from", type=Path, metavar="FILE.npz", default=argparse.SUPPRESS, dest="take",
        help="start from a saved take of this video; options that are not given are the take's, and the seed is the "
        "next one. Without --redo, --vary or --extend the sound stays as it is")  # fmt: skip
    add("--redo", metavar="IN-OUT", default=argparse.SUPPRESS,
        help="with --from: make a range anew and keep the rest; seconds and frames count from the take's "
        "start")  # fmt: skip
    add("--vary", type=float, metavar="SHARE", default=argparse.SUPPRESS,
        help="with --from: make this share of the tokens anew, above 0 to 1, in the range of --redo or "
        "everywhere")  # fmt: skip
    add("--extend", action="store_true",
        help="with --from: continue the take to the end of the video, or to the OUT of --range")  # fmt: skip
    add("--other-clip", action="store_true",
        help="with --from: accept another video than the take's, such as a new version of the shot")  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """What the flags for ranges and takes ask for."""

    span: TimeRange | None
    request: GenerationRequest
    unchanged: Take | None  # a take to deliver as it is
    words: Words | None = None

    @property
    def needs_timing(self) -> bool:
        """Whether the frames of the video must be counted."""
        return self.span is not None or self.request.kind == "extend"


def read_edit(args: Namespace) -> Edit:
    """Read the flags, and the take that they name. Raises OptionError, MediaError."""
    span = TimeRange.parse(args.range) if hasattr(args, "range") else None
    words = read_words(args)
    changes = [name for name in ("redo", "vary") if hasattr(args, name)] + ["extend"] * args.extend
    if not hasattr(args, "take"):
        if changes or args.other_clip:
            flag = (changes or ["other-clip"])[0]
            raise OptionError(f"--{flag} needs a take to start from; give --from FILE.npz")
        return Edit(span, GenerationRequest(), None, words)
    if "extend" in changes and len(changes) > 1:
        raise OptionError("--extend cannot be combined with --redo or --vary; do one after the other, with --save")
    if span is not None and "extend" not in changes:
        raise OptionError("the take of --from has a range of its own; use --range only with --extend")
    take = load_take(args.take)
    if not changes:
        _check_unchanged(args, take)
        return Edit(None, GenerationRequest(), take)
    request = _change(args, take)
    return Edit(None, replace(request, other_clip=args.other_clip), None, words)


def _change(args: Namespace, take: Take) -> GenerationRequest:
    if args.extend:
        return extend(take, getattr(args, "range", None))
    if hasattr(args, "redo"):
        return redo(take, args.redo, getattr(args, "vary", 1.0))
    return vary(take, args.vary)


def _check_unchanged(args: Namespace, take: Take) -> None:
    """Check what a take that stays as it is allows."""
    given = [*sorted(getattr(args, "given", ())), *given_flags(args)]
    if given:
        raise OptionError(
            f"--{given[0].replace('_', '-')} changes nothing in the take of --from; say what to make anew with --redo, "
            "--vary or --extend"
        )
    if not args.other_clip:
        check_clip(take, file_fingerprint(args.video))


def read_sampling(args: Namespace, request: GenerationRequest) -> SamplingConfig:
    """The options as given; the others are the defaults, or those of the take. Raises OptionError."""
    given = {name: getattr(args, name) for name in getattr(args, "given", ())}
    if "budget" in given:
        given["budget"] = read_budget(given["budget"])
    base = request.sampling()
    return SamplingConfig(**{f.name: getattr(base, f.name) for f in fields(base)} | given)


def plan_takes(args: Namespace) -> list[Path]:
    """The names of the saved takes; none without --save. Raises OptionError."""
    if not hasattr(args, "save"):
        return []
    first: Path = args.save
    check_take_file(first)
    return [first, *(first.with_name(f"{first.stem}.take{n}{first.suffix}") for n in range(2, args.takes + 1))]


def save_takes(paths: Sequence[Path], parts: dict[Path, Path], takes: Sequence[Take]) -> None:
    """Write the takes to the temporary places of their names."""
    for path, take in zip(paths, takes, strict=False):
        take.save(parts[path])
