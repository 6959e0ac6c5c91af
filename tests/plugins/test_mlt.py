"""What Shotcut and Kdenlive get: timelines of the real command, played by melt, exact to the frame and sample."""

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engines.contract import FloatArray
from runtime.audio import read_audio
from runtime.edit.timecode import frame_samples
from runtime.infer import main
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import STEP, level, write_timed
from tests.support.melt import render, render_picture

pytestmark = [NEEDS_ORT, pytest.mark.host]
FRAMES, USED = 60, (10, 40)
SPANS = {"whole": (0, FRAMES), "range": USED}
CASES = [
    *((Fraction(rate), "range", ".mlt") for rate in ("24000/1001", "25", "30000/1001", "50", "60000/1001")),
    *((Fraction(rate), "range", ".otio") for rate in ("25", "30000/1001")),
    (Fraction(30000, 1001), "whole", ".mlt"),
]

Make = Callable[[Fraction, str, str], Path]


@pytest.fixture
def make(tmp_path: Path, bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(rate, span, suffix) -> a timeline of two takes, a.wav and a.take2.wav, for 60 numbered frames."""
    folder = tmp_path / "Täkes & <cuts> 100%"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(rate: Fraction, span: str, suffix: str) -> Path:
        write_timed(folder / "a b.mov", rate, "01:00:00:00", FRAMES)
        options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "2", "-o", "a.wav"]
        options += ["--range", f"{USED[0]}f-{USED[1]}f"] if span == "range" else []
        options += ["--candidates", "2", "--takes", "2", "--rate", "48000", "--timeline", f"x{suffix}"]
        assert main(["a b.mov", *options]) == 0
        return folder / f"x{suffix}"

    return call


def mlt_of_otio(path: Path) -> Path:
    """An .otio file as MLT. Its frames are read by OpenTimelineIO; every number comes from there."""
    otio = pytest.importorskip("opentimelineio", reason="needs opentimelineio: pip install '.[test]'")
    timeline = otio.adapters.read_from_file(str(path))
    root, tractor = ET.Element("mlt"), ET.Element("tractor", id="all")
    rate = Fraction(timeline.tracks[0][0].source_range.duration.rate).limit_denominator(1001)
    ET.SubElement(root, "profile", width="64", height="48", frame_rate_num=str(rate.numerator),
                  frame_rate_den=str(rate.denominator), sample_aspect_num="1", sample_aspect_den="1",
                  display_aspect_num="4", display_aspect_den="3", colorspace="601", progressive="1")  # fmt: skip
    for n, track in enumerate(timeline.tracks):
        playlist = ET.Element("playlist", id=f"track{n}")
        for k, child in enumerate(track):
            length = int(child.source_range.duration.value)
            if isinstance(child, otio.schema.Gap):
                ET.SubElement(playlist, "blank", length=str(length))
                continue
            media = child.media_reference
            first = int((child.source_range.start_time - media.available_range.start_time).value)
            producer = ET.SubElement(root, "producer", id=f"media{n}-{k}")
            ET.SubElement(producer, "property", name="resource").text = media.target_url
            span = {"in": str(first), "out": str(first + length - 1)}
            ET.SubElement(playlist, "entry", producer=f"media{n}-{k}", **span)
        root.append(playlist)
        ET.SubElement(tractor, "track", producer=f"track{n}", hide="audio" if track.kind == "Video" else "video")
        if n:
            mix = ET.SubElement(tractor, "transition")
            for name, value in (("mlt_service", "mix"), ("a_track", 0), ("b_track", n), ("sum", 1)):
                ET.SubElement(mix, "property", name=name).text = str(value)
    root.append(tractor)
    ET.ElementTree(root).write(out := path.parent.with_name("from_otio.mlt"), encoding="utf-8")
    return out


def alone(timeline: Path, take: int) -> Path:
    """The timeline with only one of its two takes to hear."""
    tree = ET.parse(timeline)
    tracks = [t for t in tree.getroot().findall("tractor/track") if t.get("hide") == "video"]
    assert len(tracks) == 2
    tracks[2 - take].set("hide", "both")
    tree.write(out := timeline.with_name(f"take{take}.mlt"), encoding="utf-8")
    return out


def playable(timeline: Path) -> Path:
    """The timeline as an .mlt file with a plain name: melt takes no % in its arguments."""
    if timeline.suffix == ".otio":
        return mlt_of_otio(timeline)
    return Path(shutil.copy(timeline, timeline.parent.with_name("plain.mlt")))


def heard(timeline: Path) -> FloatArray:
    render(timeline, out := timeline.with_name("heard.wav"))
    return read_audio(out, 48000)


@pytest.mark.parametrize(("rate", "span", "suffix"), CASES)
def test_every_take_is_at_its_frame_to_the_sample(make: Make, rate: Fraction, span: str, suffix: str) -> None:
    timeline = make(rate, span, suffix)
    sounds = [read_audio(timeline.with_name(name), 48000) for name in ("a.wav", "a.take2.wav")]
    assert sounds[0].any() and not np.array_equal(*sounds)
    first, end = SPANS[span]
    assert {len(sound) for sound in sounds} == {frame_samples(end - first, rate, 48000)}
    begin = int(Fraction(first * 48000) / rate)  # MLT cuts at whole samples before the frame's time
    timeline = playable(timeline)
    for take, sound in enumerate(sounds, 1):
        played = heard(alone(timeline, take))
        assert not played[:begin].any() and not played[begin + len(sound) :].any()
        assert np.array_equal(played[begin : begin + len(sound)], sound)  # 0 differing samples
    both = heard(timeline)[begin : begin + len(sounds[0])]
    assert np.abs(both - np.clip(sounds[0] + sounds[1], -1, 1)).max() <= 1.01 / 32768


@pytest.mark.parametrize("suffix", [".mlt", ".otio"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)], ids=str)
def test_the_picture_is_whole_and_in_order(make: Make, rate: Fraction, suffix: str) -> None:
    timeline = playable(make(rate, "range", suffix))
    render_picture(timeline, out := timeline.with_name("seen.mkv"))
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == rate
        seen = [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]
    made = [level(n) for n in range(FRAMES)]
    slope, offset = np.polyfit(made, seen, 1)  # players convert colours in ways of their own
    assert abs(slope - 1) < 0.1 and np.abs(slope * np.array(made) + offset - seen).max() < STEP / 2
