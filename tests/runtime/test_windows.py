"""Windows over a video of any length: no gap, as full as possible, the right frames, bounded memory."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.contract import ModelConfig
from runtime.video import FrameGrid
from runtime.windows import Window, grids, start_token, total_samples, windows
from tests.support.fake_engines import small_config

SMALL = replace(small_config(), frame_size=2, frame_resize=2, sync_size=2, sync_resize=2)
PAPER = replace(SMALL, window_seconds=10, overlap_seconds=2)


@dataclass
class FakeVideo:
    """A video whose frames contain their number, and that counts how many frames are still referenced."""

    duration: Fraction
    most: int = 0
    live: int = 0
    made: int = 0

    def sample(self, grids: Sequence[FrameGrid], begin: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        times = (
            (Fraction(2 * k + 1, 2 * g.fps), i, k)
            for i, g in enumerate(grids)
            for k in range(begin * g.fps, max(begin * g.fps + 1, ceil(self.duration * g.fps)))
        )
        for _, i, k in sorted(times):
            frame = np.zeros((grids[i].size, grids[i].size, 3), np.uint8)
            frame.reshape(-1)[:3] = (k & 255, k >> 8 & 255, k >> 16)
            weakref.finalize(frame, self._gone).atexit = False
            self.live += 1
            self.made += 1
            self.most = max(self.most, self.live)
            yield i, frame

    def _gone(self) -> None:
        self.live -= 1


def numbers(frames: np.ndarray) -> np.ndarray:
    """The numbers that FakeVideo wrote into frames [n, size, size, 3]."""
    low = frames.reshape(len(frames), -1)[:, :3].astype(int)
    return low[:, 0] + 256 * low[:, 1] + 65536 * low[:, 2]


def cut(config: ModelConfig, seconds: Fraction | float) -> list[Window]:
    return list(windows(config, FakeVideo(Fraction(seconds).limit_denominator(1000))))


def check(config: ModelConfig, seconds: Fraction) -> None:
    video = FakeVideo(seconds)
    made = list(windows(config, video))
    total, full = config.n_tokens(total_samples(config, video)), config.window_tokens
    least = (
        config.n_tokens(config.overlap_seconds * config.sample_rate) - 1
    )  # it starts at the token nearest to a second
    assert [w.number for w in made] == list(range(len(made)))
    assert made[0].start == 0
    assert made[-1].start + made[-1].length == total
    for before, after in pairwise(made):
        assert before.length == full
        overlap = before.start + before.length - after.start
        assert overlap >= least
        assert after.start > before.start
    assert made[-1].length == total if total <= full else made[-1].length > full - config.n_tokens(config.sample_rate)
    for w in made:
        second = round(w.start * config.hop_length / config.sample_rate)
        assert w.start == start_token(config, second)
        wanted = (config.frame_fps, config.n_frames(w.length)), (config.sync_fps, config.n_sync_frames(w.length))
        for frames, (fps, count) in zip((w.frames, w.sync_frames), wanted, strict=True):
            last = max(1, ceil(seconds * fps)) - 1
            assert np.array_equal(numbers(frames), np.minimum(second * fps + np.arange(count), last))


@given(st.fractions(Fraction(1, 100), 15, max_denominator=100), st.integers(2, 5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_windows_of_any_length(seconds: Fraction, window: int, overlap: int) -> None:
    check(replace(SMALL, window_seconds=window, overlap_seconds=min(overlap, window - 1)), seconds)


@pytest.mark.parametrize("seconds", ["1/30", "1", "9.99", "10", "10.004", "10.01", "10.51", "11", "18", "18.6", "61"])
def test_the_papers_windows(seconds: str) -> None:
    check(PAPER, Fraction(seconds))


def test_known_cuts() -> None:
    assert [(w.start, w.length) for w in cut(PAPER, 10)] == [(0, 862)]
    assert [(w.start, w.length) for w in cut(PAPER, 18)] == [(0, 862), (689, 862)]
    assert [(w.start, w.length) for w in cut(PAPER, 14)] == [(0, 862), (345, 861)]  # moved back: as full as it can be
    assert [(w.start, w.length) for w in cut(PAPER, 0.1)] == [(0, 9)]


def test_one_frame_is_repeated() -> None:
    (window,) = cut(PAPER, Fraction(1, 30))
    assert window.length == 3  # 1470 samples
    assert numbers(window.frames).tolist() == [0]
    assert len(window.sync_frames) == 8 and not numbers(window.sync_frames).any()


def test_grids_are_the_configurations() -> None:
    config = ModelConfig()
    assert grids(config) == (FrameGrid(8, 224, 224), FrameGrid(25, 256, 224))


def test_total_is_rounded_once() -> None:
    assert total_samples(PAPER, FakeVideo(Fraction(10))) == 441000
    assert total_samples(PAPER, FakeVideo(Fraction(1001, 30000))) == 1471  # 1471.47
    assert total_samples(PAPER, FakeVideo(Fraction(1, 10**6))) == 1


def test_start_tokens_do_not_drift() -> None:
    for second in (0, 1, 8, 3600, 36000):
        error = start_token(PAPER, second) * 512 / 44100 - second
        assert abs(error) <= 256 / 44100 + 1e-9


def test_on_frame_is_called_for_every_frame_and_may_stop() -> None:
    calls: list[None] = []
    list(windows(PAPER, FakeVideo(Fraction(2)), lambda: calls.append(None)))
    assert len(calls) == 2 * (PAPER.frame_fps + PAPER.sync_fps)

    def stop() -> None:
        if video.made == 5:
            raise KeyboardInterrupt

    video = FakeVideo(Fraction(2))
    with pytest.raises(KeyboardInterrupt):
        list(windows(PAPER, video, stop))
    assert video.made == 5


def test_a_long_video_keeps_a_bounded_number_of_frames() -> None:
    """At most the frames of two windows are alive, however long the video is."""
    most = []
    for minutes in (2, 10):
        video = FakeVideo(Fraction(60 * minutes))
        for _ in windows(PAPER, video):
            pass
        most.append(video.most)
    seconds = PAPER.window_seconds + (PAPER.window_seconds - PAPER.overlap_seconds) + 1
    assert most[0] == most[1] <= seconds * (PAPER.frame_fps + PAPER.sync_fps)
