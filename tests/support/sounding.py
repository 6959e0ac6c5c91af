"""Scenes and pools of recordings for tests of train.synthetic.sounding: short, small, and with known content."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.synthetic.mp4 import write_mp4
from train.synthetic.recordings import RATE, Floats, write_flac
from train.synthetic.scenes.sound import SCENE_GROUPS

COLUMNS = ("file", "label", "seconds", "licence", "author", "source")
SECONDS, FPS = 4.0, 25
GROUPS = ("wood", "metal", "glass", "ambience")
TABLE = """concept,sounding,imagenet,labels
hammer,hit,587,bang
dog,burst,151 152,bark
engine,steady,407,hum
harp,notes,594,pluck
"""
TONE = 440.0  # Hz of the hum
SCALE = (57, 60, 62, 64, 67, 69)  # MIDI numbers of the plucks


def tone(hertz: float, seconds: float, decay: float = 1e9) -> Floats:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.7 * np.sin(2 * np.pi * hertz * t) * np.exp(-t / decay)).astype(np.float32)


def parts(*pieces: Floats, pause: float) -> Floats:
    """Pieces with silence between them."""
    gap = np.zeros(round(pause * RATE), np.float32)
    return np.concatenate([x for piece in pieces for x in (piece, gap)])


def sound_of(label: str, take: int) -> Floats:
    """Three clicks; two calls; a steady tone; a plucked note; for a material, one decaying tone."""
    if label == "bang":
        return parts(*(tone(900 + 40 * take, 0.1, 0.02) for _ in range(3)), pause=0.2)
    if label == "bark":
        return parts(*(tone(500 + 20 * take, 0.15) for _ in range(2)), pause=0.3)
    if label == "hum":
        return tone(TONE, 1.3)
    if label == "pluck":
        note = SCALE[take % len(SCALE)]
        return sum(tone(440 * 2 ** ((note - 69) / 12) * k, 1.0, 0.4) / (2 * k) for k in (1, 2, 3))
    return tone(300 + 11 * take, 0.2, 0.04)


def write_rows(folder: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> None:
    with open(folder / "sounds.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def write_recordings(folder: Path, labels: list[str], takes: int, sessions: bool) -> Path:
    """`takes` recordings of every label; with `sessions`, every take has an author of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for label in labels:
        for take in range(takes):
            audio, name = sound_of(label, take), f"{folder.name}/{label}{take}x.flac"
            (folder / folder.name).mkdir(exist_ok=True)
            write_flac(folder / name, audio)
            who = f"author {take}" if sessions else "one"
            row = (name, label, f"{len(audio) / RATE:.3f}", "CC0-1.0", who, "here")
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    write_rows(folder, rows)
    return folder


def write_pools(root: Path) -> tuple[Path, Path]:
    """(recordings by material, recordings by class)."""
    materials = write_recordings(root / "materials", [SCENE_GROUPS[group][0] for group in GROUPS], 3, sessions=False)
    classes = write_recordings(root / "classes", ["bang", "bark", "hum", "pluck"], 18, sessions=True)
    return materials, classes


def moving_pictures(moving: tuple[float, float] | None) -> list[NDArray[np.uint8]]:
    """A square that swings from side to side during some seconds, and rests before and after."""
    frames = []
    for k in range(round(SECONDS * FPS)):
        picture = np.full((64, 64, 3), 90, np.uint8)
        inside = moving is not None and moving[0] <= k / FPS < moving[1]
        left = 20 + (round(14 * np.sin(k)) if inside else 0)
        picture[24:40, left : left + 16] = 220
        frames.append(picture)
    return frames


def write_scene(
    folder: Path,
    index: int,
    times: tuple[float, ...] = (),
    moving: tuple[float, float] | None = None,
    split: str = "train",
) -> Path:
    """Write ID.mp4, ID.flac and ID.json of a scene with contacts of wood at `times`."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-0007-{index:05d}"
    events = [
        {"time": t, "kind": "impact", "material": "wood", "size": 0.1, "strength": 0.8, "voice": 1, "end": 0.0,
         "other": "", "envelope": [], "place": [0, 0, 0]}
        for t in times
    ]  # fmt: skip
    metadata = {
        "id": name,
        "split": split,
        "seed": 7,
        "index": index,
        "scenes": ["stick"],
        "film": {"seconds": SECONDS},
    }
    (folder / f"{name}.json").write_text(json.dumps(metadata | {"events": events}))
    write_flac(folder / f"{name}.flac", np.zeros(round(SECONDS * RATE), np.float32))
    write_mp4(folder / f"{name}.mp4", iter(moving_pictures(moving)), FPS)
    return folder / f"{name}.mp4"
