"""What benchmarks.meaning measures: bundles, folders of generated sounds, and noise.

A system is a function from a track to its sounds: one list per seed, in each the takes, SCAV's choice first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.meaning.shown import FeaturesOfShown, Shown, ShownPipeline, read_shown
from runtime.errors import MediaError
from runtime.video import Video
from train.data.video_files import video_sound
from train.evaluate.files import Folder, clip_name, read_sound
from train.metrics.inputs import Sound
from train.metrics.semantic import RATE


@dataclass(frozen=True)
class Track:
    """A video with its true sound from the first frame on."""

    path: Path
    sound: Sound  # at RATE
    shown: list[Shown] = field(default_factory=list)  # of simulated videos that show concepts

    @property
    def concepts(self) -> list[str]:
        """The concepts that a simulated video shows."""
        return sorted({name for span in self.shown for name in span.concepts})


System = Callable[[Track], list[list[Sound]]]
Wish = Callable[[Track], runtime.Words | None]


def read_track(path: Path) -> Track:
    """Read a video's true sound, and what it shows if it is simulated. Raises MediaError if it has no sound."""
    with Video(path) as video:
        start = float(video.start)
    return Track(path, Sound(video_sound(path, start, RATE), RATE), read_shown(path))


def bundle_system(
    pipeline: ShownPipeline,
    options: dict[str, Any],
    seeds: int,
    features: FeaturesOfShown | None = None,
    wish: Wish | None = None,
) -> System:
    """The sounds that a bundle generates. `options`: of SamplingConfig, without the seed.

    features: makes the frame features of videos that show concepts. Without it, all videos have their own.
    wish: the words for a video.
    """

    def sounds(track: Track) -> list[list[Sound]]:
        made = features.of_track(track.path, track.shown, pipeline) if features and track.concepts else None
        words, takes = None if wish is None else wish(track), []
        for seed in range(seeds):
            pipeline.bundle.show(made, track.path)
            takes.append(pipeline.generate(track.path, runtime.SamplingConfig(seed=seed, **options), words=words))
        return [[Sound(take.audio, take.sample_rate) for take in own] for own in takes]

    return sounds


def folder_system(folder: Folder) -> System:
    """Sounds that are already generated: the file with the video's name. Raises MediaError if there is none."""

    def sounds(track: Track) -> list[list[Sound]]:
        name = clip_name(track.path)
        if name not in folder.clips:
            raise MediaError(f"no sound of {name} in {folder.path}")
        sound, problems = read_sound(folder.clips[name], folder.name, name)
        if sound is None:
            raise MediaError(str(problems[-1]))
        return [[sound]]

    return sounds


def noise_system() -> System:
    """White noise, as long as the true sound."""
    rng = np.random.default_rng(0)

    def sounds(track: Track) -> list[list[Sound]]:
        noise: NDArray[np.float32] = rng.uniform(-1, 1, len(track.sound.samples)).astype(np.float32)
        return [[Sound(noise, RATE)]]

    return sounds
