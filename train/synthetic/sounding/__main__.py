"""The command `python -m train.synthetic.sounding`: gives rendered scenes new sound that follows concepts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import OptionError
from train.synthetic.build import run_command
from train.synthetic.sounding.compose import SoundingSpec
from train.synthetic.sounding.scene import find_scenes
from train.synthetic.splits import SPLITS

ABOUT = """\
Give rendered scenes new sound: a scene's events and movement decide when, a concept decides which recordings.

Each scene gets some variants: ID.mp4 (the scene's picture, a hard link), ID.flac (mono, 44.1 kHz) and ID.json (events,
what is seen and when, recordings and their credits). At least a third of the variants sound as scenes do without
concepts. Stop the command at any time; run it again to make the missing clips, also after more scenes were rendered.

example: python -m train.synthetic.sounding clips/train sounded/train --sounds SOUNDS --class-sounds SOUNDS2"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.synthetic.sounding",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scenes", type=Path, help="folder of scenes (train.synthetic.scenes)")
    add("out", type=Path, help="folder for the clips, on the same disk; it is created if missing")
    add("--sounds", type=Path, required=True, metavar="DIR", help="recordings whose labels are materials")
    add("--class-sounds", type=Path, action="append", default=[], metavar="DIR",
        help="recordings whose labels are sound classes; may be repeated")  # fmt: skip
    add("--impacts", type=Path, metavar="DIR", help="folder with PyImpact's mode tables (default: recordings only)")
    add("--table", type=Path, metavar="CSV", help="concept table (default: the project's own)")
    add("--per-scene", type=int, default=3, metavar="N", help="variants of each scene (default: 3)")
    add("--seed", type=int, default=1, metavar="N", help="the same seed gives the same clips (default: 1)")
    add("--split", choices=SPLITS, default="train", help="use this split's scenes and recordings (default: train)")
    add("--jobs", type=int, default=1, metavar="N", help="number of worker processes (default: 1)")
    return parser


def make_spec(args: argparse.Namespace) -> SoundingSpec:
    """The clips to make. Scenes that cannot be used are reported on stderr and skipped; raises OptionError if all."""
    if not 1 <= args.per_scene <= 100:
        raise OptionError(f"--per-scene is {args.per_scene}; it must lie between 1 and 100")
    if not args.scenes.is_dir():
        raise OptionError(f"{args.scenes} is not a folder; give the output folder of train.synthetic.scenes")
    scenes, skipped = find_scenes(args.scenes, args.split)
    for line in skipped:
        print(f"skipped scene {line}", file=sys.stderr)
    if not scenes:
        first = f"; first {skipped[0]}" if skipped else ""
        raise OptionError(
            f"{args.scenes} has no usable scene of the split {args.split} ({len(skipped)} skipped{first})"
        )
    print(f"{len(scenes)} scenes; {len(skipped)} skipped", flush=True)
    return SoundingSpec(
        args.out, args.sounds, args.split, args.seed, scenes=tuple(scenes), per_scene=args.per_scene,
        class_sounds=tuple(args.class_sounds), impacts=args.impacts, table=args.table,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = make_parser().parse_args(argv)
    try:
        spec = make_spec(args)
    except OptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return run_command(spec, len(spec.scenes) * spec.per_scene, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
