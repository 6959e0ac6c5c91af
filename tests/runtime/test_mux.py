"""The copy with sound: the picture is untouched, the sound is in time, and a failure leaves nothing behind."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.audio import read_audio, resample
from runtime.deliver.mux import CONTAINERS, check_container, mux
from runtime.errors import MediaError, OptionError
from runtime.video import FrameGrid, Video, picture_stream
from tests.runtime.test_audio import RATE, file_size_limit
from tests.support.media import Picture, Sound, clicks, delay, grey, steady, write_video

B_FRAMES = (("bf", "2"), ("b_strategy", "0"), ("qp", "1"))
VP9 = (("lossless", "1"), ("cpu-used", "8"), ("deadline", "realtime"))
PERIOD = Fraction(1, 25)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """source(suffix) -> a second of video with B-frames where the codec has them, not to be changed."""
    root, made = tmp_path_factory.mktemp("sources"), {}
    kinds: dict[str, Any] = {
        "webm": {"codec": "libvpx-vp9", "options": VP9},
        "avi": {"codec": "mpeg4", "options": (("q:v", "2"),), "tick": PERIOD},
    }

    def get(suffix: str, sound: bool = False, start: Fraction = Fraction(0), **changes: Any) -> Path:
        key = (suffix, sound, start, *sorted(changes.items()))
        if key not in made:
            rate, codec = (48000, "libopus") if suffix == "webm" else (RATE, "aac")
            track = Sound(0.3 * clicks(rate, rate, first=0.1)[None], rate, codec) if sound else None
            options = {**kinds.get(suffix, {"options": B_FRAMES}), **changes}
            picture = Picture(steady(25, 25, start), **options)
            made[key] = write_video(root / f"{len(made)}.{suffix}", picture, track)
        return made[key]

    return get


def packets(path: Path) -> tuple[list[bytes], list[Fraction]]:
    """Bytes and presentation times of the picture's packets."""
    with av.open(str(path)) as container:
        found = [p for p in container.demux(picture_stream(container, path)) if p.size]
        return [bytes(p) for p in found], [p.pts * p.time_base for p in found if p.pts is not None]


