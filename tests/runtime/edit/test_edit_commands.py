"""Ranges and takes on the command line: what is written, where it lies, and what is refused before any work."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import Take
from runtime.audio import read_audio
from runtime.deliver.levels import fade_ends
from runtime.infer import main
from runtime.pipeline import Pipeline
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Sound, write_timed

pytestmark = NEEDS_ORT
RATE = Fraction(30000, 1001)
FRAMES = 90
TONE = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(FRAMES / RATE * 48000)) / 48000).astype(np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, bundles: Callable[..., Path]) -> Path:
    """A folder with video.mov, 90 frames at 29.97 from 01:00:00;00 on with a tone, and take.npz of frames 20 to 75."""
    folder = tmp_path_factory.mktemp("original")
    sound = Sound(TONE[None], 48000, "pcm_s16le")
    write_timed(folder / "video.mov", RATE, "01:00:00;00", FRAMES, sound=sound)
    options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "3"]
    video = str(folder / "video.mov")
    assert (
        main([video, *options, "--range", "20f-75f", "--save", str(folder / "take.npz"), "-o", f"{folder}/x.wav"]) == 0
    )
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("video.mov", "take.npz"):
        shutil.copy(original / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(bundles: Callable[..., Path], folder: Path) -> Callable[..., int]:
    """run(arguments) runs the command in `folder` with a fake bundle."""

    def call(arguments: str) -> int:
        return main(
            ["video.mov", "--engines", str(bundles()), "--backend", "cpu", "--threads", "1", *arguments.split()]
        )

    return call


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_saved_take_has_the_sound_of_the_file(original: Path) -> None:
    take = Take.load(original / "take.npz")
    assert take.span is not None and take.span.frames == (20, 75)
    assert len(take.audio) == round(55 / RATE * 44100)
    written = read_audio(original / "x.wav", 44100)
    faded = fade_ends(take.audio, round(0.005 * 44100))  # 5 ms at both ends: it is a range
    assert np.abs(written - faded).max() <= 1 / 32768 and np.abs(written - take.audio).max() > 0.01


def test_all_units_name_the_same_range(run: Callable[..., int], folder: Path, original: Path) -> None:
    for text in ("20f-75f", "0.6673-2.5025", "01:00:00;20-01:00:02;15"):
        assert run(f"--steps 3 --range {text} --overwrite") == 0
        assert (folder / "video.wav").read_bytes() == (original / "x.wav").read_bytes()


def test_time_stamp_and_timeline_of_a_range(run: Callable[..., int], folder: Path) -> None:
    assert run("--steps 2 --range 20f-75f --bwf --rate 48000 --timeline t.mlt --report r.json") == 0
    with av.open("video.wav") as container:
        start = 3600 * 30 - 108  # frames since midnight of 01:00:00;00
        assert container.metadata["time_reference"] == str(round((start + 20) / RATE * 48000))
    report = json.loads((folder / "r.json").read_text())
    assert report["range"]["frames"] == [20, 75] and report["takes"][0]["samples"] == round(55 / RATE * 48000)
    assert report["samples"] == round(55 / RATE * 44100) and report["edit"] is None
    tracks = ET.parse("t.mlt").getroot().findall("playlist")
    blanks = [track.find("blank") for track in tracks]
    assert [blank.attrib["length"] for blank in blanks if blank is not None] == ["20"]


def test_mux_places_a_range_on_the_whole_video(run: Callable[..., int], folder: Path, original: Path) -> None:
    assert run("--steps 3 --range 20f-75f --mux x.mkv") == 0
    track, sound = read_audio("x.mkv", 44100), read_audio("video.wav", 44100)
    lead = round(20 / RATE * 44100)
    assert abs(len(track) - round(FRAMES / RATE * 44100)) <= 44
    assert np.array_equal(track[lead : lead + len(sound)], sound)
    assert not track[:lead].any() and not track[lead + len(sound) :].any()


def test_mux_with_a_mix_keeps_the_own_sound_outside(run: Callable[..., int], folder: Path) -> None:
    assert run("--steps 3 --range 20f-75f --mux x.mkv --mix -12 --gain -6 --bits float") == 0
    track, sound = read_audio("x.mkv", 44100), read_audio("video.wav", 44100)
    lead, gain = round(20 / RATE * 44100), 10 ** (-6 / 20)
    own = read_audio("video.mov", 44100)[: len(track)] * gain
    stop = lead + len(sound)
    assert np.abs(track[:lead] - own[:lead]).max() < 1e-4 and np.abs(track[stop:] - own[stop : len(track)]).max() < 1e-4
    inner = slice(lead + 250, stop - 250)
    assert np.abs(track[inner] - sound[250:-250]).max() < 1e-4  # apart from the ends, as in the sound file
    assert np.abs(sound[:2]).max() < 1e-3 and np.abs(track[lead - 9 : lead + 250]).max() > 0.04  # no fade of its own


def test_redo_vary_and_extend(run: Callable[..., int], folder: Path) -> None:
    old = Take.load("take.npz")
    assert run("--from take.npz --redo 0.5-1 --save redo.npz --report r.json") == 0
    new = Take.load("redo.npz")
    assert new.span == old.span and np.array_equal(new.codes[:, :43], old.codes[:, :43])
    assert np.array_equal(new.codes[:, 87:], old.codes[:, 87:]) and not np.array_equal(new.codes, old.codes)
    sampling = json.loads((folder / "r.json").read_text())["sampling"]
    assert (sampling["steps"], sampling["seed"]) == (3, 1)  # the take's, and its next seed
    assert run("--from take.npz --redo 0.5-1 --seed 7 --steps 2 --guidance 1 -o 7.wav --report 7.json") == 0
    sampling = json.loads((folder / "7.json").read_text())["sampling"]
    assert (sampling["steps"], sampling["seed"], sampling["guidance"]) == (2, 7, 1)
    assert run("--from take.npz --vary 0.3 --candidates 2 --takes 2 --save v.npz -o v.wav") == 0
    assert {"v.npz", "v.take2.npz", "v.wav", "v.take2.wav"} <= names(folder)
    assert 0.2 < np.mean(Take.load("v.take2.npz").codes != old.codes) < 0.31
    assert run("--from take.npz --redo 0.5-1 --vary 0.5 --save both.npz -o both.wav") == 0
    assert 0.4 < np.mean(Take.load("both.npz").codes[:, 43:87] != old.codes[:, 43:87]) < 0.6
    for options, frames in (("", (20, 90)), ("--range 20f-80f", (20, 80))):
        assert run(f"--from take.npz --extend {options} --save e.npz -o e.wav --overwrite") == 0
        longer = Take.load("e.npz")
        assert longer.span is not None and longer.span.frames == frames
        assert np.array_equal(longer.codes[:, : old.codes.shape[1]], old.codes)


def test_a_take_is_delivered_again_without_engines(folder: Path, original: Path) -> None:
    command = ["video.mov", "--engines", "nowhere", "--from", "take.npz"]
    assert main([*command, "--save", "copy.npz"]) == 0
    assert (folder / "video.wav").read_bytes() == (original / "x.wav").read_bytes()
    assert Take.load("copy.npz") == Take.load("take.npz")
    assert main([*command, "-o", "y.flac", "--bits", "24", "--fade", "0", "--mux", "y.mkv"]) == 0
    sound = read_audio("y.flac", 44100)
    assert np.abs(sound - Take.load("take.npz").audio).max() < 2**-22


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--range 1-9", "the range 1-9 is not inside the video; the video lasts 3.003 s (90 frames)"),
        ("--range 80f-20f", "the range 80f-20f ends before it begins"),
        ("--range 5-x", "5-x is not a range"),
        ("--range 01:00:00:00-01:00:01:00", "the video counts in drop frame"),
        ("--redo 1-2", "--redo needs a take to start from; give --from FILE.npz"),
        ("--extend", "--extend needs a take to start from"),
        ("--other-clip", "--other-clip needs a take to start from"),
        ("--from take.npz --extend --vary 0.5", "--extend cannot be combined with --redo or --vary"),
        ("--from take.npz --range 1-2", "the take of --from has a range of its own"),
        ("--from take.npz --seed 3", "--seed changes nothing in the take of --from"),
        ("--from take.npz --takes 2 --candidates 3", "--candidates changes nothing"),
        ("--from take.npz --redo 1-2", "the range 1-2 is not inside the take; the take lasts 1.835 s"),
        ("--from take.npz --vary 2", "share is 2.0; it must be a number from 0 to 1"),
        ("--from take.npz --vary 0", "share is 0; it must be above 0"),
        ("--from absent.npz --vary 0.5", "absent.npz is not a file; give a take that --save wrote"),
        ("--from video.mov --vary 0.5", "video.mov is not a take, or it is damaged"),
        ("--save take.zip", "cannot write the take take.zip; give a name that ends in .npz"),
        ("--save take.npz", "take.npz exists; give --overwrite"),
        ("--from take.npz --vary 0.5 --save take.npz --overwrite", "take.npz is named twice"),
        ("--range 0-1 --mux x.mkv --max-duration 2", "video.mov lasts 3.003 s or more, and at most 2 s is allowed"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    run: Callable[..., int],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.setattr("runtime.generation.Run.__call__", None)
    before = names(folder)
    assert run(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and error.count("\n") == 1
    assert names(folder) == before


def test_another_video_or_bundle_is_refused(
    run: Callable[..., int],
    bundles: Callable[..., Path],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    make_video: Callable[..., Path],
) -> None:
    shutil.copy(make_video(90, 30), "video.mov")
    for change in ("", "--vary 0.5"):
        assert run(f"--from take.npz {change}") == 1
        assert "the take was made for another video, video.mov (" in capsys.readouterr().err
    assert run("--from take.npz --vary 0.5 --other-clip") == 0
    other = ["video.mov", "--engines", str(bundles("adaln_b")), "--from", "take.npz", "--vary", "1", "--other-clip"]
    assert main([*other, "-o", "y.wav"]) == 1
    assert "give the folder of the first one with --engines" in capsys.readouterr().err


def test_the_video_is_timed_once(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict = {}
    generate = Pipeline.generate

    def spy(self: Pipeline, *args: object, **options: object) -> list[Take]:
        seen.update(options)
        monkeypatch.setattr("runtime.edit.plan.read_timing", None)
        return generate(self, *args, **options)

    monkeypatch.setattr(Pipeline, "generate", spy)
    assert run("--range 20f-40f --steps 2 --bwf") == 0
    assert seen["span"].frames == (20, 40) and seen["timing"].rate == RATE
