"""The command `python -m train.prepare`: encodes videos for training: a folder, or with --source a data set.

train.prepare.folder does the first, train.prepare.run the second.
"""

import argparse
import sys
from pathlib import Path

from runtime.errors import MediaError, OptionError
from train.extras import requires_extra

with requires_extra("train", __name__):
    import torch

    from train.errors import CheckpointError, ShardError
    from train.models.loading import WeightsError
    from train.prepare.folder import find_videos, prepare_features, prepare_frames, report_skipped
    from train.prepare.options import add_options, resolve_options
    from train.prepare.run import prepare as prepare_shards

STOPPED = 75  # exit status after Ctrl-C, the same as train.fit's
ABOUT = """\
Encode videos for training: the codec's codes, and the features of the frame, sync and audio encoders.

Without --source, each 10 s window of a video becomes OUT/ID.npz. With --source, a whole data set becomes shards with
train, validation and test splits. Stop the command at any time; run it again to continue.

examples:
  python -m train.prepare clips/train system prepared/train
  python -m train.prepare clips/train system frames/train --frames
  python -m train.prepare VGGSOUND system shards --source vggsound --table vggsound.csv"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.prepare", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("system", type=Path, help="folder of trained or imported components (train.fit, train.adopt)")
    parser.add_argument("out", help="folder for the results; with --source it may be a URL (s3://...)")
    parser.add_argument("--frames", action="store_true", help="write only the frames that train the sync encoder")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="PyTorch threads per process (default: the cores, shared by the processes)",
    )
    add_options(parser)
    args = parser.parse_args(arguments)
    try:
        if args.threads is not None and args.threads < 1:
            raise OptionError(f"--threads is {args.threads}; it must be 1 or more")
        if args.source:
            return prepare_shards(resolve_options(args))
        return prepare_folder(args)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return STOPPED
    except (MediaError, OptionError, ShardError, WeightsError, CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def prepare_folder(args: argparse.Namespace) -> int:
    """The command without --source. Raises MediaError if no video is usable."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    videos, others = find_videos(args.videos)
    for path in others:
        report_skipped(path, "it is not a video, and no video has its name")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    bad = (prepare_frames if args.frames else prepare_features)(videos, args.system, out)
    if len(bad) == len(videos):
        raise MediaError(f"none of the {len(videos)} videos in {args.videos} can be used; first {bad[0]}")
    print(f"{len(videos) - len(bad)} of {len(videos)} videos ready in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
