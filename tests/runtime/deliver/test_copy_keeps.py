"""What a copy keeps of its source, and that what it loses is said: files made with PyAV."""

import io
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.audio import open_media, read_audio
from runtime.deliver import packet_copy
from runtime.deliver.describe import FileFacts, StreamFacts, describe, losses
from runtime.deliver.matroska import TrackFields, set_track_fields
from runtime.deliver.mux import CONTAINERS, check_container, mux
from runtime.errors import MediaError
from runtime.video import Video
from tests.support.media import Picture, Sound, clicks, delay, steady, write_video

RATE = 44100
SILENCE = np.zeros(RATE, np.float32)


def facts(path: Path) -> FileFacts:
    with open_media(path) as container:
        return describe(container)


def remux(source: Path, target: Path, change: Callable[[Any, Any], None], **options: str) -> Path:
    """A copy of a file with something that only the container says: `change` gets the file and its picture."""
    with av.open(str(source)) as film, av.open(str(target), "w", container_options=options) as out:
        routes = {s.index: out.add_stream_from_template(s, opaque=True) for s in film.streams}
        change(out, out.streams.video[0])
        for packet in film.demux():
            if packet.size:
                packet.stream = routes[packet.stream_index]
                out.mux(packet)
    return target


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(tmp_path / "film.mp4", Picture(steady(10, 25)))


def decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.video[0])
        return [f.reformat(format="rgba").to_ndarray().tobytes() for f in frames]


# ---------------------------------------------------------------- the picture
@pytest.mark.parametrize("codec", ["utvideo", "ffv1", "mjpeg", "huffyuv", "rawvideo"])
def test_codec_tag_in_avi(tmp_path: Path, codec: str) -> None:
    """Some codecs cannot be read without the tag that the source has."""
    for pix_fmt in ("yuv422p", "yuv420p"):
        pixels = f"yuvj{pix_fmt[3:]}" if codec == "mjpeg" else pix_fmt
        if codec == "huffyuv" and pix_fmt == "yuv420p":
            continue
        picture = Picture(steady(5, 25), codec=codec, pix_fmt=pixels, tick=Fraction(1, 25), options=(("threads", "1"),))
        path, out = write_video(tmp_path / f"{codec}{pix_fmt}.avi", picture), tmp_path / "out.avi"
        assert mux(path, SILENCE, RATE, out) == []
        assert decoded(out) == decoded(path)
        assert facts(out).streams[0].codec_tag == facts(path).streams[0].codec_tag


