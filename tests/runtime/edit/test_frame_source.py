"""Frames with time stamps in place of a file give what the file gives."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import runtime
from runtime import FrameSource, MediaError, OptionError, Pipeline, SamplingConfig
from runtime.video import FrameGrid
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video

RATE = Fraction(30000, 1001)
QUICK = SamplingConfig(steps=2, seed=1)
BLACK = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s of noise in RGB without loss, so that a host decodes the same values."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3)).astype(np.uint8) for _ in range(90)]
    picture = Picture(steady(90, RATE, start=2), last=1 / RATE, codec="png", pix_fmt="rgb24", images=images)
    return write_video(tmp_path_factory.mktemp("frames") / "x.mov", picture)


def decoded(path: Path, first: int = 0, end: int = 10**9) -> Iterator[tuple[np.ndarray, float]]:
    with av.open(str(path)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            if first <= n < end:
                yield frame.to_ndarray(format="rgb24"), frame.time


@NEEDS_ORT
def test_frames_sound_as_their_file(pipeline: Pipeline, video: Path) -> None:
    (a,) = pipeline.generate(video, QUICK)
    (b,) = pipeline.generate(FrameSource(decoded(video), rate=29.97, name="host"), QUICK)
    assert a.audio.tobytes() == b.audio.tobytes() and a.codes.tobytes() == b.codes.tobytes()
    assert (b.start, b.duration, b.report.clip) == (a.start, a.duration, "host")
    (c,) = pipeline.generate(video, QUICK, span="10f-55f")
    (d,) = pipeline.generate(FrameSource(decoded(video, 10, 55), duration=45 / RATE), QUICK)
    assert c.audio.tobytes() == d.audio.tobytes() != a.audio.tobytes()


@NEEDS_ORT
def test_a_take_of_frames_is_changed_with_the_same_frames(pipeline: Pipeline, video: Path) -> None:
    (from_file,) = pipeline.generate(video, QUICK)
    edit = runtime.redo(from_file, (0.5, 1.2))
    (a,) = pipeline.generate(video, QUICK, edit=edit)
    (b,) = pipeline.generate(FrameSource(decoded(video), rate=RATE), QUICK, edit=edit)
    assert a.audio.tobytes() == b.audio.tobytes() != from_file.audio.tobytes()
    edit = runtime.redo(from_file, "15f-36f")
    (c,) = pipeline.generate(FrameSource(decoded(video), rate=RATE), QUICK, edit=edit)
    assert np.array_equal(c.codes[:, :43], from_file.codes[:, :43]) and c.codes.tobytes() != from_file.codes.tobytes()
    (short,) = pipeline.generate(FrameSource(decoded(video, 0, 40), rate=RATE), QUICK)
    (longer,) = pipeline.generate(FrameSource(decoded(video), rate=RATE), QUICK, edit=runtime.extend(short))
    assert len(longer.audio) == len(a.audio)
    assert np.array_equal(longer.codes[:, : short.codes.shape[1]], short.codes)
    with pytest.raises(OptionError, match="the frames end where the take ends"):
        pipeline.generate(FrameSource(decoded(video, 0, 40), rate=RATE), QUICK, edit=runtime.extend(short))


@NEEDS_ORT
@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "has no frame left"),
        ([(BLACK[..., 0], 0.0)], {}, r"got uint8 \[32, 32\]"),
        ([(BLACK.astype(np.float32), 0.0)], {}, r"got float32 \[32, 32, 3\]"),
        ([("black", 0.0)], {}, "got str"),
        ([(BLACK, float("nan"))], {}, "a time stamp is nan"),
        ([(BLACK, None)], {}, "a time stamp is None"),
        ([(BLACK, 1.0), (BLACK, 0.5)], {}, r"the time stamp 0\.5 s goes back"),
    ],
)
def test_frames_that_cannot_be(pipeline: Pipeline, frames: list, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipeline.generate(FrameSource(frames, **options), QUICK)


@NEEDS_ORT
def test_more_that_cannot_be(pipeline: Pipeline, video: Path) -> None:
    source = FrameSource(decoded(video), rate=RATE)
    with pytest.raises(OptionError, match="a range needs a video file"):
        pipeline.generate(source, QUICK, span=(0, 1))
    pipeline.generate(source, QUICK)
    with pytest.raises(OptionError, match="no frame left; give a new FrameSource"):
        pipeline.generate(source, QUICK)
    for endless in ({}, {"duration": 9.0}):
        frames = FrameSource(((BLACK, n / 10) for n in range(10**9)), **endless)
        with pytest.raises(MediaError, match=r"at most 2 s is allowed"):
            pipeline.generate(frames, QUICK, max_duration=2)
    for values in ({"rate": 0}, {"duration": 0}, {"duration": "3"}, {"rate": "x"}):
        with pytest.raises(OptionError):
            FrameSource([], **values)


def test_one_frame_at_a_time_is_read() -> None:
    read = []

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        for n in range(100):
            read.append(n)
            yield BLACK, n / 25

    source = FrameSource(frames())
    source.open(10)
    samples = source.sample([FrameGrid(25, 32, 32)])
    for _ in range(5):
        next(samples)
    assert len(read) <= 7
    assert len(list(samples)) == 95 and source.duration == 4
