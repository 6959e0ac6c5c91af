"""Ranges of videos: exact lengths, the same sound as a file that was cut before, and the same frames after a seek."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from runtime import MediaError, OptionError, Pipeline, SamplingConfig
from runtime.edit.timecode import Timecode, TimeRange
from runtime.edit.timing import VideoTiming, read_timing
from runtime.media import seek
from runtime.video import FrameGrid, Part, Video
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, cut_video, noisy, number, steady, write_timed, write_video

RATES = [Fraction(text) for text in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001")]
GRIDS = [FrameGrid(8, 32, 32), FrameGrid(25, 32, 32)]
QUICK = SamplingConfig(steps=2, seed=1)


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


def gop(length: int, **more: str) -> tuple[tuple[str, str], ...]:
    """x264: lossless, a key frame every so many frames, three B-frames."""
    params = {
        "keyint": length,
        "min-keyint": length,
        "scenecut": 0,
        "bframes": min(3, length - 1),
        "open-gop": 0,
    } | more
    text = ":".join(f"{key}={value}" for key, value in params.items())
    return (("qp", "0"), ("preset", "ultrafast"), ("threads", "1"), ("x264-params", text))


# ---------------------------------------------------------------- arithmetic
@given(
    rate=st.sampled_from(RATES),
    first=st.integers(0, 200_000),
    frames=st.integers(1, 100_000),
    sample_rate=st.sampled_from([44100, 48000]),
    drop=st.booleans(),
)
def test_every_unit_gives_the_same_exact_length(
    rate: Fraction, first: int, frames: int, sample_rate: int, drop: bool
) -> None:
    drop = drop and rate.denominator == 1001 and rate.numerator % 30000 == 0
    start, end = Timecode(90_000, rate, drop), first + frames
    timing = VideoTiming(rate, end, True, start)
    texts = [
        f"{first}f-{end}f",
        f"{float(first / rate):.6f}-{float(end / rate):.6f}",
        f"{start.plus(first)}-{start.plus(end)}",
    ]
    for text in texts:
        span = timing.resolve(TimeRange.parse(text), timing.duration)
        assert span.frames == (first, end)
        assert span.samples(sample_rate) == round(Fraction(frames) * sample_rate * rate.denominator / rate.numerator)


@NEEDS_ORT
@pytest.mark.parametrize("rate", [RATES[0], RATES[3], RATES[5]], ids=str)
def test_the_sound_has_exactly_the_samples_of_its_frames(pipeline: Pipeline, tmp_path: Path, rate: Fraction) -> None:
    video = write_timed(tmp_path / "x.mov", rate, "01:00:00:00", 40)
    for span in ((7 / rate, 20 / rate), "7f-20f", TimeRange.parse("01:00:00:07-01:00:00:20")):
        (take,) = pipeline.generate(video, QUICK, span=span)
        assert len(take.audio) == round(13 * 44100 / rate) and take.span is not None and take.span.frames == (7, 20)
        assert take.duration == 13 / rate and take.start == 7 / rate
        assert take.report.range == {
            "begin": float(7 / rate), "end": float(20 / rate), "frames": [7, 20], "rate": str(rate)
        }  # fmt: skip


# ---------------------------------------------------------------- a file that was cut before
@NEEDS_ORT
@pytest.mark.parametrize(
    ("suffix", "rate", "length", "first", "end"),
    [
        (".mp4", RATES[3], 1, 17, 95),  # intra only, windows of 2 s: two of them
        (".mp4", RATES[2], 12, 24, 60),  # B-frames, cut at key frames
        (".mkv", RATES[0], 12, 24, 72),  # time stamps in milliseconds
        (".mov", RATES[6], 1, 31, 100),
    ],
)
def test_a_range_sounds_as_the_same_frames_cut_before(
    pipeline: Pipeline, tmp_path: Path, suffix: str, rate: Fraction, length: int, first: int, end: int
) -> None:
    picture = Picture(steady(100, rate, start=Fraction(1, 5)), last=1 / rate, options=gop(length))
    video = write_video(tmp_path / f"x{suffix}", picture)
    cut = cut_video(video, tmp_path / f"cut{suffix}", first, end)
    (a,) = pipeline.generate(video, QUICK, span=f"{first}f-{end}f")
    (b,) = pipeline.generate(cut, QUICK, span=f"0f-{end - first}f")
    assert a.audio.tobytes() == b.audio.tobytes() and a.codes.tobytes() == b.codes.tobytes()
    (whole,) = pipeline.generate(cut, QUICK)
    if suffix != ".mkv":  # whose end is rounded to a millisecond
        assert a.audio.tobytes() == whole.audio.tobytes()
    assert abs(len(a.audio) - len(whole.audio)) <= 44
    (other,) = pipeline.generate(video, QUICK, span=f"{first - 1}f-{end - 1}f")
    assert other.audio.tobytes() != a.audio.tobytes()


@NEEDS_ORT
def test_a_range_of_a_variable_rate_takes_seconds(pipeline: Pipeline, tmp_path: Path) -> None:
    times = sorted(Fraction(n, 25) + Fraction(n % 7, 30) for n in range(60))
    video = write_video(tmp_path / "x.mp4", Picture(times, last=Fraction(1, 25), options=gop(1)))
    (a,) = pipeline.generate(video, QUICK, span=(times[20], times[45]))
    assert len(a.audio) == round((times[45] - times[20]) * 44100) and a.span is not None and a.span.rate is None
    (b,) = pipeline.generate(cut_video(video, tmp_path / "cut.mp4", 20, 45), QUICK)
    n = min(len(a.codes[0]), len(b.codes[0])) - 1  # the cut file does not know how long its last frame was shown
    assert abs(len(a.audio) - len(b.audio)) < 44100 / 5 and np.array_equal(a.codes[:, :n], b.codes[:, :n])
    with pytest.raises(OptionError, match="the video's frame rate varies"):
        pipeline.generate(video, QUICK, span="20f-45f")


# ---------------------------------------------------------------- seeking
def shown(path: Path, part: Part, begin: int = 0) -> tuple[list[tuple[int, int]], int]:
    """(grid, frame number) of all samples, and how many frames were decoded."""
    with Video(path, part=part) as video:
        decoded: list[Fraction] = []
        clock_time = type(video._clock).time

        def counted(self: object, *args: object) -> Fraction:
            decoded.append(clock_time(self, *args))
            return decoded[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(video._clock), "time", counted)
            samples = [(grid, number(image)) for grid, image in video.sample(GRIDS, begin)]
        return samples, len(decoded)


@pytest.mark.parametrize("name", ["closed.mp4", "open.mp4", "closed.mkv", "intra.mov", "refresh.mp4", "mpeg2.mxf"])
@pytest.mark.parametrize("begin", [0, 1])
def test_seeking_gives_the_frames_that_decoding_from_the_start_gives(tmp_path: Path, name: str, begin: int) -> None:
    kind, rate, frames = name.partition(".")[0], Fraction(25), 150
    more = {"open": {"open-gop": "1"}, "refresh": {"intra-refresh": "1", "bframes": "0"}}.get(kind, {})
    path = tmp_path / name
    if kind == "mpeg2":
        write_timed(path, rate, None, frames)
    else:
        write_video(
            path, Picture(steady(frames, rate), last=1 / rate, options=gop(1 if kind == "intra" else 10, **more))
        )
    timing = read_timing(path)
    part = timing.part(timing.resolve(TimeRange.parse("90f-145f"), timing.duration))
    assert part.seekable
    slow, all_frames = shown(path, replace(part, seekable=False), begin)
    fast, few_frames = shown(path, part, begin)
    assert fast == slow and len(fast) > 20
    assert {n for grid, n in fast if grid == 1} <= {n % 50 for n in range(90 + 25 * begin, 145)}
    saved = all_frames - few_frames
    assert saved == 0 if kind == "refresh" else saved > 30  # a picture without key frames is decoded from the start


def test_a_damaged_key_frame_before_the_range_is_no_place_to_begin(tmp_path: Path) -> None:
    picture = Picture(steady(150, 25), size=(96, 64), images=noisy(150), options=gop(25))
    path = write_video(tmp_path / "x.mp4", picture)
    timing = read_timing(path)
    with av.open(str(path)) as container:
        keys = {p.pts * p.time_base: p for p in container.demux(video=0) if p.is_keyframe}
        packet = keys[Fraction(3)]
        assert packet.pos is not None
        begin, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[begin + 40 : begin + size] = bytes(size - 40)
    path.write_bytes(data)
    part = timing.part(timing.resolve(TimeRange.parse("101f-145f"), timing.duration))
    assert shown(path, part)[0] == shown(path, replace(part, seekable=False))[0]


def test_nal_types_of_another_form_are_not_read() -> None:
    assert seek._nal_types(b"\0\0\0\1\x65", b"\0\0\0\1") == set()
    assert seek._nal_types(b"\0\0\0\2\x67\0\0\0\0\1\x65", b"\1......"[:4] + b"\xff..") == {7, 5}


# ---------------------------------------------------------------- bad input
@NEEDS_ORT
@pytest.mark.parametrize(
    ("span", "message"),
    [
        ("1-9", r"the range 1-9 is not inside the video; the video lasts 2\.000 s \(50 frames\)"),
        ((1, 9.5), r"the range 1-9\.5 is not inside the video"),
        ("1.5-1", "ends before it begins"),
        ((1, 1), "has no frame"),
        ("1.001-1.002", "has no frame at 25"),
        ((-1, 1), "is not a range"),
        ((1, float("nan")), "is not a range"),
        ("1-20f", "mixes seconds and frames"),
        (7, "is not a range"),
        ("01:00:00:26-01:00:01:00", "frames go to 24"),
    ],
)
def test_a_range_that_cannot_be(pipeline: Pipeline, tmp_path: Path, span: object, message: str) -> None:
    video = write_timed(tmp_path / "x.mov", Fraction(25), "01:00:00:00", 50)
    with pytest.raises(OptionError, match=message):
        pipeline.generate(video, QUICK, span=span)


@NEEDS_ORT
def test_only_the_range_counts_for_the_limit(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    video = make_video(60)  # 2.4 s
    assert pipeline.generate(video, QUICK, span=(1, 2), max_duration=1)
    with pytest.raises(MediaError, match=r"lasts 1\.2 s or more, and at most 1 s is allowed"):
        pipeline.generate(video, QUICK, span=(1, 2.2), max_duration=1)


def test_a_part_without_pictures_at_its_end_is_told(make_video: Callable[..., Path]) -> None:
    path = make_video(60)  # 2.4 s
    with Video(path, part=Part(Fraction(1), Fraction(2), Fraction(25), True)) as video:
        assert sum(grid == 0 for grid, _ in video.sample(GRIDS)) == 16
        assert video.warnings == [f"{path}: the last 0.6 s of the range have no picture"]


def test_what_is_damaged_before_a_part_does_not_count(tmp_path: Path) -> None:
    picture = Picture(steady(75, 25), size=(96, 64), images=noisy(75), options=gop(1))
    path = write_video(tmp_path / "x.mp4", picture)
    data = bytearray(path.read_bytes())
    data[len(data) // 5 : len(data) // 5 + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(data)
    for origin, warned in ((0, True), (2, False)):
        with Video(path, part=Part(Fraction(origin), Fraction(1), Fraction(25))) as video:
            assert len(list(video.sample(GRIDS))) == 33 and bool(video.warnings) == warned
