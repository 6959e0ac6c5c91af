"""A take on a new version of its clip that has another frame rate: the same seconds, the right pictures."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime import Pipeline, SamplingConfig, Take
from runtime.edit.timecode import Span
from runtime.edit.timing import VideoTiming
from tests.support.engine_spy import Spy
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import write_timed

QUICK = SamplingConfig(steps=2, seed=1)
PAL, NTSC = Fraction(25), Fraction(30000, 1001)


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def take(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Seconds 3 to 5 of 5.6 s at 50 fps: frames 150 to 250, and the new version has only 140."""
    path = write_timed(tmp_path_factory.mktemp("old") / "x.mov", Fraction(50), "10:00:00:00", 280)
    return pipeline.generate(path, QUICK, span="3-5")[0]


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_timed(tmp_path_factory.mktemp("new") / "x.mov", PAL, "10:00:00:00", 140)


@NEEDS_ORT
def test_half_the_frame_rate_shows_the_pictures_of_the_same_seconds(
    pipeline: Pipeline, take: Take, slower: Path
) -> None:
    spy = Spy(pipeline, "frame_encoder")

    def seen() -> np.ndarray:
        frames = np.concatenate([f["frames"] for f in spy.feeds])
        spy.feeds.clear()
        return frames

    (new,) = pipeline.generate(slower, edit=replace(runtime.vary(take, 0.3), other_clip=True))
    varied = seen()
    pipeline.forget()
    pipeline.generate(slower, QUICK, span="3-5")
    assert np.array_equal(varied, seen())
    assert (new.span, new.start, len(new.audio)) == (Span.of_frames(75, 125, PAL), 3, len(take.audio))
    assert new.report.range is not None and new.report.range["frames"] == [75, 125]


@NEEDS_ORT
@pytest.mark.parametrize("wanted", ["0.4-1.2", "10f-30f", "10:00:03:10-10:00:04:05"])
def test_a_range_of_the_take_counts_in_the_new_frames(
    pipeline: Pipeline, take: Take, slower: Path, wanted: str
) -> None:
    (new,) = pipeline.generate(slower, edit=replace(runtime.redo(take, wanted), other_clip=True))
    assert new.report.edit is not None and new.report.edit["tokens"] == [34, 104]


@NEEDS_ORT
@pytest.mark.parametrize(("first", "begin"), [(150, 3), (151, Fraction(151, 50))])  # on a frame of 25 fps; between two
def test_an_extended_take_stays_where_it_is(
    pipeline: Pipeline, slower: Path, tmp_path: Path, first: int, begin: Fraction
) -> None:
    path = write_timed(tmp_path / "old.mov", Fraction(50), None, 280)
    (short,) = pipeline.generate(path, QUICK, span=f"{first}f-200f")
    (new,) = pipeline.generate(slower, edit=replace(runtime.extend(short), other_clip=True))
    assert new.span is not None and (new.start, new.span.begin, new.span.end) == (begin, begin, Fraction(28, 5))


@pytest.mark.parametrize(
    ("span", "rate", "steady", "found"),
    [
        (Span.of_frames(50, 100, PAL), PAL, True, Span.of_frames(50, 100, PAL)),
        (Span.of_frames(50, 100, PAL), 2 * PAL, True, Span.of_frames(100, 200, 2 * PAL)),
        (Span(Fraction(1), Fraction(2)), PAL, True, Span.of_frames(25, 50, PAL)),  # the old one's rate varied
        (Span.of_frames(50, 100, PAL), PAL, False, Span(Fraction(2), Fraction(4))),
        (Span.of_frames(30, 60, NTSC), PAL, True, Span(30 / NTSC, 60 / NTSC)),  # between two frames
    ],
)
def test_a_span_on_another_timing(span: Span, rate: Fraction, steady: bool, found: Span) -> None:
    times = tuple(n / rate for n in range(400))
    timing = VideoTiming(rate, 400, steady, None, first=Fraction(7), times=times, last=1 / rate)
    assert timing.same_seconds(span) == found
    part = timing.part(found)
    assert (part.origin, part.duration) == (7 + span.begin, span.seconds)