def sound_of(path: Path, track: int = 0) -> tuple[float, np.ndarray[Any, Any], int]:
    """Time stamp of the first decoded sample, the samples, their rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        frames = list(container.decode(stream))
        audio = np.concatenate([f.to_ndarray().reshape(-1) for f in frames])
        scale = 32768 if audio.dtype == np.int16 else 1
        return float(frames[0].pts * stream.time_base), (audio / scale).astype(np.float32), stream.rate


def lag(path: Path, sound: np.ndarray[Any, Any], rate: int = RATE) -> float:
    """Seconds by which the copy's sound comes after the picture's first frame."""
    with Video(path) as video:
        start = float(video.start)
    at, decoded, decoded_rate = sound_of(path)
    return at - start + delay(resample(sound, rate, decoded_rate), decoded, decoded_rate)


def picture_end(path: Path) -> float:
    with Video(path) as video:
        for _ in video.sample([FrameGrid(1, 16, 16)]):
            pass
        return float(video.duration)


# (from, to, how late the sound may be in seconds)
COPIES = [
    ("mp4", "mp4", 0.001),
    ("mp4", "mov", 0.001),
    ("mp4", "mkv", 0.001),
    ("mov", "m4v", 0.001),
    ("mkv", "mp4", 0.001),
    ("mkv", "mkv", 0.001),
    ("webm", "webm", 0.002),
    ("webm", "mkv", 0.001),
    ("webm", "mp4", 0.001),
    ("avi", "avi", 0.001),
    ("avi", "mp4", 0.001),
]


@pytest.mark.parametrize(("kind", "suffix", "tolerance"), COPIES)
def test_picture_is_untouched_and_sound_is_in_time(
    tmp_path: Path, source: Make, kind: str, suffix: str, tolerance: float
) -> None:
    path, out = source(kind), tmp_path / f"out.{suffix}"
    sound = clicks(2 * RATE, RATE)  # longer than the picture
    assert check_container(out, path) is CONTAINERS[out.suffix]
    assert mux(path, sound, RATE, out) == []
    assert packets(out) == packets(path)
    assert abs(lag(out, sound[:RATE])) < tolerance
    _, decoded, rate = sound_of(out)
    assert 0 <= len(decoded) / rate - 1 < 1024 / rate  # AAC ends on a whole block; the file says where the sound ends
    with av.open(str(out)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == {"libopus": "opus"}.get(codec := CONTAINERS[out.suffix].codec, codec)
        assert stream.duration is None or float(stream.duration * stream.time_base) == pytest.approx(1, abs=1e-4)
        assert container.duration == pytest.approx(1_000_000, abs=10_000)
    assert picture_end(out) == 1


@pytest.mark.parametrize(
    ("kind", "suffix"), [("mp4", "mp4"), ("mp4", "mkv"), ("webm", "webm"), ("webm", "mp4"), ("webm", "avi")]
)
def test_sound_starts_with_a_late_picture(tmp_path: Path, source: Make, kind: str, suffix: str) -> None:
    path, out = source(kind, start=Fraction(1, 2)), tmp_path / f"out.{suffix}"
    sound = clicks(RATE, RATE)
    mux(path, sound, RATE, out)
    assert packets(out)[0] == packets(path)[0]
    if suffix != "avi":  # AVI has no time stamps to keep
        assert packets(out)[1] == packets(path)[1]
    assert abs(lag(out, sound)) < 0.002


def test_short_sound_and_odd_rates(tmp_path: Path, source: Make) -> None:
    for suffix, rate in (("mp4", 37000), ("mkv", 37000), ("mp4", 16000), ("mkv", 44100)):
        sound = clicks(rate // 2, rate)
        mux(source("mp4"), sound, rate, tmp_path / f"a.{suffix}")
        at, decoded, decoded_rate = sound_of(tmp_path / f"a.{suffix}")
        assert at == 0 and 0 <= len(decoded) / decoded_rate - 1 < 1024 / decoded_rate
        assert abs(lag(tmp_path / f"a.{suffix}", sound, rate)) < 0.001
        assert np.abs(decoded[round(0.6 * decoded_rate) :]).max() < 1e-3  # silence to the end
    mux(source("mp4"), np.zeros(0, np.float32), RATE, tmp_path / "b.mkv")
    assert len(sound_of(tmp_path / "b.mkv")[1]) == RATE


def test_flac_is_lossless(tmp_path: Path, source: Make) -> None:
    sound = np.random.default_rng(0).uniform(-1.2, 1.2, RATE).astype(np.float32)
    mux(source("mp4"), sound, RATE, tmp_path / "a.mkv")
    samples = np.clip(np.rint(sound * 32768), -32768, 32767) / 32768
    np.testing.assert_array_equal(sound_of(tmp_path / "a.mkv")[1], samples.astype(np.float32))


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_the_sound_is_that_of_the_wav(tmp_path: Path, source: Make, suffix: str) -> None:
    """What a WAV's 16 bits do not hold makes no difference."""
    fine = np.random.default_rng(0).uniform(-0.2, 0.2, RATE)
    rounded = np.rint(fine * 32768) / 32768
    below = np.random.default_rng(1).uniform(-0.4, 0.4, RATE) / 32768
    mux(source(suffix), rounded, 48000, tmp_path / f"a.{suffix}")
    mux(source(suffix), rounded + below, 48000, tmp_path / f"b.{suffix}")
    np.testing.assert_array_equal(sound_of(tmp_path / f"a.{suffix}")[1], sound_of(tmp_path / f"b.{suffix}")[1])


def test_variable_rate_is_kept(tmp_path: Path) -> None:
    times = [Fraction(t, 1000) for t in (0, 40, 500, 520, 900, 1700)]
    path = write_video(tmp_path / "a.mp4", Picture(times, Fraction(3, 10)))
    for suffix in ("mp4", "mkv"):
        mux(path, clicks(2 * RATE, RATE), RATE, tmp_path / f"out.{suffix}")
        assert packets(tmp_path / f"out.{suffix}") == packets(path)
        assert picture_end(tmp_path / f"out.{suffix}") == 2
    with pytest.raises(
        MediaError, match=r"cannot hold a variable frame rate; give a name in \.mp4, \.m4v, \.mkv or \.webm"
    ):
        webm = write_video(tmp_path / "a.webm", Picture(times, codec="libvpx-vp9", options=VP9))
        mux(webm, clicks(RATE, RATE), RATE, tmp_path / "out.avi")


