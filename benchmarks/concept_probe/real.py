"""The probe's real videos: which of them it uses (the others are kept for reports), their features, their concepts."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.errors import OptionError
from runtime.video import FrameGrid, Video
from train.models.loading import read_state
from train.models.mobilenet import FILE, FILE_SHA256, PACKAGE, MobileNetV2, MobileNetV2Config
from train.synthetic.concepts.features import ClassifierHead
from train.synthetic.concepts.table import Concept

Floats = NDArray[np.float32]
CHOOSING = 31  # of the 63 development clips; the other 32 are for reports
FPS, BATCH = 8, 8


def choosing_videos(paths: Iterable[Path]) -> list[Path]:
    """The CHOOSING clips with the smallest SHA-256 digests of their file names."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())[:CHOOSING]


def read_truth(table: Sequence[Concept], path: Path | None = None) -> dict[str, list[int]]:
    """File name -> indices of the concepts that a person saw and heard in it; empty if the table has none for it.

    Raises OptionError for a concept that the table lacks.
    """
    index = {concept.name: k for k, concept in enumerate(table)}
    text = (files(__package__) / "truth.csv").read_text() if path is None else path.read_text(encoding="utf-8")
    truth = {row["file"]: row["concepts"].split() for row in csv.DictReader(text.splitlines())}
    unknown = sorted({name for names in truth.values() for name in names} - set(index))
    if unknown:
        raise OptionError(f"{len(unknown)} concepts of the true answers are not in the table: {', '.join(unknown)}")
    return {file: [index[name] for name in names] for file, names in truth.items()}


def read_encoder(weights: Path | None) -> tuple[MobileNetV2, ClassifierHead]:
    """MobileNetV2 with ImageNet weights and its classifier, from a file or from the installed package with the file."""
    encoder = MobileNetV2(MobileNetV2Config()).eval()
    encoder.load_imagenet(weights)
    with as_file(files(PACKAGE) / FILE if weights is None else weights) as path:
        state = read_state(path, FILE_SHA256)
    return encoder, ClassifierHead(state["classifier.1.weight"].numpy(), state["classifier.1.bias"].numpy())


@torch.no_grad()
def pooled_features(path: Path, encoder: MobileNetV2, cache: Path | None = None) -> Floats:
    """[N, 1280] of a video at 8 frames/s; kept in the folder `cache` as NAME.npy if there is one."""
    kept = cache / f"{path.name}.npy" if cache else None
    if kept and kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    with Video(path) as video:
        frames = np.stack([frame for _, frame in video.sample([FrameGrid(FPS, encoder.resize, encoder.size)])])
    parts = [encoder.pooled(torch.from_numpy(frames[i : i + BATCH])).numpy() for i in range(0, len(frames), BATCH)]
    features = np.concatenate(parts)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, features)
    return features
