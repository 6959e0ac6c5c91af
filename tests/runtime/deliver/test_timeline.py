"""Timeline files, read back by libraries that this project did not write, and rendered by melt."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from runtime import MediaError, OptionError
from runtime.audio import read_audio
from runtime.deliver.delivery import DeliveryConfig, deliver_take
from runtime.deliver.sound_file import write_sound
from runtime.deliver.timeline.model import Timeline, TimelineSound, sound_frames
from runtime.deliver.timeline.takes import timeline_of
from runtime.deliver.timeline.write import WRITERS, check_timeline_file, write_timeline
from runtime.edit.timecode import Span, Timecode, dropped_per_minute, frame_samples
from runtime.edit.timing import read_timing
from runtime.media.wav import WavFormat
from tests.support.media import Picture, steady, write_video
from tests.support.melt import render
from tests.support.takes import make_take

RATES = [Fraction(text) for text in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001")]
FOLDER = "Täkes & <cuts> 100%"  # letters that XML and URLs must escape
STARTS = ["01:00:00:00", None]


def make_timeline(folder: Path, rate: Fraction, start: str | None, first: int = 37, sounds: int = 2) -> Timeline:
    """A video of 300 frames with sounds on the frames 37 to 137. The files need not exist."""
    code = None
    if start is not None:
        code = Timecode.parse(start[:8] + (";" if dropped_per_minute(rate) else ":") + start[9:], rate)
    folder = folder / FOLDER
    samples = frame_samples(100, rate, 48000)
    takes = [
        TimelineSound(folder / f"a b.take{n}.wav", f"take {n}", 48000, 2, 24, samples, first, 100)
        for n in range(1, sounds + 1)
    ]
    if code is not None:  # the second is a broadcast WAV
        takes[-1:] = [TimelineSound(**(vars(takes[-1]) | {"media_start": code.frame + first}))]
    return Timeline("x & <y>", rate, folder / "a b.mov", 300, (640, 360), takes, code)


def read_with_otio(path: Path, rate: Fraction) -> list[tuple[str, str, list[tuple[str, int, int, int]]]]:
    """(kind, name, clips) of each track; a clip is (path, first frame on the timeline, frames, first media frame)."""
    otio = pytest.importorskip("opentimelineio", reason="needs opentimelineio: pip install '.[test]'")
    if path.suffix == ".xml":
        pytest.importorskip("otio_fcp_adapter", reason="needs otio-fcp-adapter: pip install '.[test]'")
    timeline = otio.adapters.read_from_file(str(path))
    tracks = []
    for track in timeline.tracks:
        clips = []
        for clip in track.find_clips():
            place, source = clip.range_in_parent(), clip.source_range
            for time in (place.start_time, place.duration, source.start_time):
                assert time.rate == pytest.approx(float(rate), rel=1e-12) and time.value == int(time.value)
            url = clip.media_reference.target_url
            target = unquote(urlparse(url).path) if url.startswith("file:") else url
            available = clip.media_reference.available_range
            assert available.duration == source.duration
            assert available.start_time == source.start_time or path.suffix == ".xml"  # it counts from 0 there
            clips.append((target, int(place.start_time.value), int(place.duration.value), int(source.start_time.value)))
        tracks.append((track.kind, track.name, clips))
    return tracks


# ---------------------------------------------------------------- read back
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_opentimelineio_reads_the_same_frames(tmp_path: Path, rate: Fraction, start: str | None) -> None:
    timeline = make_timeline(tmp_path, rate, start)
    write_timeline(tmp_path / "x.otio", timeline)
    folder, begin = tmp_path / FOLDER, timeline.media_start
    assert (begin > 80000) == (start is not None)
    sound_starts = [0, begin + 37 if start else 0]
    assert read_with_otio(tmp_path / "x.otio", rate) == [
        ("Video", "Picture", [(str(folder / "a b.mov"), 0, 300, begin)]),
        *(("Audio", f"take {n}", [(str(folder / f"a b.take{n}.wav"), 37, 100, sound_starts[n - 1])]) for n in (1, 2)),
    ]
    otio = pytest.importorskip("opentimelineio")
    read = otio.adapters.read_from_file(str(tmp_path / "x.otio"))
    assert (read.name, int(read.global_start_time.value)) == ("x & <y>", begin)
    schemas = {type(child).__name__ for child in read.find_children()}
    assert schemas <= {"Track", "Clip", "Gap"}  # an unknown schema is fatal in Resolve


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_fcp_adapter_reads_the_same_frames(tmp_path: Path, rate: Fraction, start: str | None) -> None:
    write_timeline(tmp_path / "x.xml", make_timeline(tmp_path, rate, start))
    read = read_with_otio(tmp_path / "x.xml", rate)
    folder = tmp_path / FOLDER
    kinds = [(kind, [(path, first, frames) for path, first, frames, _ in clips]) for kind, _, clips in read]
    assert kinds == [
        ("Video", [(str(folder / "a b.mov"), 0, 300)]),
        ("Audio", [(str(folder / "a b.take1.wav"), 37, 100)]),
        ("Audio", [(str(folder / "a b.take2.wav"), 37, 100)]),
    ]


DTD = """
<!ELEMENT fcpxml (resources, library)> <!ATTLIST fcpxml version CDATA #REQUIRED>
<!ELEMENT resources (format | asset)*>
<!ELEMENT format EMPTY>
<!ATTLIST format id ID #REQUIRED name CDATA #IMPLIED frameDuration CDATA #IMPLIED width CDATA #IMPLIED
  height CDATA #IMPLIED>
