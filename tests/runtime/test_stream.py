"""A sound in pieces: the samples of `generate`, piece by piece, and what is read and done before each of them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.contract import FloatArray
from runtime import (
    Cancelled,
    FrameSource,
    OptionError,
    Pipeline,
    Progress,
    SamplingConfig,
    SoundStream,
    Words,
    exit_wait,
    generation,
)
from runtime.errors import MediaError, PipelineClosed
from tests.support.engine_spy import Spy
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video

pytestmark = NEEDS_ORT
QUICK = SamplingConfig(steps=2, seed=1)
CHUNK = 36  # token frames of a piece: 0.42 s, and a window of a fake bundle has 2 s


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("context", "generation"):
        monkeypatch.setattr(f"runtime.{module}.CODEC_CHUNK", CHUNK)


@pytest.fixture
def pipeline(bundles: Callable[..., Path]) -> Iterator[Pipeline]:
    with runtime.load(bundles(), "cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4.6 s: four windows of 2 s that overlap by 1 s, the last one moved back. The picture changes all the time."""
    return write_video(tmp_path_factory.mktemp("stream") / "x.mp4", Picture(steady(46, 10), last=Fraction(1, 10)))


def joined(stream: SoundStream) -> FloatArray:
    pieces = list(stream)
    ends = np.cumsum([len(p.audio) for p in pieces])
    assert [p.first for p in pieces] == [0, *ends[:-1]] and pieces[1].begin == len(pieces[0].audio) / 44100
    assert all(len(p.audio) == CHUNK * 512 for p in pieces[:-1]) and len(pieces[-1].audio) > 0
    return np.concatenate([p.audio for p in pieces])


# ---------------------------------------------------------------- the same sound
@pytest.mark.parametrize(
    ("sampling", "options"),
    [
        (QUICK, {}),
        (replace(QUICK, candidates=3, budget=(1,)), {}),
        (replace(QUICK, guidance=0), {"span": (0.3, 3.7)}),
        (QUICK, {"words": Words("dog")}),
    ],
    ids=["plain", "budget", "range", "words"],
)
def test_the_pieces_are_the_samples_of_generate(
    pipeline: Pipeline, video: Path, sampling: SamplingConfig, options: dict
) -> None:
    stream = pipeline.stream(video, sampling, **options)
    audio = joined(stream)
    pipeline.forget()
    (take,) = pipeline.generate(video, sampling, **options)
    assert audio.tobytes() == take.audio.tobytes() and stream.take == take
    made, whole = stream.take.report, take.report
    assert np.array_equal(stream.take.activity, take.activity, equal_nan=True)
    for name in (
        "loudness",
        "windows",
        "samples",
        "calls",
        "ranking",
        "scores",
        "dropped",
        "warnings",
        "range",
        "words",
    ):
        assert getattr(made, name) == getattr(whole, name), name


def test_frames_of_a_host(pipeline: Pipeline) -> None:
    frames = [(np.full((48, 64, 3), 5 * n, np.uint8), n / 10) for n in range(46)]
    (take,) = pipeline.generate(FrameSource(frames, rate=10), QUICK)
    assert np.array_equal(joined(pipeline.stream(FrameSource(frames, rate=10), QUICK)), take.audio)


def test_a_video_shorter_than_a_window(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    stream = pipeline.stream(make_video(1))
    (piece,) = stream
    assert piece.audio.shape == (1764,) and np.array_equal(stream.take.audio, piece.audio)


# ---------------------------------------------------------------- early
def test_the_first_pieces_need_the_first_window_alone(pipeline: Pipeline) -> None:
    read: list[float] = []

    def frames() -> Iterator[tuple[np.ndarray, float]]:
        for n in range(200):
            read.append(n / 10)
            yield np.full((48, 64, 3), n, np.uint8), n / 10

    encoder, step = Spy(pipeline, "frame_encoder"), Spy(pipeline, "step")
    stream = pipeline.stream(FrameSource(frames(), rate=10), QUICK)
    whole = (pipeline.config.window_tokens - pipeline.config.codec_context - 1) // CHUNK
    assert whole >= 3 and not read
    for _ in range(whole):
        next(stream)
        assert read[-1] < 3 and len(step.feeds) == QUICK.steps
    encoded = len(encoder.feeds)
    next(stream)
    assert read[-1] < 4 and len(step.feeds) == 2 * QUICK.steps and encoded < len(encoder.feeds) <= 2 * encoded
    stream.close()
    assert read[-1] < 4


def test_progress_grows_to_one(pipeline: Pipeline, video: Path) -> None:
    seen: list[Progress] = []
    for n, _ in enumerate(pipeline.stream(video, QUICK, seen.append)):
        assert n or {p.window for p in seen} == {0}
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and fractions.count(1) == 1
    assert {p.stage for p in seen} == {"video", "sample", "codec"}


# ---------------------------------------------------------------- ends
def test_the_take_comes_after_the_last_piece(pipeline: Pipeline, video: Path) -> None:
    with pipeline.stream(video, QUICK) as stream:
        next(stream)
        with pytest.raises(ValueError, match="once all pieces have been read"):
            stream.take  # noqa: B018
        rest = list(stream)
        assert stream.take.report.samples == rest[-1].first + len(rest[-1].audio)
    assert next(stream, None) is None and len(stream.take.audio) == stream.take.report.samples


def test_between_two_pieces_nothing_delays_the_end_of_the_program(pipeline: Pipeline, video: Path) -> None:
    stream = pipeline.stream(video, QUICK)
    next(stream)
    assert exit_wait._ACTIVE.count == 0


def test_a_stream_that_is_closed(pipeline: Pipeline, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    close = runtime.video.Video.close
    monkeypatch.setattr(runtime.video.Video, "close", lambda self: (closed.append(self), close(self)))
    with pipeline.stream(video, QUICK) as stream:
        next(stream)
        assert not closed
    assert len(closed) == 1 and list(stream) == []


def test_cancelling_and_closing_the_pipeline(pipeline: Pipeline, video: Path) -> None:
    cancel = threading.Event()
    stream, other = pipeline.stream(video, QUICK, cancel=cancel), pipeline.stream(video, QUICK)
    next(stream), next(other)
    cancel.set()
    with pytest.raises(Cancelled):
        list(stream)
    pipeline.close()
    with pytest.raises(PipelineClosed):
        list(other)
    with pytest.raises(PipelineClosed):
        pipeline.stream(video, QUICK)


@pytest.mark.parametrize(
    "options", [{"candidates": 2}, {"candidates": 4, "takes": 2}, {"candidates": 4, "budget": (2,)}]
)
def test_what_must_wait_for_the_last_window_is_refused(pipeline: Pipeline, video: Path, options: dict) -> None:
    with pytest.raises(OptionError, match=r"candidates is \d; a stream is heard .* give 1, or a budget that ends in 1"):
        pipeline.stream(video, replace(QUICK, **options))


def test_errors_come_where_the_video_is_read(pipeline: Pipeline, tmp_path: Path, video: Path) -> None:
    stream = pipeline.stream(video, QUICK, max_duration=3)
    with pytest.raises(MediaError, match="lasts"):
        next(stream)
    with pytest.raises(MediaError, match="no such file"):
        pipeline.stream(tmp_path / "absent.mp4")


def test_values_that_are_not_finite(pipeline: Pipeline, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.Run, "chunk", lambda self, codes, window, begin, end: np.full(8, np.nan, np.float32))
    with pytest.raises(MediaError, match="not finite"):
        next(pipeline.stream(video, QUICK))
