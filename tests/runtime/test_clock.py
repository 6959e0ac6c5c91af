"""How long a picture lasts where the file has no time stamps, and that no file can ask for endless work."""

import time
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.audio import read_audio
from runtime.deliver.mux import check_container, mux
from runtime.errors import MediaError
from runtime.media.clock import FrameSlots
from runtime.video import FrameGrid, Video
from tests.support.media import Picture, Sound, clicks, delay, grey, steady, write_video

RATE = 44100
B_FRAMES = (("bf", "2"), ("b_strategy", "0"), ("qp", "1"))


def shown(path: Path, fps: int) -> tuple[list[int], Fraction]:
    """The frame numbers on a grid, and how long the picture lasts."""
    with Video(path) as video:
        frames = [round((float(f.mean()) - 20) / 8) for _, f in video.sample([FrameGrid(fps, 16, 16)])]
        return frames, video.duration


def far_apart(count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Grey levels that a lossy codec does not mix up."""
    return [np.full((48, 64, 3), 20 + 8 * n, np.uint8) for n in range(count)]


def raw(path: Path, codec: str, fps: int, count: int, **options: str) -> Path:
    """A raw stream, whose own header alone says its rate."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(count):
            frame = av.VideoFrame.from_ndarray(grey(n, (64, 48))).reformat(format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# ---------------------------------------------------------------- frames' own durations
@pytest.mark.parametrize("fps", [24, 30, 50, 60])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.264", "libx264", {"bf": "2", "preset": "ultrafast"}),
        ("b.264", "libx264", {"bf": "0", "preset": "ultrafast"}),
        ("a.hevc", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
        ("a.m2v", "mpeg2video", {"q:v": "2"}),
    ],
)
def test_raw_streams_last_as_their_header_says(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], fps: int
) -> None:
    path = raw(tmp_path / name, codec, fps, 2 * fps, **options)
    with Video(path) as video:
        assert video.average_rate == fps
    assert shown(path, 5)[1] == 2


def test_pulldown_counts_repeated_fields(tmp_path: Path) -> None:
    """Every second frame of an MPEG-2 stream is to be shown twice."""
    path = raw(tmp_path / "a.m2v", "mpeg2video", 30, 20, g="1")
    data, at = bytearray(path.read_bytes()), -1
    for n in range(20):
        at = data.index(b"\x00\x00\x01\xb5\x8f", at + 1)  # picture coding extension
        data[at + 7] |= 0x02 * (n % 2)  # repeat_first_field
    path.write_bytes(data)
    assert shown(path, 5)[1] == Fraction(30, 30)


@pytest.mark.parametrize(("codec", "options"), [("libx264", B_FRAMES), ("mpeg4", (("bf", "2"), ("q:v", "2")))])
def test_b_frames_in_avi_are_in_order_and_none_is_short(
    tmp_path: Path, codec: str, options: tuple[tuple[str, str], ...]
) -> None:
    picture = Picture(steady(25, 25), codec=codec, options=options, tick=Fraction(1, 25), images=far_apart(25))
    frames, duration = shown(write_video(tmp_path / "a.avi", picture), 25)
    reference = shown(write_video(tmp_path / "a.mkv", picture), 25)[0]  # which has presentation times
    assert frames == reference and len(set(frames)) > 15 and duration == 1


def test_slots_of_frames_decoded_in_another_order() -> None:
    slots = FrameSlots()
    taken = []
    for dts in (0, 1, 2, 3):
        packet = av.Packet(b"x")
        packet.dts = dts
        slots.add(packet)
        taken += [slots.take()] if dts else []  # the decoder holds one frame back
    assert [*taken, slots.take(), slots.take()] == [0, 1, 2, 3, None]


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv"])
@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", (("bf", "0"), ("qp", "1"))), ("mpeg4", (("bf", "2"), ("q:v", "2")))]
)
def test_sound_of_a_copy_from_avi_is_in_time(
    tmp_path: Path, suffix: str, codec: str, options: tuple[tuple[str, str], ...]
) -> None:
    picture = Picture(steady(25, 25), codec=codec, options=options, tick=Fraction(1, 25), images=far_apart(25))
    path, out = write_video(tmp_path / "a.avi", picture), tmp_path / f"b.{suffix}"
    sound = clicks(RATE, RATE)
    mux(path, sound, RATE, out)
    assert shown(out, 25) == (shown(write_video(tmp_path / "a.mkv", picture), 25)[0], 1)
    with Video(out) as video, av.open(str(out)) as copy:
        first = next(copy.decode(copy.streams.audio[0]))
        late = float(first.pts * first.time_base - video.start)
    assert abs(late + delay(sound, read_audio(out, RATE), RATE)) < 0.001


