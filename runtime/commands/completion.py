"""`maskvat completion SHELL`: print the completion script of a shell. Needs the extra `completion`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.commands.status import run_command
from runtime.commands.subcommands import SUBCOMMANDS
from runtime.errors import MaskVATError

SHELLS = {
    "bash": 'run eval "$(maskvat completion bash)" in ~/.bashrc, or write the script to /etc/bash_completion.d/maskvat',
    "zsh": "write the script to a file _maskvat in a folder of $fpath",
    "fish": "write the script to ~/.config/fish/completions/maskvat.fish",
}
FOLDERS = ("FOLDER", "BUNDLE")  # metavars of values that are folders


def get_completion_parser() -> argparse.ArgumentParser:
    """The parser of `maskvat completion`."""
    parser = argparse.ArgumentParser(
        prog="maskvat completion",
        description="Print the completion script of a shell.",
        epilog="".join(f"{shell}: {advice}. " for shell, advice in SHELLS.items()),
    )
    parser.add_argument("shell", choices=list(SHELLS))
    return parser


def get_whole_parser() -> argparse.ArgumentParser:
    """One parser with the flags of every subcommand. It only shows them: each subcommand reads its own arguments."""
    from runtime.commands.batch.options import get_batch_parser
    from runtime.commands.make import add_options, get_parser
    from runtime.commands.option_groups import FlagGroups
    from runtime.commands.stdio.start import get_stdio_parser
    from runtime.doctor import get_doctor_parser
    from runtime.info import get_info_parser
    from runtime.serve.command import get_serve_parser

    parsers = {
        "make": get_parser("maskvat make"),
        "batch": get_batch_parser(),
        "info": get_info_parser(),
        "doctor": get_doctor_parser(),
        "stdio": get_stdio_parser(),
        "serve": get_serve_parser(),
        "completion": get_completion_parser(),
    }
    whole = argparse.ArgumentParser(prog="maskvat")
    whole.add_argument("--version", action="store_true", help="show the version")
    add_options(FlagGroups(whole))
    subparsers = whole.add_subparsers()
    for name, text in SUBCOMMANDS.items():
        subparsers.add_parser(name, help=text.replace("`", ""), parents=[parsers[name]], add_help=False)
    return whole


def completion_script(shell: str) -> str:
    """The script. Raises MaskVATError if the extra is not installed."""
    try:
        import shtab
    except ImportError as error:
        raise MaskVATError("completion needs shtab; install it with: pip install 'maskvat[completion]'") from error
    parser = get_whole_parser()
    for one in (parser, *parser._subparsers._group_actions[0].choices.values()):  # type: ignore[union-attr]
        for action in one._actions:
            if action.type is Path:
                action.complete = shtab.DIRECTORY if action.metavar in FOLDERS else shtab.FILE
    script: str = shtab.complete(parser, shell)
    return allow_videos(script, shell)


def allow_videos(script: str, shell: str) -> str:
    """Let the first word be a video, too: shtab only offers the subcommands there."""
    changes = {
        "bash": [("complete -o bashdefault -F", "complete -o default -o bashdefault -F")],
        "zsh": [
            ("  _describe 'maskvat commands' _commands\n", "  _describe 'maskvat commands' _commands\n  _files\n"),
            ("      esac\n  esac", "        *) _arguments -C -s $_shtab_maskvat_make_options ;;\n      esac\n  esac"),
        ],
        "fish": [
            ("complete -c maskvat -f\n", "complete -c maskvat -f\ncomplete -c maskvat -n __fish_use_subcommand -F\n")
        ],
    }
    for old, new in changes[shell]:
        script = script.replace(old, new)
    return script


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    args = get_completion_parser().parse_args(argv)
    return run_command(lambda: sys.stdout.write(completion_script(args.shell) + "\n"), debug=False)
