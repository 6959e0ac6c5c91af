"""The folders that hkchengrex/av-benchmark reads, so that its FD_PaSST, KL, IS, IB and DeSync run on the same clips.

It pairs files by name, cuts at --audio_length and mixes nothing in where a file is shorter: Synchformer takes another
clip's sound instead. So every WAV here has exactly SECONDS, and clips whose truth is shorter are left out.
"""

import shlex
import shutil
from pathlib import Path

import numpy as np

from runtime.audio import write_wav
from train.evaluate.files import RATE
from train.evaluate.page import Clip
from train.metrics import Sound

SECONDS = 8  # what the field reports
CUT_NAMES = (20, 21, 30)  # its clean_sample_name cuts names of these lengths, on one side of the pairs only


class AVBenchmark:
    """DIR/gt_audio/ID.wav, DIR/pred_audio/SYSTEM/ID.wav and DIR/videos/ID.mp4, written clip by clip."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.systems: set[str] = set()
        self.written = 0
        self.left_out: list[str] = []

    def take(self, clip: Clip) -> None:
        """Write one clip; one whose true sound is too short is noted."""
        if clip.reference.seconds < SECONDS:
            self.left_out.append(f"{clip.name}: {clip.reference.seconds:.2f} s are less than {SECONDS} s")
            return
        name = f"{clip.name}-av" if len(clip.name) in CUT_NAMES else clip.name
        self._wav(self.out / "gt_audio", name, clip.reference)
        for system, sound in clip.made.items():
            self._wav(self.out / "pred_audio" / system, name, sound)
            self.systems.add(system)
        if clip.film is not None and clip.film.suffix.lower() == ".mp4":  # the only kind that it reads
            (self.out / "videos").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip.film, self.out / "videos" / f"{name}.mp4")
        self.written += 1

    def _wav(self, folder: Path, name: str, sound: Sound) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        samples = np.zeros(SECONDS * RATE, np.float32)
        part = sound.at(RATE)[: len(samples)]
        samples[: len(part)] = part
        write_wav(folder / f"{name}.wav", samples, RATE)

    def words(self) -> list[str]:
        """What was written, and the commands that go on from it in av-benchmark's folder, so with absolute paths."""
        lines = [f"{self.written} clips for av-benchmark in {self.out}, {len(self.left_out)} left out"]
        lines += [f"left out for av-benchmark: {line}" for line in self.left_out]
        out = self.out.resolve()
        truth = ["--gt_audio", out / "gt_audio", "--gt_cache", out / "gt_cache"]
        length = f"--audio_length={SECONDS}"
        videos = ["--video_path", out / "videos", "--gt_batch_size", 8]
        commands = [["extract_video.py", *truth[2:], *videos, length]]
        for system in sorted(self.systems):
            made = ["--pred_audio", out / "pred_audio" / system, "--pred_cache", out / "pred_cache" / system]
            commands.append(["evaluate.py", *truth, *made, length, "--skip_clap"])  # there are no captions
        return lines + ["  python " + shlex.join(map(str, command)) for command in commands]
