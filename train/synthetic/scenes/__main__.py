"""The command `python -m train.synthetic.scenes`: makes clips of scenes that MuJoCo simulates and draws."""

import sys
from pathlib import Path

from train.extras import requires_extra
from train.synthetic.build import make_parser, run_command

with requires_extra("scenes", __name__):
    from train.synthetic.scenes.compose import KINDS, SceneClipSpec

ABOUT = """\
Make training clips: scenes that MuJoCo simulates and draws, with a sound at each contact.

Each clip is three files: ID.mp4 (video without sound), ID.flac (mono, 44.1 kHz) and ID.json (events and camera).
Stop the command at any time; run it again to make the missing clips. It needs OpenGL, but no screen.

example: python -m train.synthetic.scenes clips/train --clips 630 --seed 5 --sounds SOUNDS --impacts PYIMPACT"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = make_parser("train.synthetic.scenes", ABOUT, list(KINDS))
    parser.add_argument(
        "--impacts",
        type=Path,
        metavar="DIR",
        help="folder with PyImpact's mode tables (default: sounds from recordings only)",
    )
    args = parser.parse_args(argv)
    size = tuple(args.size) if args.size else None
    spec = SceneClipSpec(
        args.out, args.sounds, args.split, args.seed, args.seconds, args.kind, args.fps, size, args.impacts
    )
    return run_command(spec, args.clips, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