@pytest.mark.parametrize("tag", ["hvc1", "hev1"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_codec_tag_in_mp4_and_mov(tmp_path: Path, tag: str, suffix: str) -> None:
    options = (("preset", "ultrafast"), ("x265-params", "log-level=none"))
    plain = write_video(tmp_path / "a.mp4", Picture(steady(5, 25), codec="libx265", options=options))
    path = remux(plain, tmp_path / "b.mp4", lambda _, picture: setattr(picture.codec_context, "codec_tag", tag))
    assert facts(path).streams[0].codec_tag == tag
    assert mux(path, SILENCE, RATE, tmp_path / f"c.{suffix}") == []
    assert facts(tmp_path / f"c.{suffix}").streams[0].codec_tag == tag


@pytest.mark.parametrize(
    "aspect", [Fraction(64, 45), Fraction(4, 3), Fraction(1, 2), Fraction(1), Fraction(1001, 1000)]
)
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_pixel_aspect_that_the_container_says(tmp_path: Path, film: Path, aspect: Fraction, suffix: str) -> None:
    path = remux(film, tmp_path / "a.mov", lambda _, p: setattr(p.codec_context, "sample_aspect_ratio", aspect))
    assert facts(path).streams[0].shape == (64, 48, aspect)
    for source in (path, tmp_path / "again.mkv"):  # the second from what the first round made
        assert mux(source, SILENCE, RATE, tmp_path / f"out.{suffix}") == []
        assert facts(tmp_path / f"out.{suffix}").streams[0].shape == (64, 48, aspect)
        mux(path, SILENCE, RATE, tmp_path / "again.mkv")
    assert any("shape (64 x 48" in w for w in losses(facts(path), facts(film), False)) == (aspect != 1)


def test_spherical_data(tmp_path: Path, film: Path) -> None:
    path = spherical(film, tmp_path / "a.mp4")
    assert "Spherical Mapping" in facts(path).streams[0].side_data
    for suffix in ("mp4", "mkv", "mov"):
        warnings = mux(path, SILENCE, RATE, tmp_path / f"b.{suffix}")
        assert "Spherical Mapping" in facts(tmp_path / f"b.{suffix}").streams[0].side_data
        assert any("vexu" in w for w in warnings) == (suffix == "mov")
        assert (b"sv3d" in (tmp_path / f"b.{suffix}").read_bytes()) == (suffix == "mp4")
    (warning,) = losses(facts(path), facts(film), False)
    assert "loses its" in warning and "Spherical Mapping data" in warning


def spherical(film: Path, path: Path) -> Path:
    """A film marked as 360-degree, by boxes put at the end of its sample entry."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    projection = box(b"proj", box(b"prhd", bytes(16)) + box(b"equi", bytes(20)))
    extra, data = box(b"sv3d", box(b"svhd", bytes(4) + b"x\0") + projection), bytearray(film.read_bytes())
    at, parents = 0, []
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        while data[at + 4 : at + 8] != kind:
            at += struct.unpack_from(">I", data, at)[0]
        parents.append(at)
        at += 16 if kind == b"stsd" else 8
    end = parents[-1] + struct.unpack_from(">I", data, parents[-1])[0]
    for parent in parents:
        struct.pack_into(">I", data, parent, struct.unpack_from(">I", data, parent)[0] + len(extra))
    data[end:end] = extra
    path.write_bytes(data)
    return path


def test_alpha_beside_the_picture_is_kept_or_said_to_be_lost(tmp_path: Path) -> None:
    picture = Picture(steady(5, 25), codec="libvpx-vp9", options=(("cpu-used", "8"), ("deadline", "realtime")))
    plain = write_video(tmp_path / "a.webm", picture)
    path = remux(plain, tmp_path / "b.webm", lambda _, p: p.metadata.update({"alpha_mode": "1"}))
    assert facts(path).streams[0].tags["alpha_mode"] == "1"
    assert mux(path, SILENCE, RATE, tmp_path / "c.webm") == mux(path, SILENCE, RATE, tmp_path / "c.mkv") == []
    assert "the picture loses its alpha channel" in mux(path, SILENCE, RATE, tmp_path / "c.mp4")[0]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_colours_that_the_container_says(tmp_path: Path, film: Path, suffix: str) -> None:
    def bt2020(_: Any, picture: Any) -> None:
        context = picture.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1

    path = remux(film, tmp_path / "a.mov", bt2020)
    assert facts(path).streams[0].colours[1:] == (9, 16, 9)  # MP4 and MOV do not say the range
    assert mux(path, SILENCE, RATE, tmp_path / f"out.{suffix}") == []
    assert facts(tmp_path / f"out.{suffix}").streams[0].colours[1:] == (9, 16, 9)


# ---------------------------------------------------------------- tags, chapters, other streams
PHONE = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
    "com.apple.quicktime.location.ISO6709": "+48.0+011.0/",
    "com.android.version": "14",
    "title": "Holiday",
    "comment": "ä ö 漢",
}


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov", "mkv", "webm"])
def test_phone_tags(tmp_path: Path, film: Path, suffix: str) -> None:
    if suffix == "webm":
        film = write_video(tmp_path / "film.mkv", Picture(steady(5, 25), codec="libvpx-vp9"))
    path = remux(
        film, tmp_path / f"a.{film.suffix[1:]}", lambda out, _: out.metadata.update(PHONE), movflags="use_metadata_tags"
    )
    assert mux(path, SILENCE, RATE, tmp_path / f"b.{suffix}") == []
    tags = facts(tmp_path / f"b.{suffix}").tags
    assert {k: tags.get(k) for k in map(str.lower, PHONE)} == {k.lower(): v for k, v in PHONE.items()}


def test_usual_tags_stay_in_the_form_that_every_player_reads(tmp_path: Path, film: Path) -> None:
    path = remux(film, tmp_path / "a.mp4", lambda out, _: out.metadata.update({"title": "T", "artist": "A"}))
    assert mux(path, SILENCE, RATE, tmp_path / "b.mp4") == []
    assert b"mdta" not in (tmp_path / "b.mp4").read_bytes()


def test_tags_that_a_kind_cannot_hold_are_named(tmp_path: Path) -> None:
    picture = Picture(steady(5, 25), codec="mpeg4", tick=Fraction(1, 25))
    path = remux(
        write_video(tmp_path / "a.avi", picture), tmp_path / "b.mkv", lambda out, _: out.metadata.update(PHONE)
    )
    (warning,) = mux(path, SILENCE, RATE, tmp_path / "c.avi")
    assert "loses the tags com.android.version, com.apple.quicktime.creationdate" in warning
    assert "title" not in warning


def test_languages_titles_and_chapters_of_kept_tracks(tmp_path: Path) -> None:
    track = Sound(0.3 * clicks(RATE, RATE)[None], RATE, "aac")
    plain = write_video(tmp_path / "a.mp4", Picture(steady(25, 25)), track)
    chapters = [
        {
            "id": n,
            "start": 300 * n,
            "end": 300 * n + 300,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": f"C{n}"},
        }
        for n in range(3)
    ]

    def dress(out: Any, picture: Any) -> None:
        out.set_chapters(chapters)
        picture.metadata.update({"language": "jpn", "title": "Main"})
        out.streams.audio[0].metadata.update({"language": "fra", "title": "Original"})

    for source in ("mp4", "mkv"):
        path = remux(plain, tmp_path / f"b.{source}", dress)
        for suffix in ("mp4", "mkv"):
            out = tmp_path / f"c.{suffix}"
            assert mux(path, SILENCE, RATE, out, existing="keep") == []
            copy = facts(out)
            assert [c[1] for c in copy.chapters] == ["C0", "C1", "C2"]
            kept = [s for s in copy.streams if s.kind == "audio"][1]
            assert (kept.tags["language"], kept.tags["title"]) == ("fra", "Original")
            assert (copy.streams[0].tags["language"], copy.streams[0].tags["title"]) == ("jpn", "Main")


def test_chapters_move_with_an_arbitrary_clock(tmp_path: Path) -> None:
    """The chapters begin where they began in the picture, whatever the copy's first time stamp is."""
    plain = write_video(tmp_path / "plain.nut", Picture(steady(50, 25, 10)))
    titles, unit = ("A", "B"), Fraction(1, 1000)
    chapters = [
        {"id": n, "start": 10_000 + 1000 * n, "end": 11_000 + 1000 * n, "time_base": unit, "metadata": {"title": t}}
        for n, t in enumerate(titles)
    ]
    path = remux(plain, tmp_path / "a.nut", lambda out, _: out.set_chapters(chapters))
    assert facts(path).chapters == [(10, "A"), (11, "B")]
    assert mux(path, SILENCE, RATE, tmp_path / "b.mkv") == []
    with Video(tmp_path / "b.mkv") as video:
        starts = [float(start - video.start) for start, _ in facts(tmp_path / "b.mkv").chapters]
    assert starts == pytest.approx([0, 1], abs=0.05)


def test_time_code_is_no_stream_that_is_lost(tmp_path: Path, film: Path) -> None:
    def dress(_: Any, picture: Any) -> None:
        picture.codec_context.framerate = 25
        picture.metadata["timecode"] = "10:00:00:00"

    path = remux(film, tmp_path / "a.mov", dress)
    assert [s.kind for s in facts(path).streams] == ["video", "data"]
    for suffix in ("mov", "mp4", "mkv"):
        assert mux(path, SILENCE, RATE, tmp_path / f"b.{suffix}") == []
        assert facts(tmp_path / f"b.{suffix}").streams[0].tags["timecode"] == "10:00:00:00"


def test_kept_sound_in_matroska_loses_nothing(tmp_path: Path) -> None:
    """Its encoder's priming lies before zero; the first samples need it to be decoded."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, (1, RATE)).astype(np.float32)
    path = write_video(tmp_path / "a.mp4", Picture(steady(25, 25)), Sound(noise, RATE, "aac"))
    for source, suffix in ((path, "mkv"), (tmp_path / "b.mkv", "mkv"), (tmp_path / "b.mkv", "mp4")):
        out = tmp_path / f"{'b' if source == path else 'c'}.{suffix}"
        if source == path:
            assert mux(source, SILENCE, RATE, out, existing="keep") == []
            track = 1
        else:
            assert mux(source, SILENCE, RATE, out, existing="keep") == []
            track = 2
        want, got = samples_from_zero(path, 0), samples_from_zero(out, track)
        np.testing.assert_array_equal(want[:RATE], got[:RATE])
        with av.open(str(out)) as copy:
            assert next(p for p in copy.demux(copy.streams.video[0])).pts == 0


def test_kept_sound_in_avi_is_warned_of(tmp_path: Path) -> None:
    """AVI has no time stamps, so what lies before time zero is dropped, or the sound starts late."""
    audio = np.zeros((1, 48000), np.float32)
    for codec, rate, words in (("libmp3lame", 44100, ["the first 25 ms of audio 1"]), ("pcm_s16le", 48000, [])):
        picture = Picture(steady(25, 25), Fraction(1, 25), codec="mpeg4", tick=Fraction(1, 25), options=(("bf", "0"),))
        path = write_video(tmp_path / f"{codec}.mkv", picture, Sound(audio[:, :rate], rate, codec))
        found = mux(path, SILENCE, RATE, tmp_path / f"{codec}.avi", existing="keep")
        late = [line for line in found if "missing or late" in line]
        assert len(late) == len(words) and all(w in line for w, line in zip(words, late, strict=True)), found


def samples_from_zero(path: Path, track: int) -> Any:
    """A track's samples from its time zero on, to the millisecond that Matroska counts in."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[track]
        frames = list(container.decode(stream))
        first = round(float(frames[0].pts * stream.time_base) * RATE / 1024) * 1024
        return np.concatenate([f.to_ndarray()[0] for f in frames])[max(0, -first) :]


# ---------------------------------------------------------------- the comparison itself
def stream(**changes: Any) -> StreamFacts:
    base: dict[str, Any] = {"index": 0, "kind": "video", "codec": "h264", "codec_tag": "avc1", "tags": {}}
    return StreamFacts(**{**base, "side_data": {}, "disposition": av.stream.Disposition(0), **changes})


MADE = stream(index=1, kind="audio", codec="aac")
LOSSES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"side_data": {"DOVI configuration record": "x"}}, {}, "the picture loses its DOVI configuration record data"),
    ({"side_data": {"displaymatrix": "90"}}, {"side_data": {"displaymatrix": "0"}}, "loses its displaymatrix data"),
    ({"tags": {"language": "fra"}}, {}, r"language \(fra\)"),
    ({"tags": {"alpha_mode": "1"}}, {}, "alpha channel"),
    ({"codec_tag": "apch"}, {"codec_tag": "apcn"}, r"codec tag \(apch\)"),
    ({"disposition": av.stream.Disposition.forced}, {}, "mark as forced"),
    ({"shape": (4, 4, Fraction(2))}, {"shape": (4, 4, Fraction(1))}, r"shape \(4 x 4, pixels 2:1\)"),
    ({"pixels": "yuva420p"}, {"pixels": "yuv420p"}, r"pixel format \(yuva420p\)"),
    ({"colours": (1, 9, 16, 9)}, {"colours": (1, 9, 2, 9)}, "colour trc"),
    ({"kind": "data"}, {"kind": "video"}, "left out 1 x data"),
    ({"codec": "hevc"}, {}, "left out 1 x video"),
]


