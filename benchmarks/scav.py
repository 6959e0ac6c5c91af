"""`python -m benchmarks.scav CLIPS`: does SCAV know which sound belongs to which picture, and when?

From every video with a sound track in CLIPS, SCAV embeds crops. Recall at 1: is a clip's own sound the nearest of all
clips' to its picture, and the other way round (the middle crops)? Moment: of four crops of one clip, is the right
sound the nearest? Equally near ones share the hit, so that chance is 1 / clips and 1 / 4. "pooled" compares means over
time of the same embeddings; --against adds another bundle, say that of a twin trained so. Means over clips with a
bootstrap 95 % interval; paired: the bundle minus each other on the same clips. The last line is one JSON object.
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
from benchmarks.common.report import command, find_clips, finish, plots_folder, result, table
from engines.contract import FloatArray, ModelConfig
from engines.length_adapter import interpolation_matrix
from runtime.bundle import Bundle
from runtime.features import Encoders
from runtime.video import FrameGrid, Video
from runtime.windows import Frames
from train.evaluate.bootstrap import summarise, words
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch
    from torch import Tensor

    from train.data.clip_files import clip_sound
    from train.models.scav import distances, pooled

MOMENTS = 4
MEASURES = ("sound_r1", "video_r1", "moment")
HEADS = ("sound of picture, R@1", "picture of sound, R@1", f"moment of {MOMENTS}")
Hits = dict[str, FloatArray]  # by measure, one number from 0 to 1 per clip


@dataclass(frozen=True)
class Clip:
    """Frames [n, size, size, 3] at `clip_fps`, sound [L] at `audio_rate`, and where its crops begin (frames)."""

    name: str
    frames: Frames
    audio: FloatArray
    starts: tuple[int, ...]  # of the middle crop, then of the MOMENTS


def read(path: Path, config: ModelConfig, seconds: float) -> Clip:
    """Raises MediaError for a clip that cannot be read or is too short for MOMENTS crops."""
    with Video(path) as video:
        frames = [f for _, f in video.sample([FrameGrid(config.clip_fps, config.clip_resize, config.clip_size)])]
        audio = clip_sound(path, float(video.start), config.audio_rate)
    last = len(frames) - round(seconds * config.clip_fps)
    if last < MOMENTS - 1:
        raise runtime.MediaError(f"too short for {MOMENTS} crops of {seconds:g} s; give --seconds a smaller number")
    audio = np.pad(audio, (0, max(0, len(frames) * config.audio_rate // config.clip_fps - len(audio))))
    return Clip(path.name, np.stack(frames), audio, (last // 2, *np.linspace(0, last, MOMENTS).astype(int).tolist()))


def embed(bundle: Bundle, clip: Clip, seconds: float) -> tuple[Tensor, Tensor]:
    """Embeddings of a clip's crops: pictures [1 + MOMENTS, A, H] and sounds [1 + MOMENTS, A, 8, H]."""
    c = bundle.config
    features = Encoders(bundle, lambda stage: nullcontext(), lambda frames: None).clip_features(clip.frames)[0]
    n, samples = round(seconds * c.clip_fps), round(seconds * c.audio_rate)
    begins = [round(start * c.audio_rate / c.clip_fps) for start in clip.starts]
    sounds = np.stack([clip.audio[b : b + samples] for b in begins]).astype(np.float32, copy=False)
    (audio_features,) = bundle.run("audio_encoder", audio=sounds)
    (sound,) = bundle.run("scav_audio", audio_features=audio_features)
    matrix = interpolation_matrix(sound.shape[1], n)
    crops = np.stack([features[start : start + n] for start in clip.starts])
    (picture,) = bundle.run("scav_video", clip_features=crops, interpolation=matrix)
    return torch.from_numpy(picture).float(), torch.from_numpy(sound).float()


# ---------------------------------------------------------------- hits
def nearest(distance: Tensor) -> FloatArray:
    """Per row, whether the diagonal is the smallest; equal ones share the hit."""
    own = distance.diagonal()[:, None]
    first, equal = (distance < own).sum(dim=1) == 0, (distance == own).sum(dim=1)
    return (first / equal).numpy().astype(np.float32)


