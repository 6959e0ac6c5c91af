"""Redo, vary and extend: what stays is the same token by token and sample by sample, and a redo is cheap."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from engines.contract import DESIGNS
from runtime import FrameSource, OptionError, Pipeline, SamplingConfig, Take
from runtime.edit.plan import Planner, spread_mask
from runtime.edit.request import GenerationRequest
from runtime.edit.timing import read_timing
from runtime.windows import Window, start_token
from tests.support.engine_spy import Spy
from tests.support.fake_engines import CONTEXT, NEEDS_ORT, small_config
from tests.support.media import Picture, steady, write_timed, write_video

QUICK = SamplingConfig(steps=3, seed=1)
HOP, RATE = 512, 44100

pytestmark = NEEDS_ORT


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.6 s at 25 fps with timecode: five windows of 2 s that overlap by 1 s."""
    return write_timed(tmp_path_factory.mktemp("video") / "x.mov", Fraction(25), "10:00:00:00", 140)


@pytest.fixture(scope="module")
def take(pipeline: Pipeline, video: Path) -> Take:
    return pipeline.generate(video, QUICK)[0]


def check_only_changed(old: Take, new: Take, first: int, end: int) -> None:
    """All tokens outside of [first, end) are the same, and all samples that the codec's context does not reach."""
    left, right = max(0, first - CONTEXT) * HOP, (end + CONTEXT) * HOP
    for name, begin, stop in (("codes", first, end), ("audio", left, right)):
        a, b = (np.atleast_2d(getattr(t, name)) for t in (old, new))
        assert np.array_equal(a[:, :begin], b[:, :begin]) and np.array_equal(a[:, stop:], b[:, stop : a.shape[1]])
        assert not np.array_equal(a[:, begin:stop], b[:, begin : min(stop, a.shape[1])])


# ---------------------------------------------------------------- redo
@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [
        ((2.1, 3.4), 180, 293),  # across the border of two windows of the take
        ("0-0.5", 0, 44),
        ("130f-140f", 447, 483),
        ("10:00:01:00-10:00:02:00", 86, 173),
        ("0.5-5.2", 43, 448),  # longer than a window
    ],
)
def test_redo_changes_only_its_range(
    pipeline: Pipeline, video: Path, take: Take, wanted: object, first: int, end: int
) -> None:
    (new,) = pipeline.generate(video, edit=runtime.redo(take, wanted))
    check_only_changed(take, new, first, end)
    assert new.report.edit == {"kind": "redo", "tokens": [first, end], "share": 1.0, "filled": 9 * (end - first)}
    assert new.report.sampling == replace(QUICK, seed=2) and new.audio.shape == take.audio.shape
    assert np.mean(new.codes[:, first:end] != take.codes[:, first:end]) > 0.9
    (again,) = pipeline.generate(video, edit=runtime.redo(take, wanted))
    assert again == new
    (other,) = pipeline.generate(video, replace(QUICK, seed=9, steps=4), edit=runtime.redo(take, wanted))
    check_only_changed(new, other, first, end)


def test_the_sound_of_a_redo_is_that_of_its_tokens(pipeline: Pipeline, video: Path, take: Take) -> None:
    (new,) = pipeline.generate(video, edit=runtime.redo(take, (2.1, 3.4)))
    (whole,) = pipeline.bundle.run("codec_decoder", codes=new.codes[None])
    assert np.array_equal(new.audio, whole[0, : len(new.audio)])


def test_redo_of_a_range_of_the_video(pipeline: Pipeline, video: Path) -> None:
    (old,) = pipeline.generate(video, QUICK, span="1-5")
    for wanted in ("2-3", "50f-75f", "10:00:03:00-10:00:04:00"):  # the same second of the take
        (new,) = pipeline.generate(video, edit=runtime.redo(old, wanted))
        check_only_changed(old, new, 172, 259)
        assert new.span == old.span and new.start == old.start == 1