@pytest.mark.parametrize(("of_source", "of_copy", "words"), LOSSES)
def test_each_loss_is_named(of_source: dict[str, Any], of_copy: dict[str, Any], words: str) -> None:
    import re

    source = FileFacts("mp4", {}, [], [stream(**of_source)])
    copy = FileFacts("mp4", {}, [], [stream(**of_copy), MADE])
    (sentence,) = losses(source, copy, keep_sound=False)
    assert re.search(words, sentence)
    assert losses(source, FileFacts("mp4", {}, [], [*source.streams, MADE]), keep_sound=False) == []


def test_a_loss_that_nobody_planned_is_found(tmp_path: Path, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the copy forgets its streams' titles, and the file's tags."""
    path = remux(
        film, tmp_path / "a.mkv", lambda out, p: (out.metadata.update(title="T"), p.metadata.update(title="S"))
    )
    add = packet_copy.add_stream

    def forgetful(*args: Any) -> Any:
        made = add(*args)
        made.metadata.clear()
        return made

    monkeypatch.setattr(packet_copy, "add_stream", forgetful)
    monkeypatch.setattr(packet_copy, "FILE_TAGS", {"title"})
    assert [w.split(": ")[1] for w in mux(path, SILENCE, RATE, tmp_path / "b.mkv")] == [
        "the picture loses its title (S)",
        "loses the tags title",
    ]


# ---------------------------------------------------------------- fields of Matroska tracks
def test_track_fields_move_nothing_behind_the_tracks(tmp_path: Path) -> None:
    picture = Picture(steady(25, 25))
    path = write_video(tmp_path / "a.mkv", picture, Sound(clicks(RATE, RATE)[None], RATE, "aac"))
    file = io.BytesIO(path.read_bytes())
    fields = {0: TrackFields(pixel_aspect=Fraction(64, 45)), 1: TrackFields(codec_delay=Fraction(1, 10))}
    assert set_track_fields(file, fields) and len(file.getvalue()) == path.stat().st_size
    cluster = path.read_bytes().index(b"\x1f\x43\xb6\x75")
    assert file.getvalue()[cluster:] == path.read_bytes()[cluster:]
    file.seek(0)
    with av.open(file) as copy:
        assert copy.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
        assert next(copy.demux(copy.streams.audio[0])).pts in (-100, -99)  # milliseconds
        copy.seek(0)
        assert len(list(copy.decode(copy.streams.video[0]))) == 25
    again = file.getvalue()
    assert set_track_fields(file, fields) and len(file.getvalue()) == len(again)


def test_without_room_nothing_changes(tmp_path: Path) -> None:
    full = write_video(tmp_path / "a.mkv", Picture(steady(5, 25))).read_bytes()
    void = full.index(b"\xec\x01\x00\x00")
    for data in (full[:void] + b"\xfd" + full[void + 1 :], b"", b"not Matroska" * 9):
        file = io.BytesIO(data)
        assert not set_track_fields(file, {0: TrackFields(pixel_aspect=Fraction(2))})
        assert file.getvalue() == data


# ---------------------------------------------------------------- refusals
CODECS: dict[str, dict[str, Any]] = {
    "png.mov": {"codec": "png", "pix_fmt": "rgb24"},
    "raw.mov": {"codec": "rawvideo", "pix_fmt": "yuyv422"},
    "raw.avi": {"codec": "rawvideo", "pix_fmt": "bgr24", "tick": Fraction(1, 25)},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "ffv1.mkv": {"codec": "ffv1"},
    "mpeg2.mkv": {"codec": "mpeg2video", "tick": Fraction(1, 25)},
    "dv.avi": {"codec": "dvvideo", "size": (720, 576), "tick": Fraction(1, 25)},
    "raw.264": {"codec": "libx264"},
}


@pytest.mark.parametrize("name", CODECS)
def test_every_kind_that_advice_names_takes_the_picture(tmp_path: Path, name: str) -> None:
    import re

    path = write_video(tmp_path / name, Picture(steady(5, 25), **CODECS[name]))
    before = decoded(path)
    for suffix in CONTAINERS:
        try:
            check_container(tmp_path / f"out{suffix}", path)
        except MediaError as error:
            advice = str(error).rpartition("; ")[2]
            named = re.findall(r"\.(?:mp4|m4v|mov|mkv|webm|avi)\b", advice)
            assert named or "convert" in advice
            assert suffix not in named
            for other in named:
                check_container(tmp_path / f"out{other}", path)
        else:
            mux(path, SILENCE, RATE, tmp_path / f"out{suffix}")
            assert decoded(tmp_path / f"out{suffix}") == before


def test_the_video_is_not_replaced_under_another_name(tmp_path: Path, film: Path) -> None:
    os.link(film, tmp_path / "hard.mp4")
    os.symlink(film, tmp_path / "soft.mp4")
    before = film.read_bytes()
    for name in ("hard.mp4", "soft.mp4", "film.mp4"):
        for call in (lambda p: check_container(p, film), lambda p: mux(film, SILENCE, RATE, p)):
            with pytest.raises(MediaError, match="it is the video itself; give another name"):
                call(tmp_path / name)
    assert film.read_bytes() == before


def test_a_pipe_is_not_replaced(tmp_path: Path, film: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for call in (lambda p: check_container(p, film), lambda p: mux(film, SILENCE, RATE, p)):
        with pytest.raises(MediaError, match="not a regular file"):
            call(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").is_fifo()


def test_generated_sound_stays_in_time_beside_a_kept_one(tmp_path: Path) -> None:
    track = Sound(0.3 * clicks(RATE, RATE, first=0.1)[None], RATE, "aac")
    path = write_video(tmp_path / "a.mp4", Picture(steady(25, 25)), track)
    mux(path, clicks(RATE, RATE), RATE, tmp_path / "b.mkv", existing="keep")
    assert abs(delay(clicks(RATE, RATE), read_audio(tmp_path / "b.mkv", RATE), RATE)) < 0.001
