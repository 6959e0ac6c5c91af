"""A tiny corpus of 10 s videos for tests of data preparation, and command lines that prepare it."""

from pathlib import Path

import numpy as np

from tests.support.media import Picture, Sound, clicks, steady, write_video

RATE = 44100
BAD = {  # name -> reported reason for skipping it
    "mute": "no sound",
    "quiet": "silent",
    "brief": "short",
    "slow": "low fps",
    "late": "gap",
    "frozen": "still",
    "noise": "unreadable",
    "heard": "no picture",
}
HERE = ["--processes", "0", "--threads", "1", "--max-still", "0.8"]
TABLE = [f"clip-_{n:05d}" + f",{10 * n},label {n % 2},{'test' if n == 4 else 'train'}" for n in range(6)]


def video(
    path: Path,
    seconds: float = 10,
    fps: int = 25,
    sound: np.ndarray | None = None,
    start: float = 0.0,
    still: bool = False,
) -> Path:
    """Write a small video with clicks as sound. The grey level of a frame encodes its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = clicks(round(seconds * RATE), RATE) if sound is None else sound
    times = steady(round(seconds * fps), fps)
    images = [np.full((48, 64, 3), 90, np.uint8)] * len(times) if still else None
    return write_video(path, Picture(times, 1 / fps, images=images), Sound(audio[None], RATE, "flac", start))


def bad_videos(folder: Path) -> None:
    """Write one video for every reason in BAD."""
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "mute.mkv", Picture(steady(250, 25), 1 / 25))
    video(folder / "quiet.mkv", sound=np.full(10 * RATE, 1e-5, np.float32))
    video(folder / "brief.mkv", seconds=6)
    video(folder / "slow.mkv", fps=12)
    video(folder / "late.mkv", start=0.3)
    video(folder / "frozen.mkv", still=True)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    write_video(folder / "heard.mp4", None, Sound(clicks(10 * RATE, RATE)[None], RATE, "aac"))


def command(corpus: Path, system: Path, out: Path | str, *more: str) -> list[str]:
    """Arguments of train.prepare for the table of this corpus."""
    table = ["--source", "vggsound", "--table", str(corpus / "vggsound.csv"), "--validation", "1"]
    return [str(corpus / "videos"), str(system), str(out), *table, "--shard-clips", "2", *HERE, *more]
