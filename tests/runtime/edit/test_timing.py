"""Rate, start timecode and steadiness of real files, which the tests write."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from runtime import MediaError
from runtime.edit import timing as timing_module
from runtime.edit.timecode import Timecode, TimeRange
from runtime.edit.timing import VideoTiming, read_timing
from tests.support.media import Picture, steady, write_timed, write_video

RATES = [Fraction(text) for text in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001")]
NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mxf", ".mkv"])
@pytest.mark.parametrize("code", ["01:00:00;00", "10:11:12:13"])
def test_start_timecode_of_every_container(tmp_path: Path, suffix: str, code: str) -> None:
    timing = read_timing(write_timed(tmp_path / f"x{suffix}", NTSC, code))
    assert timing == VideoTiming(NTSC, 9, True, Timecode.parse(code, NTSC))


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_rates_are_exact(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    assert read_timing(write_timed(tmp_path / f"x{suffix}", rate, None, frames=50)) == VideoTiming(rate, 50, True, None)


def test_the_start_is_that_of_the_first_picture(tmp_path: Path) -> None:
    timing = read_timing(write_timed(tmp_path / "late.mkv", Fraction(25), "01:00:00:00", first=10))
    assert str(timing.start) == "01:00:00:10"


def test_a_variable_rate_is_seen(tmp_path: Path) -> None:
    times = [Fraction(n, 25) + Fraction(n % 7, 30) for n in range(40)]
    timing = read_timing(write_video(tmp_path / "x.mp4", Picture(sorted(times), last=Fraction(1, 25))))
    assert not timing.steady
    span = timing.resolve(TimeRange.parse("0.3-0.7"))
    assert span.frames is None and span.seconds == Fraction("0.4")


def test_jitter_is_not_a_variable_rate(tmp_path: Path) -> None:
    times = [t + Fraction(n % 3, 1000) for n, t in enumerate(steady(40, 30))]
    timing = read_timing(write_video(tmp_path / "x.mp4", Picture(times, last=Fraction(1, 30))))
    assert timing.steady and timing.rate == 30


@pytest.mark.parametrize("rate", [NTSC, Fraction(30)], ids=str)
def test_time_stamps_win_over_a_header_that_contradicts_them(tmp_path: Path, rate: Fraction) -> None:
    path = write_video(tmp_path / "x.mkv", Picture(steady(300, rate), last=1 / rate))
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25  # which `write_video` always writes
    assert read_timing(path) == VideoTiming(rate, 300, True, None)


def test_timecode_that_the_rate_does_not_have_is_reported(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "x.mkv", Fraction(25), "01:00:00:29")
    timing = read_timing(path)
    assert timing.start is None
    (warning,) = timing.warnings
    assert warning.startswith(f"{path}: its start timecode is ignored: there is no timecode 01:00:00:29 at 25")


@pytest.mark.parametrize("kind", ["prores.mov", "mjpeg.mp4", "cut.mov", "fragments.mp4", "libx264.mp4"])
def test_the_index_says_what_the_packets_say(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, path = kind.partition(".")[0], tmp_path / f"x{Path(kind).suffix}"
    codec = {"cut": "prores_ks", "prores": "prores_ks", "fragments": "mjpeg"}.get(codec, codec)
    pix_fmt = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    begin = Fraction(-1, 60) if kind == "cut.mov" else Fraction(0)  # what lies before zero is cut by an edit list
    fragments = {"options": {"movflags": "frag_keyframe"}} if kind == "fragments.mp4" else {}
    picture = Picture(steady(40, NTSC, begin), last=1 / NTSC, codec=codec, pix_fmt=pix_fmt, options=(("threads", "1"),))
    write_video(path, picture, **fragments)
    read: list[int] = []
    packets = timing_module.read_packets

    def counted(*args: Any) -> Iterator[Any]:
        for packet in packets(*args):
            read.append(1)
            yield packet

    monkeypatch.setattr(timing_module, "read_packets", counted)
    fast = read_timing(path)
    assert bool(read) == (kind in ("fragments.mp4", "libx264.mp4"))
    monkeypatch.setattr(timing_module, "_indexed_times", lambda *_: None)
    slow = read_timing(path)
    assert fast == slow and (fast.first, fast.times, fast.last) == (slow.first, slow.times, slow.last)
    assert fast.frames == (39 if kind == "cut.mov" else 40)


def test_a_file_without_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"not a video")
    with pytest.raises(MediaError):
        read_timing(tmp_path / "x.mp4")
