"""`python -m train.prepare.backgrounds SCENES OUT.npz`: what training needs to make up frame features of concepts.

The file holds the classifier of MobileNetV2's ImageNet weights, and the encoder's pooled features of some rendered
scenes. Made-up features start from these (train.synthetic.concepts.features). Damaged videos are named and skipped.

    weight   float32 [1000, D], bias float32 [1000]
    pooled   float16 [N, D]: the features of all videos, one after the other
    lengths  int64 [videos]: how many frames each has
    names    JSON: the names of the videos
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import ModelConfig
from runtime.audio import replacing
from runtime.errors import MediaError, OptionError
from runtime.video import FrameGrid, Video
from train.extras import requires_extra

with requires_extra("train", __name__):
    import torch

    from train.models.loading import WeightsError, read_state
    from train.models.mobilenet import FILE, FILE_SHA256, PACKAGE, MobileNetV2, MobileNetV2Config
    from train.prepare.features import FRAME_BATCH

CLIPS = 100  # videos by default


def classifier(weights: Path | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight [1000, D] and bias [1000] of the classifier in torchvision's file, or in the installed package's."""
    with as_file(files(PACKAGE) / FILE if weights is None else weights) as path:
        state = read_state(path, FILE_SHA256)
    return state["classifier.1.weight"].numpy(), state["classifier.1.bias"].numpy()


@torch.no_grad()
def pooled_features(path: Path, encoder: MobileNetV2, fps: int) -> NDArray[np.float16]:
    """[N, D] of a video at `fps` frames per second."""
    with Video(path) as video:
        frames = np.stack([frame for _, frame in video.sample([FrameGrid(fps, encoder.resize, encoder.size)])])
    parts = [encoder.pooled(part) for part in torch.from_numpy(frames).split(FRAME_BATCH)]
    return torch.cat(parts).numpy().astype(np.float16)


def usable(videos: Sequence[Path], encoder: MobileNetV2, count: int) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """(name, pooled features) of the first `count` usable videos."""
    done = 0
    for path in videos:
        if done == count:
            return
        try:
            features = pooled_features(path, encoder, ModelConfig.frame_fps)
        except (MediaError, OSError, ValueError) as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr, flush=True)
            continue
        done += 1
        yield path.name, features


def run(scenes: Path, out: Path, count: int, weights: Path | None) -> None:
    """Write the file. Raises MediaError if no video is usable."""
    if count < 1:
        raise OptionError(f"--clips is {count}; it must be 1 or more")
    videos = sorted(scenes.glob("*.mp4"))
    encoder = MobileNetV2(MobileNetV2Config()).eval()
    encoder.load_imagenet(weights)
    weight, bias = classifier(weights)
    found = list(usable(videos, encoder, count))
    if not found:
        raise MediaError(f"none of the {len(videos)} videos in {scenes} (*.mp4) can be used")
    arrays = {
        "weight": weight,
        "bias": bias,
        "pooled": np.concatenate([features for _, features in found]),
        "lengths": np.array([len(features) for _, features in found]),
        "names": np.array(json.dumps([name for name, _ in found])),
    }
    with replacing(out) as part, open(part, "wb") as file:
        np.savez(file, **arrays)
    print(f"{len(found)} backgrounds in {out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.prepare.backgrounds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenes", type=Path, help="folder of rendered scenes")
    parser.add_argument("out", type=Path, help="file to write (.npz)")
    parser.add_argument("--clips", type=int, default=CLIPS, metavar="N", help="videos at most (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="mobilenet_v2-b0353104.pth (default: from its installed package)")
    args = parser.parse_args(argv)
    try:
        run(args.scenes, args.out, args.clips, args.weights)
    except (MediaError, OptionError, WeightsError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
