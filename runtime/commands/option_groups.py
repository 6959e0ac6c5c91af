"""Flags in groups for --help, and parsers that refuse several videos where one is expected."""

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from runtime.commands.standard_streams import print_event
from runtime.errors import OptionError

FIRST = ("--output", "--mux", "--steps", "--seed", "--candidates")  # what most people need first
FIRST_TITLE = "what most people need first"
METAVARS = {int: "N", float: "X", Path: "FILE"}  # how a value is shown if the flag does not say

Add = Callable[..., object]


class FlagGroups:
    """Adds flags to a parser in groups with titles. Flags in FIRST are shown first, whatever their group."""

    def __init__(self, parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
        """`without` names flags, such as "--report", that are left out."""
        self._parser, self._without = parser, set(without)
        self._first = parser.add_argument_group(FIRST_TITLE)

    def __call__(self, title: str) -> Add:
        """Begin a group. Returns a function like `add_argument`."""
        parser = self._parser
        group = parser.add_argument_group(title)

        def add(*names: str, **options: object) -> None:
            if self._without.intersection(names):
                if options.get("action") == "store_true":  # it is off
                    parser.set_defaults(**{names[-1].lstrip("-").replace("-", "_"): False})
            else:
                if "choices" not in options and options.get("type") in METAVARS:
                    options.setdefault("metavar", METAVARS[options["type"]])  # type: ignore[index]
                target = self._first if set(FIRST).intersection(names) else group
                target.add_argument(*names, **options)  # type: ignore[arg-type]

        return add


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except that a switch is off, and that a value is not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is False or action.default is None else super()._get_help_string(action)


class CommandParser(argparse.ArgumentParser):
    """A parser that also prints its errors as JSON if the command line asks for --progress json."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = self._words or (sys.argv[1:] if args is None else list(args))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        words = " ".join(self._words)
        if "--progress json" in words or "--progress=json" in words:
            with suppress(OSError, ValueError):
                print_event("error", code="usage_error", message=message)
        super().error(message)


class RaisingParser(argparse.ArgumentParser):
    """A parser that raises OptionError, for flags that do not come from a command line. They are not shortened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


def parse_one_video(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line with one video. If there are several, the error names `maskvat batch`."""
    args, rest = parser.parse_known_args(argv)
    if any(word.startswith("-") for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        videos = shlex.join([str(args.video), *rest])
        parser.error(f"one video is expected, and {len(rest) + 1} are given; for several: `maskvat batch {videos}`")
    return args
