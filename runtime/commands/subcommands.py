"""The console script `maskvat`: subcommands. Without one, the first word is a video.

Imports little: a signal or a crash may come while libraries load, so they load inside of the guarded process.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

SUBCOMMANDS = {
    "make": "make a sound for one video; `maskvat VIDEO` is short for it",
    "batch": "make sounds for several videos, a folder, or the rows of a CSV table",
    "info": "show what a bundle contains",
    "doctor": "show what works on this machine, and run the bundle's self-test",
    "stdio": "run for another program: JSON lines in and out (docs/EMBEDDING.md)",
    "serve": "serve pages, editors and other machines over HTTP (docs/SERVER.md)",
    "completion": "print the completion script of a shell: bash, zsh or fish",
}
USAGE = """usage: maskvat VIDEO [options]
       maskvat SUBCOMMAND ...
"""


def choose(argv: list[str]) -> tuple[str, list[str]]:
    """The subcommand that a command line asks for, and its arguments. Also "help" and "version"."""
    first, rest = (argv[0], argv[1:]) if argv else ("", [])
    if first in SUBCOMMANDS:
        return first, rest
    if first == "--stdio":
        return "stdio", rest
    if first in ("-h", "--help", ""):
        return "help", argv
    if first == "--version":
        return "version", rest
    return "make", argv


def misspelt(argv: list[str]) -> str | None:
    """What to say if the first word seems to be a misspelt subcommand: it is near one, and no file has this name."""
    word = argv[0]
    if word.startswith("-") or set("./\\") & set(word) or os.path.lexists(word):
        return None
    from difflib import get_close_matches

    near = get_close_matches(word, SUBCOMMANDS, 1, 0.7)
    return f"{word!r} is neither a file nor a subcommand; do you mean `maskvat {near[0]}`?" if near else None


def show_overview() -> None:
    """Print the subcommands and the flags that most people need first."""
    from engines.advice import is_app
    from runtime.commands.make import get_parser
    from runtime.commands.option_groups import FIRST_TITLE

    first = get_parser("maskvat").format_help().partition(f"{FIRST_TITLE}:\n")[2].partition("\n\n")[0]
    subcommands = "\n".join(f"  {name:12}{text}" for name, text in SUBCOMMANDS.items())
    print(f"""{USAGE}
Make a synchronised sound for a silent video. `maskvat video.mp4` writes video.wav beside it.
A video that is named like a subcommand is given with its folder: `maskvat ./batch`.

subcommands (`maskvat SUBCOMMAND --help` shows the flags of each):
{subcommands}

{FIRST_TITLE}:
{first}

All flags: `maskvat make --help`. Version: `maskvat --version`. Guides: docs/CLI.md.""")
    if not is_app():
        print("Where `maskvat` is not on the path: python -m runtime.commands VIDEO [options]")


def guarded(name: str, rest: list[str]) -> int:
    """Run a subcommand in a child process that may crash."""
    from runtime.commands.crash_guard import run_guarded

    def run() -> int:
        if name == "make":
            from runtime.commands.make import standalone

            return standalone(rest, "maskvat")
        if name == "info":
            from runtime.info import main as info

            return info(rest, "maskvat info")
        from runtime.doctor import main as doctor

        return doctor(rest, "maskvat doctor")

    return run_guarded(run, "--debug" in rest)


def run(name: str, rest: list[str]) -> int:
    """Run a subcommand and return its exit status."""
    if name == "batch":
        from runtime.commands.batch.supervise import process as batch

        return batch(rest)
    if name == "stdio":
        from runtime.commands.stdio.guard import process as stdio

        return stdio(rest)
    if name == "serve":
        from runtime.serve.command import process as serve

        return serve(rest)
    if name == "completion":
        from runtime.commands.completion import main as completion

        return completion(rest)
    return guarded(name, rest)


def process() -> int:
    """Run `maskvat` as a process of its own. Returns its exit status."""
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)  # while there is nothing to clean up, end without a traceback
    name, rest = choose(sys.argv[1:])
    say: Callable[[], None]
    if name == "help" and rest:
        say = show_overview
    elif name == "version":
        say = show_version
    elif name == "help":
        print(f"{USAGE}Give a video, or `maskvat --help`.", file=sys.stderr)
        return 2
    else:
        advice = misspelt(rest) if name == "make" and rest == sys.argv[1:] else None
        if advice is not None:
            print(f"error: {advice}", file=sys.stderr)
            return 2
        return run(name, rest)
    with suppress(BrokenPipeError):
        say()
    return 0


def show_version() -> None:
    from runtime.version import program_version

    print(f"maskvat {program_version()}")
