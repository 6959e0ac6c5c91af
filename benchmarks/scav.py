"""Measure how well SCAV finds the sound that belongs to a video, and the right moment in it.

    python -m benchmarks.scav VIDEOS

SCAV embeds crops of every video that has sound. Columns, as means over clips with a bootstrap 95 % interval:
  sound of picture, R@1   share of clips whose own sound is the nearest of all clips to their picture (middle crops)
  picture of sound, R@1   the same, with sound and picture exchanged
  moment of 4             share of four crops of a clip whose own sound is the nearest of the four
Equal distances share a hit, so chance is 1 / clips and 1 / 4. The row "pooled" compares the means over time of the same
embeddings. --against adds a second bundle. The second table shows the first row minus each other row, clip by clip.
The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.common.report import (
    add_output_options,
    command_parser,
    find_videos,
    finish,
    make_plots_folder,
    make_result,
    run_command,
    table,
)
from engines.contract import FloatArray, ModelConfig
from engines.length_adapter import interpolation_matrix
from runtime.bundle import Bundle
from runtime.features import Encoders
from runtime.video import FrameGrid, Video
from runtime.windows import Frames
from train.evaluate.bootstrap import format_summary, summarise
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch
    from torch import Tensor

    from train.data.video_files import video_sound
    from train.models.scav import distances, pooled

MOMENTS = 4
MEASURES = ("sound_r1", "video_r1", "moment")
HEADS = ("sound of picture, R@1", "picture of sound, R@1", f"moment of {MOMENTS}")
Hits = dict[str, FloatArray]  # measure -> one number from 0 to 1 per clip


@dataclass(frozen=True)
class SoundVideo:
    """Frames [n, size, size, 3] at `clip_fps`, sound [L] at `audio_rate`, and the first frame of each crop."""

    name: str
    frames: Frames
    audio: FloatArray
    starts: tuple[int, ...]  # the middle crop, then the MOMENTS crops


def read_video(path: Path, config: ModelConfig, seconds: float) -> SoundVideo:
    """Read a video. Raises MediaError if it cannot be read or is too short for MOMENTS crops."""
    with Video(path) as video:
        frames = [f for _, f in video.sample([FrameGrid(config.clip_fps, config.clip_resize, config.clip_size)])]
        audio = video_sound(path, float(video.start), config.audio_rate)
    last = len(frames) - round(seconds * config.clip_fps)
    if last < MOMENTS - 1:
        raise runtime.MediaError(f"too short for {MOMENTS} crops of {seconds:g} s; choose a smaller --seconds")
    audio = np.pad(audio, (0, max(0, len(frames) * config.audio_rate // config.clip_fps - len(audio))))
    return SoundVideo(
        path.name, np.stack(frames), audio, (last // 2, *np.linspace(0, last, MOMENTS).astype(int).tolist())
    )


def embed(bundle: Bundle, video: SoundVideo, seconds: float) -> tuple[Tensor, Tensor]:
    """Embeddings of the crops of a video: pictures [1 + MOMENTS, A, H] and sounds [1 + MOMENTS, A, 8, H]."""
    c = bundle.config
    features = Encoders(bundle, lambda stage: nullcontext(), lambda frames: None).clip_features(video.frames)[0]
    n, samples = round(seconds * c.clip_fps), round(seconds * c.audio_rate)
    begins = [round(start * c.audio_rate / c.clip_fps) for start in video.starts]
    sounds = np.stack([video.audio[b : b + samples] for b in begins]).astype(np.float32, copy=False)
    (audio_features,) = bundle.run("audio_encoder", audio=sounds)
    (sound,) = bundle.run("scav_audio", audio_features=audio_features)
    matrix = interpolation_matrix(sound.shape[1], n)
    crops = np.stack([features[start : start + n] for start in video.starts])
    (picture,) = bundle.run("scav_video", clip_features=crops, interpolation=matrix)
    return torch.from_numpy(picture).float(), torch.from_numpy(sound).float()


# ---------------------------------------------------------------- hits
def nearest_hits(distance: Tensor) -> FloatArray:
    """For each row, 1 if the diagonal is smallest, else 0; equal distances share the hit."""
    own = distance.diagonal()[:, None]
    first, equal = (distance < own).sum(dim=1) == 0, (distance == own).sum(dim=1)
    return (first / equal).numpy().astype(np.float32)


def hits(pictures: Tensor, sounds: Tensor, means: bool) -> Hits:
    """Hits of pictures [videos, 1 + MOMENTS, A, H] and sounds [videos, 1 + MOMENTS, A, 8, H].

    With `means`, the means over time are compared.
    """

    def crop_distances(video: Tensor, audio: Tensor) -> Tensor:
        return distances(*(pooled(video, audio) if means else (video, audio)))

    across_videos = crop_distances(pictures[:, 0], sounds[:, 0])
    moments = [nearest_hits(crop_distances(p[1:], s[1:])).mean() for p, s in zip(pictures, sounds, strict=True)]
    values = (nearest_hits(across_videos), nearest_hits(across_videos.T), np.array(moments, np.float32))
    return dict(zip(MEASURES, values, strict=True))


def paired_with_first(rows: dict[str, Hits]) -> dict[str, Any]:
    """The first row minus each other row, clip by clip."""
    first, *others = rows
    return {name: {m: summarise(rows[first][m] - rows[name][m]) for m in MEASURES} for name in others}


# ---------------------------------------------------------------- the command
def collect(args: argparse.Namespace, bundles: dict[str, Bundle]) -> tuple[list[str], dict[str, Hits]]:
    """Names of the usable clips, and the hits of every bundle, over time and pooled."""
    names: list[str] = []
    embedded: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in bundles}
    for path in find_videos(args.videos, args.limit):
        try:
            videos = {name: read_video(path, bundle.config, args.seconds) for name, bundle in bundles.items()}
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        names.append(path.name)
        for name, bundle in bundles.items():
            embedded[name].append(embed(bundle, videos[name], args.seconds))
    if len(names) < 2:
        raise runtime.OptionError(f"{len(names)} clips of {args.videos} can be used; at least 2 are needed")
    rows: dict[str, Hits] = {}
    for name, pairs in embedded.items():
        pictures, sounds = (torch.stack(part) for part in zip(*pairs, strict=True))
        rows |= {name: hits(pictures, sounds, False), f"{name} pooled": hits(pictures, sounds, True)}
    return names, rows


def plot(folder: Path, summary: dict[str, dict[str, Any]]) -> None:
    """Write retrieval.png: one panel per measure, one bar per row."""
    from train.evaluate.plots import Bar, bars

    panels = [
        (head, [Bar(name, row[m]["mean"], *row[m]["interval"]) for name, row in summary.items()])
        for m, head in zip(MEASURES, HEADS, strict=True)
    ]
    bars(folder / "retrieval.png", panels)


def run(args: argparse.Namespace) -> None:
    if not args.seconds > 0:
        raise runtime.OptionError(f"--seconds is {args.seconds:g}; it must be above 0")
    make_plots_folder(args.plots)
    bundles = {"bundle": Bundle(args.engines, args.backend)}
    if args.against is not None:
        bundles["against"] = Bundle(args.against, args.backend)
    for bundle in bundles.values():
        if bundle.untrained("scav"):
            print(
                f"SCAV of the bundle {bundle.manifest.name} is untrained; expect results near chance", file=sys.stderr
            )
    names, rows = collect(args, bundles)
    summary = {name: {m: summarise(row[m]) for m in MEASURES} for name, row in rows.items()}
    print(f"{len(names)} clips, crops of {args.seconds:g} s; chance {1 / len(names):.3f} and {1 / MOMENTS:.3f}\n")
    print(table(["", *HEADS], [[n, *(format_summary(row[m], ".3f") for m in MEASURES)] for n, row in summary.items()]))
    differences = paired_with_first(rows)
    lines = [[f"minus {n}", *(format_summary(row[m]) for m in MEASURES)] for n, row in differences.items()]
    print("\n" + table(["paired difference", *HEADS], lines))
    if args.plots:
        plot(args.plots, summary)
    values: dict[str, Any] = {"bundles": {name: bundle.manifest.name for name, bundle in bundles.items()}}
    values |= {"seconds": args.seconds, "chance": {"r1": 1 / len(names), "moment": 1 / MOMENTS}}
    values |= {"summary": summary, "paired": differences, "clips": names}
    values["hits"] = {name: {m: row[m].tolist() for m in MEASURES} for name, row in rows.items()}
    finish(make_result("scav", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.scav", __doc__)
    parser.add_argument(
        "videos", type=Path, help="folder of videos with their own sound, or with ID.flac or ID.wav beside them"
    )
    parser.add_argument(
        "--engines", type=Path, help="folder of the bundle (default: the bundle that ships with MaskVAT)"
    )
    parser.add_argument("--against", type=Path, help="second bundle, measured on the same clips")
    parser.add_argument("--backend", default="auto", help="backend (default: auto)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="length of a crop (default: 5, as in the recipe of SCAV)"
    )
    parser.add_argument("--limit", type=int, help="largest number of clips (default: all)")
    add_output_options(parser, plots="folder for retrieval.png")
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
