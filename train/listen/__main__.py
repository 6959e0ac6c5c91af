"""The paper's listening test: made from systems' folders, taken in a browser, and its mean opinion scores.

    python -m train.listen make TEST/ SYSTEM_DIR [SYSTEM_DIR ...] --reference DIR --sparse LIST
    python -m train.listen serve TEST/
    python -m train.listen score TEST/

Single samples in random order, in three sections: quality and relevance at 16 and 44.1 kHz, alignment at 16 kHz on
clips with sparse events, overall. Ratings from 1 to 5 are kept in TEST/ratings.jsonl.
"""

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


def run_make(args: argparse.Namespace) -> None:
    if args.clips < 1:
        raise OptionError(f"--clips is {args.clips}; it must be 1 or more")
    evaluation = Evaluation(scan(args.reference, "reference"), scan_systems(args.systems))
    listed = read_list(args.sparse)
    sparse = [name for name in listed if name in evaluation.reference.clips]
    if not sparse:
        raise OptionError(f"none of the {len(listed)} names in {args.sparse} is a clip of {args.reference}")
    test = make(args.test, evaluation, sparse, args.clips, args.seed)
    print(f"{len(test.items)} samples in {args.test}; go on with: python -m train.listen serve {args.test}")


def run_serve(args: argparse.Namespace) -> None:
    with ListeningServer(args.test, args.host, args.port) as server:
        for number in (signal.SIGINT, signal.SIGTERM):  # in the background of a shell Ctrl-C would be ignored
            signal.signal(number, signal.default_int_handler)
        print(f"open {server.url} in a browser; Ctrl-C ends", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"{len(server.ratings.known)} ratings in {server.ratings.path}")


def run_score(args: argparse.Namespace) -> None:
    ratings = Ratings(args.test, ListeningTest.load(args.test))
    if ratings.damaged:
        print(f"{ratings.damaged} lines of {ratings.path} are no ratings: skipped", file=sys.stderr)
    if not ratings.known:
        raise OptionError(f"{ratings.path} holds no ratings yet; serve the test first")
    found = scores(ratings)
    text = as_markdown(found)
    with replacing(args.test / "mos.md") as part:
        part.write_text(text, encoding="utf-8")
    write_json(args.test / "mos.json", found)
    print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.listen", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make", help="write a test")
    command.add_argument("test", type=Path, help="folder of the new test")
    command.add_argument("systems", nargs="+", metavar="SYSTEM_DIR", help="folder of sounds or videos, or NAME=DIR")
    command.add_argument("--reference", type=Path, required=True, help="folder of the true videos")
    command.add_argument("--sparse", type=Path, required=True, help="list of the clips with sparse events")
    command.add_argument("--clips", type=int, default=10, help="per section (default: 10)")
    command.add_argument("--seed", type=int, default=0, help="of the choice of clips and of the orders (default: 0)")
    command.set_defaults(run=run_make)
    command = commands.add_parser("serve", help="let people take it in a browser")
    command.add_argument("test", type=Path, help="folder of the test")
    command.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines too (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    command.set_defaults(run=run_serve)
    command = commands.add_parser("score", help="mean opinion scores: mos.md, mos.json")
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
