"""Chunks of sound, and progress: it moves in every stage, never goes backwards, and is 1.0 once, at the end."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import runtime
from engines.feeds import CODEC_PERIOD
from runtime import Pipeline, Progress, SamplingConfig, Stage
from runtime.bundle import Bundle
from runtime.context import PICTURES, GenerationContext, WorkEstimate
from runtime.generation import Run
from tests.support.fake_engines import NEEDS_ORT, small_config
from tests.support.media import Picture, steady, write_video


# ---------------------------------------------------------------- the codec's chunks
class ClockCodec:
    """A codec whose sound depends on codes up to `context` frames away, and on a frame's place in a period."""

    manifest = SimpleNamespace(distilled_guidance=0.0)

    def __init__(self, context: int) -> None:
        self.config = small_config(codec_context=context, hop_length=4)
        self.lengths: list[int] = []

    def run(self, graph: str, codes: NDArray[np.int32]) -> tuple[NDArray[np.float32]]:
        length, reach = codes.shape[2], self.config.codec_context
        self.lengths.append(length)
        padded = np.pad(codes.sum(axis=1)[0], reach)
        total = sum(padded[i : i + length] * (i + 1) for i in range(2 * reach + 1))
        place = np.arange(length) % CODEC_PERIOD
        return (np.repeat(total * CODEC_PERIOD + place, 4).astype(np.float32)[None],)


@given(context=st.integers(0, 9), size=st.sampled_from([4, 8, 20]), data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_range_of_the_sound_equals_the_whole(context: int, size: int, data: st.DataObject) -> None:
    """Sample by sample, in as many chunks as announced, none longer than TensorRT's profile allows."""
    length = data.draw(st.integers(1, 90))
    first = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(first + 1, length))
    codes = np.random.default_rng(length).integers(0, 50, (2, length), dtype=np.int32)
    codec = ClockCodec(context)
    (whole,) = codec.run("codec_decoder", codes[None])
    codec.lengths.clear()
    run = GenerationContext(cast(Bundle, codec), SamplingConfig(), None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.context, "CODEC_CHUNK", size)
        sound, chunks = run.sound(codes, 0, first, stop), run.chunks(first, stop)
    np.testing.assert_array_equal(sound, whole[0, first * 4 : stop * 4])
    before = -(-context // CODEC_PERIOD) * CODEC_PERIOD
    assert len(codec.lengths) == chunks and max(codec.lengths) <= before + size + context


# ---------------------------------------------------------------- the arithmetic
@given(
    expected=st.integers(0, 6), windows=st.integers(1, 6), takes=st.integers(1, 4),
    costs=st.lists(st.floats(1, 1e5), min_size=6, max_size=6), parts=st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_the_fraction_never_falls_and_ends_at_one(
    expected: int, windows: int, takes: int, costs: list[float], parts: int
) -> None:
    work, seen = WorkEstimate(expected, takes), [0.0]
    for n in range(windows):
        work.begin_window(costs[n])
        for part in range(parts):
            work.pictures_done(part / parts)
            seen.append(work.fraction)
        for part in range(1, parts + 1):
            work.decoding_done(costs[n] * part / parts)
            work.chunk_done()  # to score: does not count
            seen.append(work.fraction)
    work.begin_rendering(takes * parts)
    for _ in range(takes * parts):
        work.chunk_done()
        assert work.fraction > seen[-1]
        seen.append(work.fraction)
    assert seen == sorted(seen) and seen[-1] < 1
    work.finish()
    assert work.fraction == 1


def test_a_window_moves_evenly_by_its_costs() -> None:
    work = WorkEstimate(2, 1)
    work.begin_window(PICTURES)  # decoding costs as much as the pictures
    work.pictures_done(0.5)
    quarter = work.fraction
    work.pictures_done(1)
    assert work.fraction == pytest.approx(2 * quarter)
    work.decoding_done(PICTURES)
    assert work.fraction == pytest.approx(4 * quarter)
    work.begin_window(PICTURES)
    work.decoding_done(PICTURES)
    assert work.fraction == pytest.approx(8 * quarter) and 0.5 < work.fraction < 1


# ---------------------------------------------------------------- the pipeline
@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Videos of one, two and four windows."""
    folder = tmp_path_factory.mktemp("videos")
    lengths = {1: 15, 2: 26, 4: 46}
    return {
        windows: write_video(folder / f"{windows}.mp4", Picture(steady(frames, 10), last=Fraction(1, 10)))
        for windows, frames in lengths.items()
    }


@pytest.fixture
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


OPTIONS = {
    "one candidate": {},
    "no guidance": {"guidance": 0},
    "guidance in an interval": {"guidance_from": 0.25, "guidance_until": 0.75},
    "candidates": {"candidates": 3, "takes": 3},
    "a budget": {"candidates": 5, "takes": 1, "budget": (3, 1)},
    "more steps than masked tokens": {"steps": 1024},
}


def check(seen: list[Progress]) -> list[float]:
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0
    assert fractions.count(1.0) == 1 and fractions[-1] == 1
    assert {p.stage for p in seen} <= set(get_args(Stage))
    assert [p.window for p in seen] == sorted(p.window for p in seen)
    return fractions


@NEEDS_ORT
@pytest.mark.parametrize("windows", [1, 2, 4])
@pytest.mark.parametrize("name", OPTIONS)
def test_progress(pipeline: Pipeline, videos: dict[int, Path], windows: int, name: str) -> None:
    seen: list[Progress] = []
    sampling = SamplingConfig(**{"steps": 4, "seed": 1} | OPTIONS[name])
    (take, *_) = pipeline.generate(videos[windows], sampling, seen.append)
    assert take.report.windows == windows
    check(seen)
    for window in range(windows):
        for stage in ("video", "sample"):  # both move in every window
            moved = {p.fraction for p in seen if p.window == window and p.stage == stage}
            assert len(moved) >= 2, (window, stage)
    if sampling.candidates > 1:
        assert len({p.fraction for p in seen if p.stage == "select"}) >= 2


@NEEDS_ORT
@pytest.mark.parametrize("expected", [0, 1, 9], ids=["unknown", "too few", "too many"])
def test_progress_when_the_number_of_windows_is_not_known(
    pipeline: Pipeline, videos: dict[int, Path], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "_estimate_windows", lambda self, video: expected)
    seen: list[Progress] = []
    pipeline.generate(videos[4], SamplingConfig(steps=4), seen.append)
    check(seen)


@NEEDS_ORT
def test_an_error_in_rendering_is_not_complete(
    pipeline: Pipeline, videos: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.0 means that the takes exist."""

    def fail(self: Run, *_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Run, "_report", fail)
    seen: list[Progress] = []
    with pytest.raises(ZeroDivisionError):
        pipeline.generate(videos[1], SamplingConfig(steps=2), seen.append)
    assert max(p.fraction for p in seen) < 1
