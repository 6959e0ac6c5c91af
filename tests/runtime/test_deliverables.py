"""Deliverables on the command line: each flag on real media, and every option checked before any work begins."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.audio import read_audio
from runtime.deliver.loudness import measure_loudness
from runtime.infer import main
from runtime.pipeline import Pipeline
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, Sound, steady, write_timed, write_video
from tests.support.melt import render
from tests.support.paths import ROOT

pytestmark = NEEDS_ORT
RATE = Fraction(30000, 1001)
FRAMES = 60
SAMPLES = round(FRAMES / RATE * 44100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with video.mov: 60 frames of 29.97 per second from 01:00:00;00 on, with sound of its own."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(FRAMES / RATE * 48000)) / 48000)
    sound = Sound(tone[None].astype(np.float32), 48000, "pcm_s16le")
    write_timed(tmp_path / "video.mov", RATE, "01:00:00;00", FRAMES, sound=sound)
    return tmp_path


@pytest.fixture
def run(bundles: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """run(*arguments) runs the command in `folder` with a fake bundle."""
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> int:
        options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "2"]
        return main(["video.mov", *options, *arguments])

    return call


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


# ---------------------------------------------------------------- what is written
def test_loudness_is_always_in_the_report(run: Callable[..., int], folder: Path) -> None:
    assert run("--report", "r.json", "--candidates", "2", "--takes", "2") == 0
    report = read_json(folder / "r.json")
    for n, name in enumerate(("video.wav", "video.take2.wav")):
        found = report["takes"][n]["loudness"]
        audio = read_audio(folder / name, 44100)
        assert found["integrated"] == pytest.approx(measure_loudness(audio, 44100).integrated, abs=0.05)
        assert found["true_peak"] == pytest.approx(measure_loudness(audio, 44100).true_peak, abs=0.05)
        assert report["loudness"][n] == found and found["dual_mono"] is True
    assert "start_timecode" not in report


def test_broadcast_wav_of_24_bits(run: Callable[..., int], folder: Path) -> None:
    options = "--bwf --bits 24 --rate 48000 --channels 2 --report r.json --candidates 2 --takes 2"
    assert run("-o", "x.wav", *options.split()) == 0
    report = read_json(folder / "r.json")
    assert (report["frame_rate"], report["start_timecode"]) == ("30000/1001", "01:00:00;00")
    for n, name in enumerate(("x.wav", "x.take2.wav")):
        with av.open(str(folder / name)) as container:
            stream, tags = container.streams.audio[0], container.metadata
            assert (stream.codec_context.name, stream.rate, stream.channels) == ("pcm_s24le", 48000, 2)
        assert tags["time_reference"] == "172799827" and "seed=0" in tags["coding_history"]
        entry = report["takes"][n]
        assert (entry["time_reference"], entry["samples"]) == (172799827, round(FRAMES / RATE * 48000))
        assert (entry["bits"], entry["channels"], entry["rate"]) == ("24", 2, 48000)


def test_flac_by_suffix(run: Callable[..., int], folder: Path) -> None:
    assert run("-o", "x.flac", "--bits", "24", "--candidates", "2", "--takes", "2") == 0
    assert run("-o", "x.wav", "--bits", "24") == 0
    assert {"x.flac", "x.take2.flac"} <= names(folder)
    assert np.array_equal(read_audio(folder / "x.flac", 44100), read_audio(folder / "x.wav", 44100))


def test_levels(run: Callable[..., int], folder: Path) -> None:
    assert run("-o", "plain.wav", "--bits", "float") == 0
    assert run("-o", "gain.wav", "--bits", "float", "--gain", "-6") == 0
    assert run("-o", "fade.wav", "--bits", "float", "--fade", "100") == 0
    plain, gain, fade = (read_audio(folder / f"{name}.wav", 44100) for name in ("plain", "gain", "fade"))
    assert np.allclose(gain, plain * 10 ** (-6 / 20), rtol=1e-6)
    assert np.array_equal(fade[4410:-4410], plain[4410:-4410]) and abs(fade[0]) <= abs(plain[0]) * 1e-3
    assert run("-o", "lufs.wav", "--lufs", "-23", "--report", "r.json") == 0
    entry = read_json(folder / "r.json")["takes"][0]
    found = measure_loudness(read_audio(folder / "lufs.wav", 44100), 44100)
    limited = entry["gain"]["set_by"] == "peak"
    assert found.true_peak < -0.9
    assert found.integrated == pytest.approx(entry["loudness"]["integrated"] if limited else -23, abs=0.1)


def test_a_mix_has_the_own_sound_and_the_muxed_video_has_the_mix(run: Callable[..., int], folder: Path) -> None:
    assert run("-o", "plain.wav", "--bits", "float") == 0
    assert run("-o", "mix.wav", "--bits", "float", "--mix", "-12", "--mux", "film.mkv") == 0
    plain, mix = (read_audio(folder / f"{name}.wav", 44100) for name in ("plain", "mix"))
    own = read_audio(folder / "video.mov", 44100)
    length = min(len(mix), len(own))
    assert np.abs(mix[:length] - own[:length] - plain[:length] * 10 ** (-12 / 20)).max() < 1e-5
    film = read_audio(folder / "film.mkv", 44100)
    assert np.abs(film[:length] - np.clip(mix[:length], -1, 1)).max() <= 1 / 32768


@pytest.mark.parametrize("suffix", [".otio", ".mlt", ".xml", ".fcpxml", ".lua"])
def test_a_timeline_names_the_files_where_they_end_up(run: Callable[..., int], folder: Path, suffix: str) -> None:
    assert (
        run("--timeline", f"t{suffix}", "--candidates", "2", "--takes", "2", "-o", "a b.wav", "--report", "r.json") == 0
    )
    text = (folder / f"t{suffix}").read_text(encoding="utf-8")
    space = "%20" if suffix in (".xml", ".fcpxml") else " "
    for name in ("video.mov", f"a{space}b.wav", f"a{space}b.take2.wav"):
        assert f"{folder}/{name}" in text
    assert ".maskvat-" not in text
    assert str(folder / f"t{suffix}") in [str(folder / p) for p in read_json(folder / "r.json")["outputs"]]
    if suffix == ".otio":
        assert json.loads(text)["global_start_time"] == {
            "OTIO_SCHEMA": "RationalTime.1", "rate": float(RATE), "value": 107892.0,
        }  # fmt: skip
    elif suffix != ".lua":
        assert ET.fromstring(text.encode()) is not None


def test_a_sidecar_beside_each_sound(run: Callable[..., int], folder: Path) -> None:
    assert run("--sidecar", "--candidates", "2", "--takes", "2", "--report", "r.json") == 0
    report = read_json(folder / "r.json")
    for n, name in enumerate(("video", "video.take2")):
        facts = read_json(folder / f"{name}.json")
        assert facts["takes"] == [report["takes"][n]] and facts["takes"][0]["file"] == f"{name}.wav"
        assert facts["sampling"] == report["sampling"]


def command(bundle: Path, *arguments: str) -> list[str]:
    options = ["--engines", str(bundle), "--backend", "cpu", "--threads", "1", "--steps", "2"]
    return [sys.executable, "-m", "runtime.infer", "video.mov", *options, *arguments]


def test_a_pipe_gets_the_bytes_of_the_file(bundles: Callable[..., Path], run: Callable[..., int], folder: Path) -> None:
    before = names(folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = {"cwd": folder, "env": environment, "capture_output": True, "check": True}
    result = subprocess.run(command(bundles(), "-o", "-", "--quiet"), **options)
    assert result.stderr == b"" or b"untrained" in result.stderr
    assert names(folder) == before
    assert run("-o", "x.wav") == 0
    assert result.stdout == (folder / "x.wav").read_bytes()
    stamped = subprocess.run(command(bundles(), "-o", "-", "--quiet", "--bwf", "--report", "r.json"), **options)
    assert stamped.stdout[12:16] == b"bext" and stamped.stdout.endswith(result.stdout[44:])
    entry = read_json(folder / "r.json")["takes"][0]
    assert (entry["file"], entry["time_reference"], entry["samples"]) == ("-", round(107892 * 44100 / RATE), SAMPLES)


def test_a_pipe_that_nobody_reads_leaves_nothing(bundles: Callable[..., Path], folder: Path) -> None:
    before = names(folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = command(bundles(), "-o", "-", "--quiet", "--report", "r.json", "--mux", "film.mkv")
    with subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(120) == 1
    assert names(folder) == before


# ---------------------------------------------------------------- checked before any work
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.mp3"], "x.mp3 is not a .wav or .flac file"),
        (["-o", "x.flac", "--bits", "float"], "FLAC holds 16 or 24 bits"),
        (["-o", "x.flac", "--bwf"], "a broadcast WAV (--bwf) is a WAV file"),
        (["--gain", "61"], "gain is 61.0; it must be a number from -120 to 60"),
        (["--gain", "nan"], "gain is nan"),
        (["--fade", "-1"], "fade is -1.0"),
        (["--lufs", "-23", "--gain", "3"], "gain and lufs both set the level"),
        (["--peak", "1"], "peak is 1.0; it must be a number from -60 to 0"),
        (["--timeline", "x.edl"], "x.edl; give a name that ends in .otio, .mlt, .xml, .fcpxml or .lua"),
        (["--timeline", "no/x.otio"], "the folder no does not exist"),
        (["--timeline", "t.otio", "--report", "t.otio"], "t.otio is named twice"),
        (["--sidecar", "--report", "video.json"], "video.json is named twice"),
        (["-o", "-", "--candidates", "2", "--takes", "2"], "--takes is 2, and a pipe takes one sound"),
        (["-o", "-", "--timeline", "x.otio"], "--timeline needs a sound file"),
        (["-o", "-", "--sidecar"], "--sidecar needs a sound file"),
        (["-o", "-", "--progress", "json"], "both write to standard output"),
    ],
)
def test_errors_before_any_work(
    run: Callable[..., int],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(Pipeline, "generate", lambda *_: pytest.fail("work has begun"))
    before = names(folder)
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert names(folder) == before


def test_a_mix_needs_sound_in_the_video(
    run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "generate", lambda *_: pytest.fail("work has begun"))
    (folder / "video.mov").unlink()
    write_video(folder / "video.mov", Picture(steady(5, 10)))
    assert run("--mix", "-12") == 1
    assert "video.mov has no sound to mix with; leave out --mix" in capsys.readouterr().err


def test_loudness_asked_of_silence_leaves_nothing(
    run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = Pipeline.generate

    def silent(self: Pipeline, *arguments: object, **options: object) -> list:
        takes = generate(self, *arguments, **options)
        takes[0].audio[:] = 0
        return takes

    monkeypatch.setattr(Pipeline, "generate", silent)
    before = names(folder)
    assert run("--lufs", "-23", "--mux", "film.mkv", "--timeline", "t.otio") == 1
    assert "cannot be brought to -23 LUFS: it is silent" in capsys.readouterr().err
    assert names(folder) == before


@pytest.mark.host
def test_melt_plays_what_the_command_wrote(run: Callable[..., int], folder: Path) -> None:
    assert run("-o", "x.wav", "--rate", "48000", "--timeline", "t.mlt") == 0
    out = folder / "out.wav"
    render(folder / "t.mlt", out)
    wanted, heard = read_audio(folder / "x.wav", 48000), read_audio(out, 48000)
    length = min(len(wanted), len(heard))
    assert abs(len(heard) - len(wanted)) <= 1 and np.array_equal(heard[:length], wanted[:length])
