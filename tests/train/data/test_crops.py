"""A training crop sees pictures at the times at which the runtime's window of the same start sees them."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engines.contract import ModelConfig
from runtime.windows import windows
from train.data.dataset import Examples, start_interval

pytestmark = pytest.mark.torch
SECONDS, CROP = 20, 3
SIZES = {"frame_dim": 1, "sync_dim": 1, "audio_dim": 1, "frame_size": 1, "sync_size": 1}
SIZES |= {"window_seconds": CROP, "overlap_seconds": CROP - 1}  # a window of the runtime at every whole second
CONFIGS = {
    "bundle": ModelConfig(sync_stride=1, sync_offset=0, **SIZES),
    "bridge": ModelConfig(sync_stride=8, sync_offset=2, **SIZES),
    "mixed_4d": ModelConfig(sync_stride=4, sync_offset=0, **SIZES),
    "4 fps": ModelConfig(frame_fps=4, sync_stride=1, sync_offset=0, **SIZES),
}
INTERVALS = {"bundle": 1, "bridge": 8, "mixed_4d": 4, "4 fps": 1}


class NumberedVideo:
    """A video whose frames hold their own number, in steps of each grid."""

    duration = Fraction(SECONDS)

    def sample(self, grids: tuple, begin: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        frames = [(Fraction(2 * k + 1, 2 * g.fps), i, k) for i, g in enumerate(grids) for k in range(SECONDS * g.fps)]
        for _, i, k in sorted(frames):
            yield i, np.full((1, 1, 3), k)


def runtime_times(config: ModelConfig) -> dict[int, tuple[list[Fraction], list[Fraction]]]:
    """First token -> times of the CLIP pictures and of the centres of the sync features of the window there."""
    found = {}
    for window in windows(config, NumberedVideo()):
        frame = [frame_time(config, k) for k in window.frames[:, 0, 0, 0]]
        centres = window.sync_frames[config.sync_offset :: config.sync_stride, 0, 0, 0]
        found[window.start] = frame, [Fraction(2 * int(k) + 1, 2 * config.sync_fps) for k in centres]
    return found


def frame_time(config: ModelConfig, k: int) -> Fraction:
    return Fraction(2 * int(k) + 1, 2 * config.frame_fps)


def sync_time(config: ModelConfig, j: int) -> Fraction:
    return Fraction(2 * (int(j) * config.sync_stride + config.sync_offset) + 1, 2 * config.sync_fps)


def numbered_example(config: ModelConfig) -> dict[str, np.ndarray]:
    """An example whose features hold their own numbers."""
    n = config.n_tokens(SECONDS * config.sample_rate)
    columns = {"frame_features": config.n_frames(n), "sync_features": config.n_sync(n), "audio_features": 200}
    return {"codes": np.tile(np.arange(n), (config.n_codebooks, 1))} | {
        name: np.arange(length)[:, None] for name, length in columns.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_crop_shows_the_pictures_that_inference_would_show(name: str) -> None:
    config, expected = CONFIGS[name], runtime_times(CONFIGS[name])
    example, examples = numbered_example(config), Examples([], config)
    n = config.window_tokens
    starts = {}
    for share in np.linspace(0, 1, 4000, endpoint=False):
        crop = examples.crop(example, float(share), n)
        starts.setdefault(int(crop["codes"][0, 0]), crop)
    assert len(starts) == (SECONDS - CROP) // INTERVALS[name] + 1  # all of them, the last one too
    assert start_interval(config) == INTERVALS[name]
    for start, crop in starts.items():
        frame_times, sync_times = expected[start]
        assert [frame_time(config, k) for k in crop["frame_features"][:, 0]] == frame_times, start
        assert [sync_time(config, j) for j in crop["sync_features"][:, 0]] == sync_times, start
        assert (crop["codes"][0] == start + np.arange(n)).all()


def test_a_crop_as_long_as_its_example_or_longer_starts_at_zero() -> None:
    config = CONFIGS["bundle"]
    example, examples = numbered_example(config), Examples([], config)
    for n in (example["codes"].shape[1], example["codes"].shape[1] + 50):
        crop = examples.crop(example, 0.999, n)
        assert crop["codes"].shape[1] == n and crop["codes"][0, 0] == crop["frame_features"][0, 0] == 0
