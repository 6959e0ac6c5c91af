"""Writes the folders that hkchengrex/av-benchmark reads, to run its FD_PaSST, KL, IS, IB and DeSync on the same clips.

av-benchmark pairs files by name and cuts them at --audio_length. If a file is shorter, its Synchformer uses another
clip's sound. So every WAV file here lasts exactly SECONDS, and clips with a shorter true sound are left out.
"""

import shlex
import shutil
from pathlib import Path

import numpy as np

from runtime.audio import write_wav
from train.evaluate.files import RATE
from train.evaluate.page import Clip
from train.metrics import Sound

SECONDS = 8  # the usual length in publications
CUT_NAMES = (20, 21, 30)  # av-benchmark's clean_sample_name cuts names of these lengths on one side of a pair only


class AVBenchmark:
    """Writes DIR/gt_audio/ID.wav, DIR/pred_audio/SYSTEM/ID.wav and DIR/videos/ID.mp4, clip by clip."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.systems: set[str] = set()
        self.written = 0
        self.left_out: list[str] = []

    def add(self, clip: Clip) -> None:
        """Write one clip. If its true sound is too short, only note that."""
        if clip.reference.seconds < SECONDS:
            self.left_out.append(f"{clip.name}: {clip.reference.seconds:.2f} s of sound, less than {SECONDS} s")
            return
        name = f"{clip.name}-av" if len(clip.name) in CUT_NAMES else clip.name
        self._wav(self.out / "gt_audio", name, clip.reference)
        for system, sound in clip.made.items():
            self._wav(self.out / "pred_audio" / system, name, sound)
            self.systems.add(system)
        if clip.film is not None and clip.film.suffix.lower() == ".mp4":  # av-benchmark reads only mp4
            (self.out / "videos").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip.film, self.out / "videos" / f"{name}.mp4")
        self.written += 1

    def _wav(self, folder: Path, name: str, sound: Sound) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        samples = np.zeros(SECONDS * RATE, np.float32)
        part = sound.at(RATE)[: len(samples)]
        samples[: len(part)] = part
        write_wav(folder / f"{name}.wav", samples, RATE)

    def summary_lines(self) -> list[str]:
        """What was written, and the commands to run in av-benchmark's folder. Their paths are absolute."""
        lines = [f"{self.written} clips for av-benchmark written to {self.out}, {len(self.left_out)} left out"]
        lines += [f"left out for av-benchmark: {line}" for line in self.left_out]
        out = self.out.resolve()
        truth = ["--gt_audio", out / "gt_audio", "--gt_cache", out / "gt_cache"]
        length = f"--audio_length={SECONDS}"
        videos = ["--video_path", out / "videos", "--gt_batch_size", 8]
        commands = [["extract_video.py", *truth[2:], *videos, length]]
        for system in sorted(self.systems):
            made = ["--pred_audio", out / "pred_audio" / system, "--pred_cache", out / "pred_cache" / system]
            commands.append(["evaluate.py", *truth, *made, length, "--skip_clap"])  # these clips have no captions
        return lines + ["  python " + shlex.join(map(str, command)) for command in commands]
