"""A second take or redo of the same pictures neither decodes nor encodes them, and sounds as if it did."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.contract import FloatArray
from runtime import SamplingConfig, Take
from runtime.edit.feature_cache import FeatureCache, PassKey, SeenVideo, View
from runtime.edit.fingerprint import Fingerprint
from runtime.edit.plan import Plan
from runtime.pipeline import Pipeline
from runtime.windows import Window
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video

pytestmark = NEEDS_ORT
FIRST, SECOND = SamplingConfig(steps=2, seed=1), SamplingConfig(steps=3, seed=2)
PICTURES = {"video", "frame_encoder", "sync_encoder"}  # stages that a take without them leaves out


def worked(take: Take) -> set[str]:
    return PICTURES & set(take.report.calls)


def same(take: Take, other: Take) -> bool:
    assert take.activity is not None and other.activity is not None
    facts = [(t.report.warnings, t.report.clip, t.report.windows, t.report.samples) for t in (take, other)]
    return take == other and np.array_equal(take.activity, other.activity, equal_nan=True) and facts[0] == facts[1]


@pytest.fixture
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", 1)


@pytest.mark.parametrize("seconds", [3, 23])
def test_another_take_is_made_without_the_pictures(
    bundles: Callable[..., Path], make_video: Callable[..., Path], pipeline: Pipeline, seconds: int
) -> None:
    video = make_video(seconds * 10, 10)
    (first,) = pipeline.generate(video, FIRST)
    (again,) = pipeline.generate(video, FIRST)
    (other,) = pipeline.generate(video, SECOND)
    assert worked(first) == PICTURES and not worked(again) and not worked(other)
    assert same(first, again)
    assert same(other, runtime.load(bundles(), "cpu", 1).generate(video, SECOND)[0])


def test_a_redo_encodes_no_frame_again(
    bundles: Callable[..., Path], make_video: Callable[..., Path], pipeline: Pipeline
) -> None:
    video = make_video(80, 10)
    (take,) = pipeline.generate(video, FIRST)
    request = runtime.redo(take, (3, 4))
    (first,) = pipeline.generate(video, SECOND, edit=request)
    (again,) = pipeline.generate(video, SECOND, edit=request)
    assert worked(first) == {"video", "sync_encoder"} and not worked(again)
    (reference,) = runtime.load(bundles(), "cpu", 1).generate(video, SECOND, edit=request)
    assert worked(reference) == PICTURES
    assert same(first, reference) and same(again, reference)


def test_the_shipped_encoder_gives_the_same_bits() -> None:
    """A redo reads features that were computed in other calls: four frames in each, and here two in the last one."""
    video = Path(__file__).parents[3] / "examples" / "bounce.mp4"
    pipeline = runtime.load(backend="cpu", threads=1)
    (take,) = pipeline.generate(video, FIRST)
    request = runtime.redo(take, (3.2, 4.1))
    warm, reference = (p.generate(video, SECOND, edit=request)[0] for p in (pipeline, runtime.load(None, "cpu", 1)))
    assert worked(warm) == {"video", "sync_encoder"} and worked(reference) == PICTURES
    assert same(warm, reference)


def test_ranges_are_different_pictures(
    bundles: Callable[..., Path], make_video: Callable[..., Path], pipeline: Pipeline
) -> None:
    video = make_video(80, 10)
    takes = [pipeline.generate(video, FIRST, span=span)[0] for span in ((0, 4), (1, 5), (0, 4))]
    assert [worked(t) for t in takes] == [PICTURES, PICTURES, set()]
    assert same(takes[2], takes[0]) and not np.array_equal(takes[0].audio, takes[1].audio)
    assert same(takes[1], runtime.load(bundles(), "cpu", 1).generate(video, FIRST, span=(1, 5))[0])


def test_a_stream_uses_and_keeps_features(make_video: Callable[..., Path], pipeline: Pipeline) -> None:
    video = make_video(120, 10)
    streams = [pipeline.stream(video, FIRST) for _ in range(2)]
    sounds = [np.concatenate([piece.audio for piece in stream]) for stream in streams]
    assert np.array_equal(*sounds) and [worked(s.take) for s in streams] == [PICTURES, set()]
    assert np.array_equal(pipeline.generate(video, FIRST)[0].audio, sounds[0])


def test_a_stream_that_stops_early_keeps_nothing(make_video: Callable[..., Path], pipeline: Pipeline) -> None:
    video = make_video(230, 10)
    with pipeline.stream(video, FIRST) as stream:
        next(stream)
    assert worked(pipeline.generate(video, FIRST)[0]) == PICTURES


def test_a_file_that_changed_is_read_again(make_video: Callable[..., Path], pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(make_video(30, 10).read_bytes())
    pipeline.generate(path, FIRST)
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**9))  # the same bytes: only its time says so
    assert worked(pipeline.generate(path, FIRST)[0]) == PICTURES
    path.write_bytes(make_video(40, 10).read_bytes())
    assert pipeline.generate(path, FIRST)[0].duration == 4


def test_a_file_whose_time_is_set_back_is_read_again(
    make_video: Callable[..., Path], pipeline: Pipeline, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(make_video(30, 10).read_bytes())
    pipeline.generate(path, FIRST)
    found = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert worked(pipeline.generate(path, FIRST)[0]) == PICTURES


def test_a_playlist_is_read_again(pipeline: Pipeline, tmp_path: Path) -> None:
    """Its file stays the same when the pictures, which are in other files, change."""
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\npart.ts\n#EXT-X-ENDLIST\n")
    for frames in (30, 40):
        write_video(tmp_path / "part.ts", Picture(steady(frames, 10), codec="libx264", last=1 / 10))
        (take,) = pipeline.generate(path, FIRST)
        assert worked(take) == PICTURES and round(float(take.duration), 3) == frames / 10


def test_hooks_get_pictures(make_video: Callable[..., Path], pipeline: Pipeline) -> None:
    video, shapes = make_video(30, 10), list[tuple[int, ...]]()

    def picture(window: Window, seen: FloatArray) -> FloatArray:
        shapes.append(window.frames.shape)
        return seen

    request = runtime.GenerationRequest(picture=picture)
    takes = [pipeline.generate(video, FIRST, edit=edit)[0] for edit in (None, request, request)]
    assert all(worked(t) == PICTURES for t in takes) and len(shapes) == 4 and all(n for n, *_ in shapes)
    assert same(takes[0], takes[1])


def test_a_longer_limit_is_checked_again(make_video: Callable[..., Path], pipeline: Pipeline) -> None:
    video = make_video(30, 10)
    pipeline.generate(video, FIRST)
    with pytest.raises(runtime.MediaError, match="2 s"):
        pipeline.generate(video, FIRST, max_duration=2)


def test_a_closed_pipeline_keeps_nothing(make_video: Callable[..., Path], pipeline: Pipeline) -> None:
    pipeline.generate(make_video(), FIRST)
    pipeline.close()
    assert not pipeline._features._passes


def seen(windows: int, size: int) -> SeenVideo:
    none = np.zeros((0, 0, 0, 3), np.uint8)
    features = {"frame_features": np.zeros((1, 1, size // 4), np.float32)}
    views = [View(Window(n, 0, 1, none, none), features, np.zeros(0)) for n in range(windows)]
    return SeenVideo("clip", Fraction(0), Fraction(1), None, [], views)


def test_what_was_not_used_for_longest_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"clip")
    plan = Plan(Fingerprint("clip", 4, "0"))
    keys = [PassKey.of(path, plan, float(n)) for n in range(4)]
    a, b, c, d = (key for key in keys if key is not None)
    cache = FeatureCache(limit=1000)
    cache.put(a, seen(1, 400))
    cache.put(b, seen(1, 400))
    assert cache.get(a) is not None  # so that b is the older one
    cache.put(c, seen(1, 400))
    assert [cache.get(k) is not None for k in (a, b, c)] == [True, False, True]
    cache.put(d, seen(3, 400))  # too large alone: it drops nothing
    assert [cache.get(k) is not None for k in (a, b, c, d)] == [True, False, True, False]
    assert PassKey.of(tmp_path / "absent", plan, 1.0) is None and cache.get(None) is None