@pytest.mark.parametrize("design", DESIGNS)
def test_windows_of_a_redo_see_the_same_frames(
    bundles: Callable[..., Path], make_video: Callable[..., Path], design: str
) -> None:
    """What the encoders get for a redone range is what they get for these seconds of a whole generation."""
    pipeline = runtime.load(bundles(design), "cpu", threads=1)
    path = make_video(150)
    spy = Spy(pipeline, "frame_encoder")
    (old,) = pipeline.generate(path, QUICK)
    spy.feeds.clear()
    pipeline.forget()
    (new,) = pipeline.generate(path, edit=runtime.redo(old, (4.2, 4.4)))
    seen = np.concatenate([f["frames"] for f in spy.feeds])
    assert len(seen) == 16  # seconds 3 to 5
    spy.feeds.clear()
    pipeline.generate(path, QUICK, span=(3, 5))
    assert np.array_equal(seen, np.concatenate([f["frames"] for f in spy.feeds]))
    assert not np.array_equal(new.codes, old.codes)


def test_a_redo_costs_at_most_half(bundles: Callable[..., Path], tmp_path: Path) -> None:
    """2 s of 10 s, at each place, counted in tokens times steps, frames and token frames of sound."""
    pipeline = runtime.load(bundles(window_seconds=10, overlap_seconds=2), "cpu", threads=1)
    path = write_video(tmp_path / "x.mp4", Picture(steady(100, 10), last=Fraction(1, 10)))
    inputs = {"step": "codes", "frame_encoder": "frames", "sync_encoder": "frames", "codec_decoder": "codes"}
    spies = {name: Spy(pipeline, name) for name in inputs}

    def cost(**options: object) -> tuple[Take, dict[str, int]]:
        for spy in spies.values():
            spy.feeds.clear()
        pipeline.forget()
        (take,) = pipeline.generate(path, QUICK, **options)
        axis = {"frame_encoder": 0, "sync_encoder": 1, "step": 2, "codec_decoder": 2}
        return take, {n: sum(f[inputs[n]].shape[axis[n]] for f in spy.feeds) for n, spy in spies.items()}

    take, whole = cost()
    assert whole["step"] == 862 * QUICK.steps
    for begin in (1.89, 4):
        _, part = cost(edit=runtime.redo(take, (begin, begin + 2)))
        assert all(part[name] <= whole[name] / 2 for name in inputs), (begin, part, whole)


@given(begin=st.floats(0, 18), rate=st.sampled_from([24, 25, 29.97, 48, 50, 60]))
def test_two_seconds_never_need_more_than_half_a_window(begin: float, rate: float) -> None:
    """At any place, on any frame."""
    config = small_config(window_seconds=10, overlap_seconds=2)
    begin = round(begin * rate) / rate
    first, end = floor(begin * RATE / HOP), ceil((begin + 2) * RATE / HOP)
    second, stretch = Planner(FrameSource([]), config)._around(first, end, config.n_tokens(20 * RATE))
    assert stretch.end is not None and stretch.end - start_token(config, second) <= config.window_tokens / 2
    assert second == 0 or first - start_token(config, second) >= 77  # 0.9 s of context
    assert stretch.end - end == 78 or stretch.end == config.n_tokens(20 * RATE)


def test_candidates_of_a_redo_are_ranked(pipeline: Pipeline, video: Path, take: Take) -> None:
    options = replace(QUICK, candidates=3, takes=2, budget=())
    best, second = pipeline.generate(video, options, edit=runtime.redo(take, (2, 3)))
    assert best.score < second.score and not np.array_equal(best.codes, second.codes)
    for new in (best, second):
        check_only_changed(take, new, 172, 259)