<!ELEMENT asset (media-rep+)>
<!ATTLIST asset id ID #REQUIRED name CDATA #IMPLIED uid CDATA #IMPLIED start CDATA #IMPLIED duration CDATA #IMPLIED
  hasVideo CDATA #IMPLIED format IDREF #IMPLIED hasAudio CDATA #IMPLIED videoSources CDATA #IMPLIED
  audioSources CDATA #IMPLIED audioChannels CDATA #IMPLIED audioRate CDATA #IMPLIED>
<!ELEMENT media-rep EMPTY>
<!ATTLIST media-rep kind (original-media | proxy-media) "original-media" src CDATA #REQUIRED>
<!ELEMENT library (event*)>
<!ELEMENT event (project*)> <!ATTLIST event name CDATA #IMPLIED>
<!ELEMENT project (sequence)> <!ATTLIST project name CDATA #IMPLIED>
<!ELEMENT sequence (spine)>
<!ATTLIST sequence format IDREF #REQUIRED duration CDATA #IMPLIED tcStart CDATA #IMPLIED tcFormat (DF | NDF) #IMPLIED>
<!ELEMENT spine (asset-clip*)>
<!ELEMENT asset-clip (asset-clip*)>
<!ATTLIST asset-clip ref IDREF #REQUIRED name CDATA #IMPLIED lane CDATA #IMPLIED offset CDATA #IMPLIED
  start CDATA #IMPLIED duration CDATA #IMPLIED tcFormat (DF | NDF) #IMPLIED audioRole CDATA #IMPLIED>
