"""`python -m train.prepare CLIPS SYSTEM OUT`: a folder of clips to arrays; with `--source`, a data set to shards."""

import argparse
import sys
from pathlib import Path

from runtime.errors import MediaError, OptionError
from train.extras import requires_extra

with requires_extra("train", __name__):
    import torch

    from train.errors import CheckpointError, ShardError
    from train.models.loading import WeightsError
    from train.prepare.folder import find_clips, prepare_features, prepare_frames, skip
    from train.prepare.options import add_options, complete
    from train.prepare.run import prepare as prepare_shards

STOPPED = 75  # exit status after Ctrl-C, as of train.fit


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder of videos")
    parser.add_argument("system", type=Path, help="folder of trained or imported components")
    parser.add_argument("out", help="folder for the arrays; with --source also a URL (s3://...)")
    parser.add_argument("--frames", action="store_true", help="write the sync encoder's training frames instead")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: as many as there are cores)")
    add_options(parser)
    args = parser.parse_args(arguments)
    try:
        if args.threads is not None and args.threads < 1:
            raise OptionError(f"--threads is {args.threads}; it must be 1 or more")
        if args.source:
            return prepare_shards(complete(args))
        return prepare_folder(args)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return STOPPED
    except (MediaError, OptionError, ShardError, WeightsError, CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def prepare_folder(args: argparse.Namespace) -> int:
    """The command without --source."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    clips, others = find_clips(args.clips)
    for path in others:
        skip(path, "no video, and nothing of a video here")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    bad = (prepare_frames if args.frames else prepare_features)(clips, args.system, out)
    if len(bad) == len(clips):
        raise MediaError(f"none of the {len(clips)} clips in {args.clips} can be used; first {bad[0]}")
    print(f"{len(clips) - len(bad)} of {len(clips)} clips ready in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