# ---------------------------------------------------------------- vary
def test_vary_fills_a_share_of_the_tokens(pipeline: Pipeline, video: Path, take: Take) -> None:
    spy = Spy(pipeline, "step")
    (new,) = pipeline.generate(video, edit=runtime.vary(take, 0.3))
    mask = spread_mask(take.codes.shape, 0, 483, 0.3, 2)
    assert mask.mean() == pytest.approx(0.3, abs=0.001) == new.report.edit["filled"] / mask.size
    assert np.array_equal(new.codes[~mask], take.codes[~mask])
    assert np.mean(new.codes[mask] != take.codes[mask]) > 0.9
    first = spy.feeds[0]["codes"][0]
    assert np.array_equal(first == 1024, mask[:, : first.shape[1]])
    (other,) = pipeline.generate(video, replace(QUICK, seed=7), edit=runtime.vary(take, 0.3))
    assert not np.array_equal(other.codes, new.codes)
    (inside,) = pipeline.generate(video, edit=runtime.redo(take, (2.1, 3.4), share=0.5))
    check_only_changed(take, inside, 180, 293)
    assert inside.report.edit["filled"] == 9 * round(0.5 * 113)


@given(frames=st.integers(1, 400), first=st.integers(0, 50), share=st.floats(0.001, 1), seed=st.integers(0, 2**64 - 1))
def test_the_mask_is_even_over_time_and_codebooks(frames: int, first: int, share: float, seed: int) -> None:
    mask = spread_mask((4, first + frames + 9), first, first + frames, share, seed)
    assert not mask[:, :first].any() and not mask[:, first + frames :].any()
    count = max(1, round(share * frames))
    assert (mask.sum(axis=1) == count).all()
    for row in mask:  # every stretch has its part of them
        places = np.flatnonzero(row)
        assert np.diff(places).max(initial=0) < 2 * -(-frames // count)
    assert np.array_equal(mask, spread_mask(mask.shape, first, first + frames, share, seed))


# ---------------------------------------------------------------- extend
@pytest.mark.parametrize(("old", "new"), [("0-1.2", None), ("25f-90f", "25f-100f"), ("1-5.5", None)])
def test_extend_keeps_all_that_is_known(pipeline: Pipeline, video: Path, old: str, new: str | None) -> None:
    (short,) = pipeline.generate(video, QUICK, span=old)
    spy = Spy(pipeline, "step")
    (long,) = pipeline.generate(video, edit=runtime.extend(short, new))
    tokens = short.codes.shape[1]
    assert np.array_equal(long.codes[:, :tokens], short.codes) and (long.codes < 1024).all()
    same = (tokens - CONTEXT) * HOP
    assert np.array_equal(long.audio[:same], short.audio[:same])
    end = 5.6 if new is None else 4
    assert len(long.audio) == round((Fraction(end).limit_denominator(10) - short.span.begin) * RATE)
    assert long.span.begin == short.span.begin and long.span.seconds == long.duration
    known = (spy.feeds[0]["codes"][0] != 1024).any(axis=0).sum()
    assert known >= min(tokens, 86)  # a second of context, or all there is
    assert long.report.edit == {"kind": "extend", "tokens": [tokens, None], "share": 1.0, "filled": None}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("1-2", r"the take already goes to 3\.000 s of the video; it cannot be extended to 2\.000 s"),
        ("0.5-5", r"the range 0\.5-5 begins at 0\.\d+ s, and the take at 1\.000 s"),
        ("1-9", "is not inside the video"),
    ],
)
def test_extensions_that_cannot_be(pipeline: Pipeline, video: Path, wanted: str, message: str) -> None:
    (short,) = pipeline.generate(video, QUICK, span=(1, 3))
    with pytest.raises(OptionError, match=message):
        pipeline.generate(video, edit=runtime.extend(short, wanted))


def test_a_whole_take_cannot_be_extended(pipeline: Pipeline, video: Path, take: Take) -> None:
    with pytest.raises(OptionError, match=r"the take already goes to 5\.600 s"):
        pipeline.generate(video, edit=runtime.extend(take))


