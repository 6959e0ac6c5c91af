"""The command `python -m train.synthetic.drawn`: makes clips of drawn shapes that hit each other."""

import sys

from train.synthetic.build import make_parser, run_command
from train.synthetic.drawn.kinds import KINDS
from train.synthetic.drawn.render import DrawnClipSpec

ABOUT = """\
Make training clips: simple drawn shapes that hit each other, with a recording at each contact.

Each clip is three files: ID.mp4 (video without sound), ID.flac (mono, 44.1 kHz) and ID.json (the events).
Stop the command at any time; run it again to make the missing clips.

example: python -m train.synthetic.drawn clips/train --clips 160 --seed 11 --sounds SOUNDS --jobs 2"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = make_parser("train.synthetic.drawn", ABOUT, list(KINDS)).parse_args(argv)
    size = tuple(args.size) if args.size else None
    spec = DrawnClipSpec(args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size)
    return run_command(spec, args.clips, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
