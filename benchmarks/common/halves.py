"""Videos of several folders, and the fixed division of the 63 real development clips into two halves.

Real clips are for measuring only. Choose routes, gates and defaults with one half, and report with the other. The
division follows the SHA-256 digests of the file names, so it does not depend on what the clips show.
"""

import hashlib
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.common.report import find_videos
from runtime.errors import OptionError

CLIPS, CHOOSING = 63, 31  # development clips, and how many of them are for choosing; the other 32 are for reports
HALVES = ("choose", "report", "all")


def choosing_videos(paths: Iterable[Path]) -> list[Path]:
    """The CHOOSING clips with the smallest SHA-256 digests of their file names."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())[:CHOOSING]


def add_folders_option(parser: ArgumentParser) -> None:
    """Add the folders of videos and --half."""
    words = "folders of videos with their own sound, or with ID.flac or ID.wav beside them"
    parser.add_argument("videos", type=Path, nargs="+", help=words)
    words = "half of the 63 real development clips, divided by the SHA-256 of their file names (default: all videos)"
    parser.add_argument("--half", choices=HALVES, default="all", help=words)


def find_half(folders: Sequence[Path], half: str = "all") -> list[Path]:
    """The videos of several folders, or one half of them, sorted by folder and name.

    Raises OptionError if a folder has no videos, if two videos have the same name without suffix, or if a
    half is requested and the videos are not as many as the development clips.
    """
    clips = [clip for folder in folders for clip in find_videos(folder)]
    stems = [clip.stem for clip in clips]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise OptionError(f"{len(repeated)} names occur twice in the folders: {', '.join(repeated[:3])}; rename one")
    if half == "all":
        return clips
    if len(clips) != CLIPS:
        raise OptionError(f"--half {half} divides the {CLIPS} development clips; the folders have {len(clips)} videos")
    chosen = set(choosing_videos(clips))
    return [clip for clip in clips if (clip in chosen) == (half == "choose")]