"""  # of the elements in use, written from the documentation of FCPXML 1.10: Apple's own DTD is not ours to ship


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_fcpxml_is_valid_and_exact(tmp_path: Path, rate: Fraction, start: str | None) -> None:
    etree = pytest.importorskip("lxml.etree", reason="needs lxml: pip install '.[test]'")
    timeline = make_timeline(tmp_path, rate, start)
    write_timeline(tmp_path / "x.fcpxml", timeline)
    root = etree.parse(str(tmp_path / "x.fcpxml")).getroot()
    dtd = etree.DTD(BytesIO(DTD.encode()))
    assert dtd.validate(root), dtd.error_log

    def frames(text: str) -> Fraction:
        return Fraction(text.removesuffix("s")) * rate

    assert root.find(".//format").get("frameDuration") == f"{rate.denominator}/{rate.numerator}s"
    begin = timeline.media_start
    picture = root.find(".//spine/asset-clip")
    places = {name: frames(picture.get(name)) for name in ("offset", "start", "duration")}
    assert places == {"offset": begin, "start": begin, "duration": 300}
    sounds = picture.findall("asset-clip")
    assert [s.get("lane") for s in sounds] == ["-1", "-2"]
    assert [(frames(s.get("offset")) - begin, frames(s.get("duration"))) for s in sounds] == [(37, 100)] * 2
    assert [frames(s.get("start")) for s in sounds] == [0, begin + 37 if start else 0]
    drop = "DF" if start and dropped_per_minute(rate) else "NDF"
    assert root.find(".//sequence").get("tcFormat") == drop
    paths = [unquote(urlparse(m.get("src")).path) for m in root.iter("media-rep")]
    assert paths == [str(p) for p in (timeline.video, *(s.path for s in timeline.sounds))]


@pytest.mark.parametrize("kind", ["luajit21", "lua51", "lua54"])
def test_lua_reads_the_same_frames(tmp_path: Path, kind: str) -> None:
    lua = pytest.importorskip(f"lupa.{kind}", reason="needs lupa: pip install '.[test]'")
    timeline = make_timeline(tmp_path, Fraction(30000, 1001), "01:00:00:00")
    timeline = replace(timeline, video=tmp_path / FOLDER / 'a "b" \\n.mov')
    write_timeline(tmp_path / "x.lua", timeline)
    read = lua.LuaRuntime().globals().dofile(str(tmp_path / "x.lua"))
    assert (read.video, read.frames, read.rate[1], read.rate[2]) == (str(timeline.video), 300, 30000, 1001)
    sounds = [(s.path, s.name, s.first, s.frames) for s in read.sounds.values()]
    assert sounds == [(str(s.path), s.name, 37, 100) for s in timeline.sounds]


# ---------------------------------------------------------------- the model
def test_frames_are_rounded_once() -> None:
    for rate in RATES:
        for first, length in ((0, 1), (37, 100), (12345, 77)):
            samples = frame_samples(first, rate, 48000), frame_samples(length, rate, 48000)
            assert sound_frames(*samples, 48000, rate) == (first, length)
    assert sound_frames(0, 1, 48000, Fraction(25)) == (0, 1)


def test_what_a_timeline_cannot_hold(tmp_path: Path) -> None:
    good = vars(make_timeline(tmp_path, Fraction(25), None))
    with pytest.raises(OptionError, match=r"needs absolute paths; got x\.mov"):
        Timeline(**(good | {"video": Path("x.mov")}))
    for name in ("bell\a.mov", "broken\udcff.mov"):
        with pytest.raises(OptionError, match="has characters that no timeline file can hold; rename the file"):
            Timeline(**(good | {"video": tmp_path / name}))
    with pytest.raises(OptionError, match="1 frame or more; got 0"):
        Timeline(**(good | {"frames": 0}))
    with pytest.raises(OptionError, match=r"x\.edl; give a name that ends in \.otio, \.mlt, \.xml, \.fcpxml or \.lua"):
        check_timeline_file("x.edl")


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_timeline_file_is_written_whole_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    timeline = make_timeline(tmp_path, Fraction(25), None)
    with pytest.raises(MediaError, match="does not exist; create it"):
        write_timeline(tmp_path / "no" / f"x{suffix}", timeline)
    assert list(tmp_path.iterdir()) == []
    write_timeline(tmp_path / f"x{suffix.upper()}", timeline)
    first = (tmp_path / f"x{suffix.upper()}").read_bytes()
    write_timeline(tmp_path / f"x{suffix.upper()}", timeline)
    assert (tmp_path / f"x{suffix.upper()}").read_bytes() == first


# ---------------------------------------------------------------- melt
@pytest.mark.host
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)], ids=str)
def test_melt_renders_the_same_samples_at_the_right_frame(tmp_path: Path, rate: Fraction) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    timeline = make_timeline(tmp_path, rate, None, sounds=1)
    write_video(timeline.video, Picture(steady(300, rate), last=1 / rate))
    samples = frame_samples(100, rate, 48000)
    audio = np.random.default_rng(0).integers(-20000, 20000, samples).astype(np.float32) / 32768
    write_sound(timeline.sounds[0].path, audio, WavFormat(48000))
    write_timeline(tmp_path / "x.mlt", timeline)
    render(tmp_path / "x.mlt", tmp_path / "out.wav")
    heard = read_audio(tmp_path / "out.wav", 48000)
    first = round(37 * 48000 / rate) if rate.denominator == 1 else int(37 * 48000 / rate)
    assert not heard[:first].any() and np.array_equal(heard[first : first + samples], audio)
    assert not heard[first + samples :].any()


def test_the_properties_that_make_it_a_timeline_in_shotcut(tmp_path: Path) -> None:
    write_timeline(tmp_path / "x.mlt", make_timeline(tmp_path, Fraction(25), None))
    root = ET.parse(tmp_path / "x.mlt").getroot()
    names = {(e.get("id"), p.get("name")): p.text for e in root for p in e.findall("property")}
    assert names[("tractor0", "shotcut")] == "1" and names[("playlist0", "shotcut:video")] == "1"
    assert names[("playlist2", "shotcut:audio")] == "1" and names[("playlist2", "shotcut:name")] == "take 2"


# ---------------------------------------------------------------- from takes
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)], ids=str)
def test_the_timeline_of_takes(tmp_path: Path, rate: Fraction) -> None:
    video = write_video(tmp_path / "x.mkv", Picture(steady(60, rate), last=1 / rate, size=(96, 64)))
    timing = replace(read_timing(video), start=Timecode.parse("01:00:00:00", rate))
    span = Span.of_frames(10, 40, rate)
    audio = np.full(span.samples(44100), 0.1, np.float32)
    sounds = [deliver_take(make_take(audio, duration=span.seconds), DeliveryConfig(rate=48000, bits="24"), span)] * 2
    files = [(tmp_path / f"{n}.wav", sound) for n, sound in enumerate(sounds)]
    for stamped in (False, True):
        timeline = timeline_of(video, timing, files, span, stamped)
        assert (timeline.rate, timeline.frames, timeline.size) == (rate, 60, (96, 64))
        assert [(s.path, s.first, s.frames) for s in timeline.sounds] == [(path, 10, 30) for path, _ in files]
        first = timing.start.frame + 10 if stamped else 0
        assert {(s.media_start, s.depth, s.samples) for s in timeline.sounds} == {(first, 24, span.samples(48000))}
    whole = timeline_of(video, timing, files[:1])
    assert (whole.sounds[0].first, whole.media_start) == (0, timing.start.frame)