def test_order_that_avi_does_not_say_is_not_guessed(tmp_path: Path) -> None:
    picture = Picture(steady(25, 25), options=B_FRAMES, tick=Fraction(1, 25))
    path = write_video(tmp_path / "a.avi", picture)
    with pytest.raises(MediaError, match=r"needs the order of frames, .*; give a name in \.avi"):
        check_container(tmp_path / "b.mp4", path)
    check_container(tmp_path / "b.avi", path)


# ---------------------------------------------------------------- clocks that start again
def joined(tmp_path: Path, *starts: int) -> Path:
    """Recordings of two seconds each, one behind the other."""
    parts = [
        write_video(tmp_path / f"{n}.ts", Picture(steady(50, 25, start)), container_options={"muxdelay": "0"})
        for n, start in enumerate(starts)
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    return path


@pytest.mark.parametrize("starts", [(500, 10), (10, 500), (10, 7), (10, 500, 3)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_clock_that_starts_again_is_refused_at_once(tmp_path: Path, starts: tuple[int, ...], suffix: str) -> None:
    path, begin = joined(tmp_path, *starts), time.monotonic()
    with pytest.raises(MediaError, match="clock starts again, as in joined recordings; convert it first"):
        check_container(tmp_path / f"a.{suffix}", path)
    with pytest.raises(MediaError, match="convert it first"):
        mux(path, np.zeros(RATE), RATE, tmp_path / f"a.{suffix}")
    assert time.monotonic() - begin < 30 and not (tmp_path / f"a.{suffix}").exists()


def test_one_clock_is_copied(tmp_path: Path) -> None:
    check_container(tmp_path / "a.mp4", joined(tmp_path, 10))
    assert mux(tmp_path / "joined.ts", np.zeros(RATE), RATE, tmp_path / "a.mp4") == []


# ---------------------------------------------------------------- bounds
def test_a_video_longer_than_allowed_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture([0, 7 * 3600], last=1, tick=Fraction(1, 1000)))
    with pytest.raises(MediaError, match=r"lasts 7\.0 h or more, and at most 6\.0 h is allowed; cut it, or raise"):
        Video(path)
    with pytest.raises(MediaError, match="at most"):
        mux(path, np.zeros(RATE), RATE, tmp_path / "b.mp4")
    with Video(path, max_duration=8 * 3600) as video:
        assert video.expected_duration == 7 * 3600 + 1


def test_a_video_that_does_not_say_its_length_is_stopped_at_the_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", Picture(steady(50, 25)), container_options={"live": "1"})
    with Video(path, max_duration=1) as video, pytest.raises(MediaError, match="at most"):
        list(video.sample([FrameGrid(5, 16, 16)]))
    with pytest.raises(MediaError, match="at most"):
        mux(path, np.zeros(RATE), RATE, tmp_path / "b.mkv", max_duration=1)


def test_sound_longer_than_allowed_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.wav", None, Sound(np.zeros((1, 2 * RATE), np.float32), RATE, "pcm_s16le"))
    assert len(read_audio(path, RATE, max_duration=2)) == 2 * RATE
    with pytest.raises(MediaError, match="at most"):
        read_audio(path, RATE, max_duration=1.9)


def test_a_gap_of_hours_takes_no_memory(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture([0, 5 * 3600], last=1, tick=Fraction(1, 1000)))
    with Video(path) as video:
        samples = video.sample([FrameGrid(1000, 16, 16)])  # 18 million of them
        tracemalloc.start()
        for _ in range(1000):
            next(samples)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


def test_cancel_stops_reading_and_copying(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", Picture(steady(50, 25)))
    calls = 0

    def cancel() -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mux(path, np.zeros(RATE), RATE, tmp_path / "b.mp4", check_cancelled=cancel)
    assert not (tmp_path / "b.mp4").exists()
    calls = 0
    with pytest.raises(KeyboardInterrupt), Video(path, check_cancelled=cancel) as video:
        list(video.sample([FrameGrid(25, 16, 16)]))