def hits(pictures: Tensor, sounds: Tensor, means: bool) -> Hits:
    """pictures [clips, 1 + MOMENTS, A, H], sounds [clips, 1 + MOMENTS, A, 8, H]; `means`: over time, of both."""

    def between(video: Tensor, audio: Tensor) -> Tensor:
        return distances(*(pooled(video, audio) if means else (video, audio)))

    among = between(pictures[:, 0], sounds[:, 0])
    moments = [nearest(between(p[1:], s[1:])).mean() for p, s in zip(pictures, sounds, strict=True)]
    found = (nearest(among), nearest(among.T), np.array(moments, np.float32))
    return dict(zip(MEASURES, found, strict=True))


def paired(rows: dict[str, Hits]) -> dict[str, Any]:
    """The first row minus each other, clip by clip."""
    first, *others = rows
    return {name: {m: summarise(rows[first][m] - rows[name][m]) for m in MEASURES} for name in others}


# ---------------------------------------------------------------- the command
def collect(args: argparse.Namespace, bundles: dict[str, Bundle]) -> tuple[list[str], dict[str, Hits]]:
    """Names of the clips that could be used, and the hits of every bundle, in order and pooled."""
    names: list[str] = []
    made: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in bundles}
    for path in find_clips(args.clips, args.limit):
        try:
            ready = {name: read(path, bundle.config, args.seconds) for name, bundle in bundles.items()}
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        names.append(path.name)
        for name, bundle in bundles.items():
            made[name].append(embed(bundle, ready[name], args.seconds))
    if len(names) < 2:
        raise runtime.OptionError(f"{len(names)} clips of {args.clips} can be used; at least 2 are compared")
    rows: dict[str, Hits] = {}
    for name, pairs in made.items():
        pictures, sounds = (torch.stack(part) for part in zip(*pairs, strict=True))
        rows |= {name: hits(pictures, sounds, False), f"{name} pooled": hits(pictures, sounds, True)}
    return names, rows


def plot(folder: Path, summary: dict[str, dict[str, Any]]) -> None:
    """retrieval.png: a panel per measure, a bar per row."""
    from train.evaluate.plots import Bar, bars

    panels = [
        (head, [Bar(name, row[m]["mean"], *row[m]["interval"]) for name, row in summary.items()])
        for m, head in zip(MEASURES, HEADS, strict=True)
    ]
    bars(folder / "retrieval.png", panels)


def run(args: argparse.Namespace) -> None:
    if not args.seconds > 0:
        raise runtime.OptionError(f"--seconds is {args.seconds:g}; it must be above 0")
    plots_folder(args.plots)
    bundles = {"bundle": Bundle(args.engines, args.backend)}
    if args.against is not None:
        bundles["against"] = Bundle(args.against, args.backend)
    for bundle in bundles.values():
        if bundle.untrained("scav"):
            print(f"scav of the bundle {bundle.manifest.name} is untrained: expect chance", file=sys.stderr)
    names, rows = collect(args, bundles)
    summary = {name: {m: summarise(row[m]) for m in MEASURES} for name, row in rows.items()}
    print(f"{len(names)} clips, crops of {args.seconds:g} s; chance {1 / len(names):.3f} and {1 / MOMENTS:.3f}\n")
    print(table(["", *HEADS], [[n, *(words(row[m], ".3f") for m in MEASURES)] for n, row in summary.items()]))
    differences = paired(rows)
    lines = [[f"minus {n}", *(words(row[m]) for m in MEASURES)] for n, row in differences.items()]
    print("\n" + table(["bundle, paired", *HEADS], lines))
    if args.plots:
        plot(args.plots, summary)
    values: dict[str, Any] = {"bundles": {name: bundle.manifest.name for name, bundle in bundles.items()}}
    values |= {"seconds": args.seconds, "chance": {"r1": 1 / len(names), "moment": 1 / MOMENTS}}
    values |= {"summary": summary, "paired": differences, "clips": names}
    values["hits"] = {name: {m: row[m].tolist() for m in MEASURES} for name, row in rows.items()}
    finish(result("scav", values), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scav", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of videos with their own sound, or ID.flac or ID.wav beside")
    parser.add_argument("--engines", type=Path, help="bundle (default: the shipped one)")
    parser.add_argument("--against", type=Path, help="another bundle, on the same clips")
    parser.add_argument("--backend", default="auto", help="backend (default: auto)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a crop (default: 5, as SCAV's recipe)")
    parser.add_argument("--limit", type=int, help="clips to use (default: all)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--plots", type=Path, help="folder for retrieval.png")
    return command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
