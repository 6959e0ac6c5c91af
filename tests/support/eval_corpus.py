"""A tiny corpus for tests of the evaluation: short videos with different onset times."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.audio import resample, write_wav
from tests.support.media import Picture, Sound, steady, write_video

RATE = 44100
NAMES = ("ape", "bee", "cat")


def hits(seed: int, seconds: float = 4.0, delay: float = 0.0) -> NDArray[np.float32]:
    """Decaying noise bursts at least 0.25 s apart, over a faint hiss; [L] at RATE."""
    rng = np.random.default_rng(seed)
    audio = 1e-4 * rng.standard_normal(round(seconds * RATE))
    time = 0.3 + rng.uniform(0, 0.3)
    while time < seconds - 0.5:
        n = RATE // 8
        burst = rng.standard_normal(n) * np.exp(-np.arange(n) / (rng.uniform(0.01, 0.03) * RATE))
        begin = round((time + delay) * RATE)
        audio[begin : begin + n] += rng.uniform(0.1, 0.3) * burst
        time += rng.uniform(0.45, 0.95)
    return np.clip(audio, -1, 1).astype(np.float32)


def low_pass(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove everything above 4 kHz."""
    return resample(resample(audio, RATE, 8000), 8000, RATE)


def write_reference(folder: Path, seconds: float = 4.0) -> Path:
    """Write NAME.mov with H.264 video and PCM sound."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        sound = Sound(hits(seed, seconds)[None], RATE, "pcm_s16le")
        picture = Picture(steady(round(seconds * 25), 25), last=1 / 25, size=(96, 64))
        write_video(folder / f"{name}.mov", picture, sound)
    return folder


def write_system(folder: Path, sounds: dict[str, NDArray[np.float32]], rate: int = RATE) -> Path:
    """Write NAME.wav for each sound."""
    folder.mkdir(parents=True)
    for name, sound in sounds.items():
        write_wav(folder / f"{name}.wav", resample(sound, RATE, rate), rate)
    return folder
