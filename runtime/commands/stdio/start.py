"""Start `maskvat stdio`: its flags, its streams, its threads."""

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from runtime.commands import signals
from runtime.commands.make import add_engine_options, begin_process
from runtime.commands.option_groups import FlagGroups, HelpFormatter
from runtime.commands.stdio.channel import Channel, claim_stdout, read_lines
from runtime.commands.stdio.session import Session

SCHEMA = Path(__file__).with_name("schema.json")


def get_stdio_parser() -> argparse.ArgumentParser:
    """The parser of `maskvat stdio`."""
    parser = argparse.ArgumentParser(
        prog="maskvat stdio",
        description="Run for another program: take requests as JSON lines on stdin, and answer on stdout. "
        "docs/EMBEDDING.md describes the protocol. The flags are what `load` uses if a request does not say.",
        formatter_class=HelpFormatter,
    )
    add_engine_options(FlagGroups(parser)("what runs it"))
    parser.add_argument("--schema", action="store_true", help="print the protocol's JSON Schema and end")
    parser.add_argument("--debug", action="store_true", help="log more on stderr")
    return parser


def read_input(session: Session, descriptor: int = 0) -> None:
    """Take the host's lines until it sends no more."""
    for line in read_lines(partial(os.read, descriptor)):
        session.take(line)
    session.end_of_input()


def standalone(argv: Sequence[str]) -> int:
    """Run the session as a process of its own. Returns its exit status."""
    args = get_stdio_parser().parse_args(argv)
    if args.schema:
        sys.stdout.write(SCHEMA.read_text(encoding="utf-8"))
        return 0
    channel = Channel(claim_stdout())
    begin_process(args.debug, quiet=True)
    session = Session(channel, args)
    signals.handle(lambda number, frame: session.stop(number))
    session.hello()
    threading.Thread(target=read_input, args=(session,), name="maskvat-stdin", daemon=True).start()
    return session.run()
