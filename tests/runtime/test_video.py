"""Which frame a sample shows, how it is scaled and coloured, and what is said about files that cannot be used."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import MediaError, OptionError
from runtime.media.clock import Clock
from runtime.video import FrameGrid, Video
from tests.support.media import (
    Picture,
    Sound,
    bad_file,
    card,
    clicks,
    expected,
    grey,
    noisy,
    number,
    steady,
    write_video,
)

TINY = 32
PERIOD = Fraction(1, 25)


def numbers(video: Video, *rates: int) -> list[list[int]]:
    """The frame numbers that each grid shows."""
    out: list[list[int]] = [[] for _ in rates]
    for grid, frame in video.sample([FrameGrid(fps, TINY, TINY) for fps in rates]):
        out[grid].append(number(frame))
    return out


@pytest.mark.parametrize("fps", [12, 24, 25, Fraction(30000, 1001), 30, 50, Fraction(60000, 1001), 120])
def test_steady_rates(tmp_path: Path, fps: int | Fraction) -> None:
    times, tick = steady(40, fps), Fraction(1, 90000)
    with Video(write_video(tmp_path / "a.mp4", Picture(times, 1 / Fraction(fps)))) as video:
        assert numbers(video, 8, 25) == [expected(times, 1 / Fraction(fps), 8), expected(times, 1 / Fraction(fps), 25)]
        assert abs(video.duration - 40 / Fraction(fps)) <= tick
        assert video.average_rate == pytest.approx(float(fps), rel=1e-3)
        assert video.expected_duration == pytest.approx(float(video.duration), abs=1e-4)
        assert video.warnings == []


@pytest.mark.parametrize("seed", range(4))
def test_variable_rate(tmp_path: Path, seed: int) -> None:
    gaps = np.random.default_rng(seed).choice([1, 5, 20, 33, 40, 41, 120, 700], 30)  # milliseconds
    times = [Fraction(int(t), 1000) for t in np.cumsum(gaps)]
    last = Fraction(300, 1000)
    with Video(write_video(tmp_path / "a.mp4", Picture(times, last))) as video:
        assert numbers(video, 8, 25, 60) == [expected(times, last, fps) for fps in (8, 25, 60)]
        assert video.start == times[0]
        assert video.duration == times[-1] + last - times[0]


CONTAINERS: dict[str, Any] = {
    "mkv": {},
    "mov": {},
    "mp4": {"options": (("bf", "2"), ("b_strategy", "0"), ("qp", "1"))},
    "ts": {},
    "flv": {},
    "h264": {},  # has no time stamps: they follow from the rate
    "webm": {"codec": "libvpx-vp9", "options": (("lossless", "1"), ("cpu-used", "8"), ("deadline", "realtime"))},
    "avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": (("qscale", "1"),), "tick": PERIOD},
    "gif": {"codec": "gif", "pix_fmt": "gray"},
    "nut": {"codec": "ffv1", "pix_fmt": "bgr0"},
}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_containers(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a.{suffix}", Picture(steady(20, 25), **CONTAINERS[suffix]))
    with Video(path) as video:
        assert numbers(video, 25) == [list(range(20))]
        assert video.duration == Fraction(20, 25)
        assert not video.has_audio and video.warnings == []


def test_b_frames_in_avi_stay_in_order(tmp_path: Path) -> None:
    options = (("bf", "2"), ("b_strategy", "0"), ("qp", "1"))
    path = write_video(tmp_path / "a.avi", Picture(steady(20, 25), options=options, tick=PERIOD))
    with Video(path) as video:
        shown = numbers(video, 25)[0]
        assert shown == sorted(shown) and max(np.diff(shown)) <= 2


def test_start_and_second_pass(tmp_path: Path) -> None:
    sound = Sound(clicks(88200, 44100)[None], 44100, "aac")  # longer than the picture, and starts before it
    for suffix in ("mp4", "mkv"):
        path = write_video(tmp_path / f"a.{suffix}", Picture(steady(20, 25, Fraction(1, 2))), sound)
        with Video(path) as video:
            assert (video.start, video.has_audio) == (Fraction(1, 2), True)
            with pytest.raises(ValueError, match="finish `sample`"):
                _ = video.duration
            assert numbers(video, 25) == numbers(video, 25) == [list(range(20))]
            assert video.duration == Fraction(20, 25) and video.warnings == []


def test_decoding_is_streamed_and_scaling_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled: list[tuple[int, int]] = []
    image = Video._image
    monkeypatch.setattr(Video, "_image", lambda self, *args: scaled.append(args[1:]) or image(self, *args))
    with Video(write_video(tmp_path / "a.mp4", Picture(steady(120, 120), Fraction(1, 120)))) as video:
        grids = [FrameGrid(8, 48, TINY), FrameGrid(8, 48, TINY), FrameGrid(5, 40, TINY)]
        samples = video.sample(grids)
        next(samples)
        assert video._clock.last is not None and video._clock.last < Fraction(1, 5)  # no more read than needed
        assert len(list(samples)) == 8 + 8 + 5 - 1
        assert scaled.count((48, TINY)) == 8 and scaled.count((40, TINY)) == 5  # of 120 frames


# ---------------------------------------------------------------- time stamps that jump
HOURS = 7200
CLOCKLESS = {"live.mkv": {"live": "1"}, "broadcast.ts": {}}  # nothing in these files knows how long they are


@pytest.mark.parametrize("name", CLOCKLESS)
@pytest.mark.parametrize("after", [1, 10])
def test_a_jump_ahead_is_left_out_and_told(tmp_path: Path, name: str, after: int) -> None:
    times = [*steady(10, 25), *steady(after, 25, HOURS)]
    path = write_video(tmp_path / name, Picture(times), container_options=CLOCKLESS[name])
    with Video(path) as video:
        for _ in range(2):  # passes
            assert numbers(video, 25) == [list(range(10 + after))]
            assert video.duration == Fraction(10 + after, 25)
            (warning,) = video.warnings
            assert "jump ahead by over 60 s" in warning


@pytest.mark.parametrize("name", [*CLOCKLESS, "slides.mp4", "slides.mkv"])
def test_slides_of_20_s(tmp_path: Path, name: str) -> None:
    times = [Fraction(20 * n) for n in range(5)]
    path = write_video(tmp_path / name, Picture(times, last=20), container_options=CLOCKLESS.get(name, {}))
    with Video(path) as video:
        shown = numbers(video, 1)[0]
        assert shown[:80] == expected(times, Fraction(20), 1)[:80] and video.duration >= 80
        assert video.warnings == []


def test_slides_longer_than_a_minute_are_kept_where_the_file_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture([Fraction(0), Fraction(90), Fraction(180)], last=90))
    with Video(path) as video:
        numbers(video, 1)
        assert video.duration >= 180
        (warning,) = video.warnings
        assert "one frame lasts 90 s, as the file says" in warning


@pytest.mark.parametrize(("claimed", "jumps"), [(None, 1), (Fraction(1), 1), (Fraction(HOURS + 1), 0)])
def test_one_time_stamp_far_ahead(claimed: Fraction | None, jumps: int) -> None:
    """The frames after it lie on the first clock again: they continue as well."""
    clock = Clock(PERIOD, PERIOD, claimed)
    times = [clock.time(pts, 1) for pts in (0, 1, 2, 25 * HOURS, 4, 5)]
    assert times[:3] == steady(3, 25) and times[4:] == [times[3] + PERIOD, times[3] + 2 * PERIOD]
    assert times[3] == (3 * PERIOD if jumps else HOURS)
    assert clock.jumps == jumps and clock.end == times[-1] + PERIOD


def test_still_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "take %03d [1].png"):
        av.VideoFrame.from_ndarray(grey(7, (65, 47))).save(str(tmp_path / name))
        with Video(tmp_path / name) as video:
            assert numbers(video, 8, 25) == [[7], [7]]
            assert video.duration == PERIOD
    with Video(write_video(tmp_path / "a.mp4", Picture([0], last=PERIOD))) as video:
        assert numbers(video, 8, 60) == [[0], [0, 0, 0]]


# ---------------------------------------------------------------- geometry and colour
def first_image(path: Path, grid: FrameGrid) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Video(path) as video:
        return next(frame for _, frame in video.sample([grid]))


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("turns", range(4))
def test_rotation(tmp_path: Path, turns: int, flips: tuple[bool, bool]) -> None:
    upright = card(96, 64)
    # the stored picture is what the display matrix turns back: undo the flips, then turn clockwise
    stored = upright[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]
    stored = np.ascontiguousarray(np.rot90(stored, -turns))
    size = (stored.shape[1], stored.shape[0])
    picture = Picture([0], size=size, images=[stored], pix_fmt="yuv444p", rotation=90 * turns, flips=flips)
    path = write_video(tmp_path / "a.mp4", picture)
    with Video(path) as video:
        assert (video.width, video.height) == (96, 64)
    image = first_image(path, FrameGrid(8, 64, 64)).astype(int)
    assert np.abs(image - upright[:, 16:80].astype(int)).max() < 8


@pytest.mark.parametrize("size", [(64, 64), (101, 57), (57, 101), (2, 2), (1, 1), (640, 8), (16384, 64)])
def test_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mkv", Picture([0, PERIOD], size=size, codec="ffv1", pix_fmt="yuv444p"))
    for grid in (FrameGrid(25, 48, 40), FrameGrid(25, 40, 40), FrameGrid(25, 24, 40)):
        with Video(path) as video:
            assert (video.width, video.height) == size
            frames = [frame for _, frame in video.sample([grid])]
        assert [frame.shape for frame in frames] == [(40, 40, 3)] * 2
        assert [number(frame) for frame in frames] == [0, 1]


def test_crop_is_central_and_shrinking_does_not_alias(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(20, 230, 400).astype(np.uint8)[None, :, None], 100, 0).repeat(3, 2)
    path = write_video(tmp_path / "a.mkv", Picture([0], size=(400, 100), codec="ffv1", pix_fmt="bgr0", images=[ramp]))
    image = first_image(path, FrameGrid(8, 50, 50))  # scaled to 200 x 50, columns 75 to 124 kept
    columns = (np.arange(75, 125) + 0.5) * 2 - 0.5
    assert np.abs(image.mean(axis=(0, 2)) - np.interp(columns, np.arange(400), ramp[0, :, 0])).max() < 1.5
    board = np.indices((200, 200)).sum(0).astype(np.uint8) % 2 * 200
    board = np.repeat(board[..., None], 3, 2)
    path = write_video(tmp_path / "b.mkv", Picture([0], size=(200, 200), codec="ffv1", pix_fmt="bgr0", images=[board]))
    assert np.abs(first_image(path, FrameGrid(8, 45, 45))[4:-4, 4:-4].astype(float) - 100).max() < 6


WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # by AVCOL_SPC: red, blue


COLOURS = [(matrix, full, True) for matrix in WEIGHTS for full in (False, True)] + [
    (6, False, False),
    (1, False, False),
]


@pytest.mark.parametrize(("matrix", "full", "tagged"), COLOURS)
def test_colour(tmp_path: Path, matrix: int, full: bool, tagged: bool) -> None:
    """Tagged streams are converted by their tags, others by their size, as players do."""
    red, blue = WEIGHTS[matrix]
    size = (64, 48) if tagged or matrix != 1 else (1280, 720)
    rgb = np.array((200, 60, 30)) / 255
    y = np.dot((red, 1 - red - blue, blue), rgb)
    yuv = np.array([y, (rgb[2] - y) / (2 * (1 - blue)), (rgb[0] - y) / (2 * (1 - red))])
    planes = np.rint(yuv * (255 if full else np.array([219, 224, 224])) + ([0, 128, 128] if full else [16, 128, 128]))
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"qp": "0"})
        (stream.width, stream.height), stream.pix_fmt = size, "yuv444p"
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        frame = av.VideoFrame(*size, "yuv444p")
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(bytes([int(value)]) * plane.buffer_size)
        if tagged:
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
        out.mux([*stream.encode(frame), *stream.encode(None)])
    image = first_image(tmp_path / "a.mkv", FrameGrid(8, TINY, TINY))
    assert np.abs(image.reshape(-1, 3).astype(int) - (200, 60, 30)).max() <= 2


def test_cover_art_is_not_the_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture(steady(10, 25), size=(64, 48)), cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    with Video(path) as video:
        assert (video.width, video.height) == (64, 48)
        assert numbers(video, 25) == [list(range(10))]
    sound = Sound(clicks(22050, 44100)[None], 44100, "aac")
    with pytest.raises(MediaError, match="sound but no picture"):
        Video(write_video(tmp_path / "b.mp4", None, sound, cover=True))


def test_grid_options() -> None:
    for bad in ((0, 8, 8), (8, 0, 8), (8, 8, 0)):
        with pytest.raises(OptionError, match="at least 1"):
            FrameGrid(*bad)


# ---------------------------------------------------------------- damage
@pytest.fixture(scope="module")
def noisy_mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    options = (("qp", "12"), ("g", "5"), ("bf", "0"))
    picture = Picture(steady(50, 25), size=(96, 64), options=options, images=noisy(50))
    path = tmp_path_factory.mktemp("noisy") / "a.mp4"
    return write_video(path, picture, container_options={"movflags": "faststart"}).read_bytes()


def test_truncated(tmp_path: Path, noisy_mp4: bytes) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(noisy_mp4[: len(noisy_mp4) // 2])
    with Video(path) as video:
        shown = numbers(video, 25)[0]
        assert 15 < len(shown) < 35 and shown == list(range(len(shown)))
        assert video.duration == Fraction(len(shown), 25)
        assert f"decoded {len(shown) / 25:.1f} s of 2.0 s" in video.warnings[-1]


def test_damage_inside_is_skipped_and_counted_once(tmp_path: Path, noisy_mp4: bytes) -> None:
    data = bytearray(noisy_mp4)
    for at in (4, 6):  # tenths of the file
        begin = len(data) * at // 10
        data[begin : begin + 2000] = np.random.default_rng(at).bytes(2000)
    (tmp_path / "bad.mp4").write_bytes(data)
    with Video(tmp_path / "bad.mp4") as video:
        shown = numbers(video, 25)[0]
        assert len(shown) == 50 and shown[:15] == list(range(15)) and shown[-5:] == list(range(45, 50))
        (warning,) = video.warnings
        assert "2 damaged frames skipped" in warning


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("missing", "no such file; check the path"),
        ("a folder", "is a folder; give the path of one file"),
        ("empty", "is empty .* copy or download it again"),
        ("text", "not a video or sound file .* convert it"),
        ("noise", "not a video or sound file .* convert it"),
        ("subtitles", "no picture; give a file with a video track"),
        ("audio only", "sound but no picture; give a file with a video track"),
        ("no decodable frame", "no frame of its picture .ffv1. can be decoded; .* convert it"),
    ],
)
def test_bad_files(tmp_path: Path, kind: str, advice: str) -> None:
    path = tmp_path / "bad.mp4"
    bad_file(kind, path)
    with pytest.raises(MediaError, match=advice) as caught:
        Video(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_text_that_libav_would_draw(tmp_path: Path) -> None:
    for name in ("notes.txt", "notes.nfo"):
        (tmp_path / name).write_text("some notes\n" * 50)
        with pytest.raises(MediaError, match="it is text"):
            Video(tmp_path / name)


def test_no_permission(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture([0]))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(MediaError, match="no permission to read it"):
            Video(path)
    finally:
        os.seteuid(user)


def test_real_clips() -> None:
    folder = os.environ.get("MASKVAT_CLIPS")
    videos = sorted(Path(folder).glob("*.mp4")) if folder else []
    if not videos:
        pytest.skip("set MASKVAT_CLIPS to a folder of .mp4 clips to try them")
    for path in videos[:2]:
        with Video(path) as video:
            count = sum(1 for _ in video.sample([FrameGrid(2, 64, 64)]))
            assert count == -(-video.duration * 2 // 1) and video.warnings == []
            assert float(video.duration) == pytest.approx(video.expected_duration, abs=0.1)