def test_rotation_and_tags_are_kept(tmp_path: Path, source: Make) -> None:
    path = source("mov", rotation=90)
    for suffix in ("mp4", "mov", "mkv"):
        mux(path, clicks(RATE, RATE), RATE, tmp_path / f"a.{suffix}")
        with Video(tmp_path / f"a.{suffix}") as video:
            assert (video.width, video.height) == (48, 64)
    with av.open(str(tmp_path / "rich.mkv"), "w") as out:
        out.metadata["title"] = "Film"
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "A"}}]
        )
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        out.mux([*stream.encode(av.VideoFrame.from_ndarray(grey(0, (64, 48)))), *stream.encode(None)])
    mux(tmp_path / "rich.mkv", clicks(RATE, RATE), RATE, tmp_path / "rich.mp4")
    with av.open(str(tmp_path / "rich.mp4")) as copy:
        assert copy.metadata["title"] == "Film" and copy.chapters()[0]["metadata"]["title"] == "A"
        assert copy.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_mp4_can_be_played_while_it_loads(tmp_path: Path, source: Make) -> None:
    mux(source("mp4"), clicks(RATE, RATE), RATE, tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_broadcast_clock_starts_at_zero(tmp_path: Path, source: Make) -> None:
    path, sound = source("ts", start=Fraction(5)), clicks(RATE, RATE)
    for suffix in ("mp4", "mkv"):
        mux(path, sound, RATE, tmp_path / f"a.{suffix}")
        with Video(tmp_path / f"a.{suffix}") as video:
            assert video.start < Fraction(1, 10)
        assert abs(lag(tmp_path / f"a.{suffix}", sound)) < 0.001


# ---------------------------------------------------------------- other streams
@pytest.mark.parametrize(("kind", "suffix"), [("mp4", "mp4"), ("mp4", "mkv"), ("webm", "webm")])
def test_existing_sound(tmp_path: Path, source: Make, kind: str, suffix: str) -> None:
    path, sound = source(kind, sound=True), clicks(RATE, RATE)
    for existing, tracks in (("replace", 1), ("keep", 2)):
        out = tmp_path / f"{existing}.{suffix}"
        assert mux(path, sound, RATE, out, existing=existing) == []  # type: ignore[arg-type]
        with av.open(str(out)) as copy:
            assert [s.type for s in copy.streams] == ["video"] + ["audio"] * tracks
            assert [bool(s.disposition & 1) for s in copy.streams.audio] == [True, False][:tracks]
        assert packets(out) == packets(path)
        assert abs(lag(out, sound)) < 0.002
    reference, (_, kept, rate) = read_audio(path, RATE), sound_of(out, track=1)
    assert abs(delay(resample(reference, RATE, rate), kept, rate)) < 0.001


def test_subtitles_fonts_and_covers(tmp_path: Path, source: Make) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,700\nHello\n\n")
    path = tmp_path / "rich.mkv"
    with av.open(str(source("mp4"))) as film, av.open(str(tmp_path / "a.srt")) as words, av.open(str(path), "w") as out:
        routes = [(s, out.add_stream_from_template(s, opaque=True)) for s in (film.streams[0], words.streams[0])]
        out.add_attachment("a.ttf", "font/ttf", b"12345")
        for stream, copy in routes:
            for packet in stream.container.demux(stream):  # type: ignore[attr-defined]
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    sound = clicks(RATE, RATE)
    assert mux(path, sound, RATE, tmp_path / "a.mkv") == []
    with av.open(str(tmp_path / "a.mkv")) as copy:
        assert [s.type for s in copy.streams] == ["video", "audio", "subtitle", "attachment"]
        assert [bytes(p) for p in copy.demux(copy.streams.subtitles[0]) if p.size] == [b"Hello"]
    warnings = mux(path, sound, RATE, tmp_path / "a.mp4")
    assert [w.split(": ", 1)[1] for w in warnings] == [
        "left out 1 x attachment, which it cannot hold",
        "left out 1 x subtitle, which it cannot hold",
    ]
    covered = write_video(tmp_path / "covered.mp4", Picture(steady(5, 25)), cover=True)
    assert mux(covered, sound, RATE, tmp_path / "b.mp4") == []
    with av.open(str(tmp_path / "b.mp4")) as copy:
        assert len(copy.streams.video) == 2
    assert mux(covered, sound, RATE, tmp_path / "b.mkv") == []  # as an attachment
    with av.open(str(tmp_path / "b.mkv")) as copy, av.open(str(covered)) as film:
        pictures = [[bytes(p) for p in c.demux(c.streams.video[1]) if p.size] for c in (copy, film)]
        assert pictures[0] == pictures[1] != []
    (warning,) = mux(covered, sound, RATE, tmp_path / "c.mov")
    assert warning.endswith("left out 1 x cover art, which it cannot hold")
    assert packets(tmp_path / "b.mkv") == packets(tmp_path / "b.mp4") == packets(covered)


# ---------------------------------------------------------------- refusals and failures
def test_refusals(tmp_path: Path, source: Make) -> None:
    path, sound = source("mp4"), clicks(RATE, RATE)
    own = tmp_path / "own.mp4"
    own.write_bytes(path.read_bytes())
    cases: list[tuple[Path, str, type[Exception], str]] = [
        (path, "a.wmv", MediaError, r"\.wmv files cannot be made; .* \.mp4, \.m4v, \.mov, \.mkv, \.webm or \.avi"),
        (path, "a", MediaError, "a name without a suffix"),
        (path, "a.webm", MediaError, r"cannot hold a picture in h264; give a name in \.mp4, \.m4v, \.mov or \.mkv"),
        (path, "a.avi", MediaError, r"cannot hold this kind of h264; give a name in \.mp4, \.m4v, \.mov or \.mkv"),
        (source("webm"), "a.mov", MediaError, r"hold a picture in vp9; give a name in \.mp4, \.m4v, \.mkv, \.webm or"),
        (tmp_path / "none.mp4", "a.mp4", MediaError, "no such file"),
        (own, "own.mp4", MediaError, "it is the video itself"),
        (path, "no/a.mp4", MediaError, "does not exist; create it"),
    ]
    for video, name, kind, advice in cases:
        with pytest.raises(kind, match=advice):
            mux(video, sound, RATE, tmp_path / name)
    for video, name in ((path, "a.webm"), (path, "a.avi"), (source("webm"), "a.mov")):
        with pytest.raises(MediaError):
            check_container(tmp_path / name, video)
    with pytest.raises(OptionError, match="choose from replace, keep"):
        mux(path, sound, RATE, tmp_path / "a.mp4", existing="mix")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="finite"):
        mux(path, np.array([np.nan]), RATE, tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == ["own.mp4"] and own.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_failure_keeps_the_old_file(tmp_path: Path, source: Make, suffix: str) -> None:
    out = tmp_path / f"a.{suffix}"
    out.write_bytes(b"old")
    with file_size_limit(3000), pytest.raises(MediaError, match=r"cannot write .* choose another folder"):
        mux(source("mp4"), np.random.default_rng(0).uniform(-1, 1, RATE), RATE, out)
    assert out.read_bytes() == b"old" and os.listdir(tmp_path) == [out.name]
    mux(source("mp4"), clicks(RATE, RATE), RATE, out)
    assert packets(out) == packets(source("mp4")) and os.listdir(tmp_path) == [out.name]


def test_a_source_that_breaks_off(tmp_path: Path, source: Make) -> None:
    data = source("mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 3 // 4])
    mux(tmp_path / "cut.mkv", clicks(RATE, RATE), RATE, tmp_path / "a.mkv")
    end = picture_end(tmp_path / "cut.mkv")
    assert 0.3 < end < 1 and picture_end(tmp_path / "a.mkv") == end
    assert len(sound_of(tmp_path / "a.mkv")[1]) == pytest.approx(end * RATE, abs=0.04 * RATE)


def test_real_clips(tmp_path: Path) -> None:
    folder = os.environ.get("MASKVAT_CLIPS")
    videos = sorted(Path(folder).glob("*.mp4")) if folder else []
    if not videos:
        pytest.skip("set MASKVAT_CLIPS to a folder of .mp4 clips to try them")
    for path in videos[:2]:
        sound = read_audio(path, RATE)
        for suffix in ("mp4", "mkv"):
            out = tmp_path / f"a.{suffix}"
            mux(path, sound, RATE, out, existing="keep")
            assert packets(out)[0] == packets(path)[0]
            assert abs(lag(out, sound)) < 0.005
