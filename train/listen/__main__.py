"""The command `python -m train.listen`: makes a listening test, serves it in a browser, and computes its scores."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.audio import replacing
from runtime.errors import MediaError, OptionError
from train.extras import requires_extra

with requires_extra("bench", __name__):
    from train.checkpoint import write_json
    from train.evaluate.core import Evaluation
    from train.evaluate.files import read_list, scan, scan_systems
    from train.listen.items import ListeningTest, make
    from train.listen.ratings import Ratings, as_markdown, scores
    from train.listen.server import ListeningServer


ABOUT = """\
The paper's listening test: people watch short videos in a browser and rate their sound from 1 to 5.

Samples come one at a time, in random order, in three sections: quality and relevance (16 and 44.1 kHz), alignment
(16 kHz, clips with sparse events), and overall impression (44.1 kHz). The true sound is rated too.

steps:
  python -m train.listen make test sounds/ours --reference videos --sparse sparse.txt
  python -m train.listen serve test
  python -m train.listen score test"""


def run_make(args: argparse.Namespace) -> None:
    """Write a test. Raises OptionError if no clip is usable."""
    if args.clips < 1:
        raise OptionError(f"--clips is {args.clips}; it must be 1 or more")
    evaluation = Evaluation(scan(args.reference, "reference"), scan_systems(args.systems))
    listed = read_list(args.sparse)
    sparse = [name for name in listed if name in evaluation.reference.clips]
    if not sparse:
        raise OptionError(f"none of the {len(listed)} names in {args.sparse} is a clip of {args.reference}")
    test = make(args.test, evaluation, sparse, args.clips, args.seed)
    print(f"{len(test.items)} samples in {args.test}; next: python -m train.listen serve {args.test}")


def run_serve(args: argparse.Namespace) -> None:
    """Serve a test until Ctrl-C."""
    with ListeningServer(args.test, args.host, args.port) as server:
        for number in (signal.SIGINT, signal.SIGTERM):  # A shell's background process would ignore Ctrl-C.
            signal.signal(number, signal.default_int_handler)
        print(f"open {server.url} in a browser; press Ctrl-C to stop", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"{len(server.ratings.known)} ratings in {server.ratings.path}")


def run_score(args: argparse.Namespace) -> None:
    """Write and print the mean opinion scores. Raises OptionError if there are no ratings."""
    ratings = Ratings(args.test, ListeningTest.load(args.test))
    if ratings.damaged:
        print(f"skipped {ratings.damaged} damaged lines of {ratings.path}", file=sys.stderr)
    if not ratings.known:
        raise OptionError(f"{ratings.path} has no ratings yet; run: python -m train.listen serve {args.test}")
    found = scores(ratings)
    text = as_markdown(found)
    with replacing(args.test / "mos.md") as part:
        part.write_text(text, encoding="utf-8")
    write_json(args.test / "mos.json", found)
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.listen", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("make", help="make a test from systems' sounds")
    command.add_argument("test", type=Path, help="folder of the new test")
    command.add_argument(
        "systems", nargs="+", metavar="SYSTEM_DIR", help="folder of sounds or videos; write NAME=DIR to set its name"
    )
    command.add_argument("--reference", type=Path, metavar="DIR", required=True, help="folder of the true videos")
    command.add_argument(
        "--sparse", type=Path, metavar="LIST", required=True, help="list of clips with sparse events, for alignment"
    )
    command.add_argument("--clips", type=int, default=10, metavar="N", help="number of clips per section (default: 10)")
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice and order of clips (default: 0)"
    )
    command.set_defaults(run=run_make)
    command = commands.add_parser("serve", help="let people take the test in a browser")
    command.add_argument("test", type=Path, help="folder of the test")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 lets other machines in (default: 127.0.0.1)"
    )
    command.add_argument("--port", type=int, metavar="N", default=8000, help="port; 0 picks a free one (default: 8000)")
    command.set_defaults(run=run_serve)
    command = commands.add_parser("score", help="compute mean opinion scores; writes mos.md and mos.json")
    command.add_argument("test", type=Path, help="folder of the test")
    command.set_defaults(run=run_score)
    args = parser.parse_args(arguments)
    try:
        args.run(args)
    except (MediaError, OptionError, OSError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
