"""`python -m train.synthetic.scenes OUT --clips N --sounds SOUNDS --impacts PYIMPACT`: clips simulated by MuJoCo."""

import sys
from pathlib import Path

from train.extras import requires_extra
from train.synthetic.build import arguments, run

with requires_extra("scenes", __name__):
    from train.synthetic.scenes.compose import KINDS, SceneClipSpec


def main(given: list[str] | None = None) -> int:
    parser = arguments("train.synthetic.scenes", __doc__ or "", list(KINDS))
    parser.add_argument("--impacts", type=Path, help="folder of pyimpact's modal data")
    args = parser.parse_args(given)
    size = tuple(args.size) if args.size else None
    order = SceneClipSpec(
        args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size, args.impacts
    )
    return run(order, args.clips, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
