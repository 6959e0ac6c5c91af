"""`python -m train.synthetic.drawn OUT --clips N --sounds SOUNDS`: draw clips of shapes that hit each other."""

import sys

from train.synthetic.build import arguments, run
from train.synthetic.drawn.kinds import SCENES
from train.synthetic.drawn.render import ClipSpec


def main(given: list[str] | None = None) -> int:
    args = arguments("train.synthetic.drawn", __doc__ or "", list(SCENES)).parse_args(given)
    size = tuple(args.size) if args.size else None
    order = ClipSpec(args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size)
    return run(order, args.clips, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
