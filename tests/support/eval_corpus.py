"""A tiny corpus for tests of the evaluation: short videos whose sounds have onsets at times of their own."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.audio import resample, write_wav
from tests.support.media import Picture, Sound, steady, write_video

RATE = 44100
NAMES = ("ape", "bee", "cat")


def hits(seed: int, seconds: float = 4.0, delay: float = 0.0) -> NDArray[np.float32]:
    """Decaying bursts of noise, never closer than 0.25 s, over a faint hiss."""
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
    """Nothing above 4 kHz."""
    return resample(resample(audio, RATE, 8000), 8000, RATE)


def write_reference(folder: Path, seconds: float = 4.0) -> Path:
    """NAME.mov with its sound, H.264 and PCM."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        sound = Sound(hits(seed, seconds)[None], RATE, "pcm_s16le")
        picture = Picture(steady(round(seconds * 25), 25), last=1 / 25, size=(96, 64))
        write_video(folder / f"{name}.mov", picture, sound)
    return folder


def write_system(folder: Path, sounds: dict[str, NDArray[np.float32]], rate: int = RATE) -> Path:
    """NAME.wav of each."""
    folder.mkdir(parents=True)
    for name, sound in sounds.items():
        write_wav(folder / f"{name}.wav", resample(sound, RATE, rate), rate)
    return folder
