"""Pools of sounds for tests: a folder with sounds.csv and short tones."""

import csv
from pathlib import Path

import numpy as np

from train.synthetic.recordings import RATE, write_flac


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    with open(folder / "sounds.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file", "label", "seconds"])
        table.writeheader()
        table.writerows(rows)


def write_pool(folder: Path, groups: dict[str, tuple[str, ...]], takes: int, lead: int = 0) -> Path:
    """Write `takes` decaying tones for each group. Take n begins with n * `lead` samples of silence."""
    rows, t = [], np.arange(RATE // 4) / RATE
    for n, (group, parts) in enumerate(groups.items()):
        for take in range(takes):
            tone = 0.8 * np.sin(2 * np.pi * (300 + 60 * n + 11 * take) * t + 1) * np.exp(-t / 0.04)
            audio = np.concatenate([np.zeros(lead * take), tone]).astype(np.float32)
            write_flac(folder / f"{group}{take}.flac", audio)
            rows.append({"file": f"{group}{take}.flac", "label": parts[0], "seconds": f"{len(audio) / RATE:.3f}"})
    write_table(folder, rows)
    return folder