# ---------------------------------------------------------------- what fits
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ((5, 5.7), r"the range 5-5\.7 is not inside the take; the take lasts 5\.600 s"),
        ("200f-210f", "is not inside the take"),
        ("09:00:00:00-09:00:01:00", "is not inside the take"),
        ((2, 1), "ends before it begins"),
    ],
)
def test_ranges_outside_of_the_take(pipeline: Pipeline, video: Path, take: Take, wanted: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        pipeline.generate(video, edit=runtime.redo(take, wanted))


def test_a_take_keeps_its_own_range(pipeline: Pipeline, video: Path, take: Take) -> None:
    with pytest.raises(OptionError, match="the take has a range of its own"):
        pipeline.generate(video, span=(0, 1), edit=runtime.vary(take, 0.5))
    for share in (0, -1, 1.5, None, float("nan")):
        with pytest.raises(OptionError, match="share is"):
            runtime.vary(take, share)


def test_another_video_is_refused_unless_it_is_allowed(
    pipeline: Pipeline, take: Take, video: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    edit = runtime.redo(take, (1, 2))
    with pytest.raises(OptionError, match=r"made for another video, x\.mov \(\d+ bytes, .*\), and this one is video"):
        pipeline.generate(make_video(60), edit=edit)
    with pytest.raises(OptionError, match=r"goes to 5\.600 s of its video, and .* lasts 2\.400 s"):
        pipeline.generate(make_video(60), edit=replace(edit, other_clip=True))
    (new,) = pipeline.generate(make_video(150), edit=replace(edit, other_clip=True))
    check_only_changed(take, new, 86, 173)
    renamed = tmp_path / "renamed.mov"
    renamed.write_bytes(video.read_bytes())
    assert pipeline.generate(renamed, edit=edit)[0] == pipeline.generate(video, edit=edit)[0]


def test_another_bundle_is_refused(bundles: Callable[..., Path], video: Path, take: Take) -> None:
    with runtime.load(bundles("adaln_b"), "cpu", 1) as other:
        with pytest.raises(OptionError, match=r"the bundle fake, whose \w+\.onnx is \w{8}; the bundle fake has \w{8};"):
            other.generate(video, edit=runtime.vary(take, 0.5))


def test_another_contract_is_refused(pipeline: Pipeline, video: Path, take: Take) -> None:
    with pytest.raises(OptionError, match="under contract 2, and this program uses contract 3"):
        pipeline.generate(video, edit=runtime.vary(replace(take, contract=2), 0.5))
    strange = replace(take, codes=np.full_like(take.codes, 1024))
    with pytest.raises(OptionError, match="the tokens of the take do not fit the bundle fake"):
        pipeline.generate(video, edit=runtime.vary(strange, 0.5))


# ---------------------------------------------------------------- hooks for what is seen
def test_hooks_change_what_is_seen_and_the_other_side(pipeline: Pipeline, video: Path, take: Take) -> None:
    starts: list[int] = []

    def dark(window: Window, seen: np.ndarray) -> np.ndarray:
        starts.append(window.start)
        return seen * 0

    def same(window: Window, seen: np.ndarray) -> np.ndarray:
        return seen

    sounds = [
        pipeline.generate(video, QUICK, edit=request)[0].codes.tobytes()
        for request in (
            GenerationRequest(),
            GenerationRequest(picture=dark),
            GenerationRequest(other_side=same),
            GenerationRequest(picture=same),
        )
    ]
    assert sounds[0] == sounds[3] == take.codes.tobytes() and len(set(sounds)) == 3
    assert starts == [0, 86, 172, 258, 345]
    guided, free = (
        pipeline.generate(video, replace(QUICK, guidance=g), edit=GenerationRequest(other_side=same))[0].codes
        for g in (3, 0)
    )
    assert np.array_equal(guided, free)  # both sides are equal, so guidance changes nothing


def test_timing_that_was_read_before_is_used(pipeline: Pipeline, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = read_timing(video)
    monkeypatch.setattr("runtime.edit.plan.read_timing", None)
    (take,) = pipeline.generate(video, QUICK, span="1-2", timing=timing)
    assert len(take.audio) == RATE
