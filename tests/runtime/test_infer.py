"""The command line: what it writes, and that bad input gives one line of advice and leaves no files."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime import MediaError, Progress
from runtime.commands import outputs
from runtime.commands.show_progress import Reporter
from runtime.deliver.delivery import at_rate
from runtime.infer import main
from runtime.video import Video
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest
from tests.support.media import Picture, Sound, steady, write_video
from tests.support.paths import ROOT
from tests.support.takes import make_take

pytestmark = NEEDS_ORT
SAMPLES = 105840  # of the 2.4 s video


@pytest.fixture
def folder(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """A folder of the test's own with video.mp4, 2.4 s: two windows."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(make_video(), folder / "video.mp4")
    return folder


@pytest.fixture
def run(bundles: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """run(*arguments) runs the command in `folder` with a fake bundle. Of two equal flags the last one counts."""
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> int:
        return main(["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "2", *arguments])

    return call


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def read_wav(path: Path) -> tuple[int, np.ndarray]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)


def picture_packets(path: Path) -> list[tuple[bytes, Fraction, Fraction]]:
    with av.open(str(path)) as container:
        return [(bytes(p), p.pts * p.time_base, p.dts * p.time_base) for p in container.demux(video=0) if p.size]


# ---------------------------------------------------------------- what is written
def test_wav_beside_the_video(run: Callable[..., int], folder: Path) -> None:
    before = snapshot(folder)
    assert run("video.mp4") == 0
    rate, audio = read_wav(folder / "video.wav")
    assert (rate, len(audio)) == (44100, SAMPLES)
    assert audio.any()
    after = snapshot(folder)
    assert after.pop("video.wav") and after == before  # nothing else, and the video is as it was


def test_named_outputs_in_other_folders(run: Callable[..., int], folder: Path) -> None:
    (folder / "out").mkdir()
    assert run("video.mp4", "-o", "out/sound.WAV", "--mux", "out/film.mkv", "--report", "out/report.json") == 0
    assert {p.name for p in folder.iterdir()} == {"video.mp4", "out"}
    assert {p.name for p in (folder / "out").iterdir()} == {"sound.WAV", "film.mkv", "report.json"}


def test_mux_beside_the_video_with_the_same_picture(run: Callable[..., int], folder: Path) -> None:
    assert run("video.mp4", "--mux") == 0
    assert {p.name for p in folder.iterdir()} == {"video.mp4", "video.wav", "video.sound.mp4"}
    assert picture_packets(folder / "video.sound.mp4") == picture_packets(folder / "video.mp4")
    with av.open(str(folder / "video.sound.mp4")) as film:
        decoded = sum(frame.samples for frame in film.decode(audio=0))
    assert decoded >= SAMPLES


def test_the_video_is_not_opened_again_to_find_its_start(
    run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that starts late: the take knows when, and the copy's sound starts there."""
    opened, init = [], Video.__init__

    def counted(self: Video, path: Path, *rest: Any) -> None:
        opened.append(path)
        init(self, path, *rest)

    times = [Fraction(3, 10) + time for time in steady(20, 10)]
    late = write_video(folder / "late.mkv", Picture(times, last=Fraction(1, 10)))
    with Video(late) as video:
        assert video.start == Fraction(3, 10)
    monkeypatch.setattr(Video, "__init__", counted)
    assert run("late.mkv", "--mux") == 0
    assert opened == [Path("late.mkv")]
    with av.open(str(folder / "late.sound.mkv")) as film:
        first = next(film.decode(audio=0))
    assert first.pts * first.time_base == pytest.approx(0.3, abs=0.001)


def test_an_existing_track_is_replaced_or_kept(run: Callable[..., int], folder: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 88200)).astype(np.float32)
    write_video(folder / "loud.mp4", Picture(steady(20, 10), last=Fraction(1, 10)), Sound(noise, 44100, "aac"))
    assert run("loud.mp4", "--mux") == 0
    assert run("loud.mp4", "--mux", "kept.mp4", "--existing", "keep", "--overwrite") == 0
    tracks = []
    for name in ("loud.sound.mp4", "kept.mp4"):
        with av.open(str(folder / name)) as film:
            tracks.append(len(film.streams.audio))
    assert tracks == [1, 2]


def test_takes_and_report(run: Callable[..., int], folder: Path) -> None:
    assert run("video.mp4", "--candidates", "3", "--takes", "3", "--report", "r.json", "--seed", "9") == 0
    names = ["video.wav", "video.take2.wav", "video.take3.wav"]
    assert {p.name for p in folder.iterdir()} == {"video.mp4", "r.json", *names}
    report = json.loads((folder / "r.json").read_text())
    assert [t["file"] for t in report["takes"]] == names
    scores = [t["score"] for t in report["takes"]]
    assert scores == sorted(scores) and len(set(scores)) == 3
    assert report["sampling"] | {"seed": 9, "steps": 2, "candidates": 3, "takes": 3} == report["sampling"]
    assert report["outputs"] == [*names, "r.json"]
    assert (report["samples"], report["rate"], report["windows"]) == (SAMPLES, 44100, 2)
    assert set(report["engines"]) >= {"step", "condition", "codec_decoder"}
    assert all(len(e["sha256"]) == 64 for e in report["engines"].values())
    assert len({read_wav(folder / name)[1].tobytes() for name in names}) == 3


@pytest.mark.parametrize(("frames", "fps"), [(60, "25"), (1, "30000/1001"), (44, "30000/1001"), (13, "24000/1001")])
def test_48_khz_is_as_long_as_the_picture_too(run: Callable[..., int], folder: Path, frames: int, fps: str) -> None:
    rate = Fraction(fps)
    write_video(folder / "x.mp4", Picture(steady(frames, rate), last=1 / rate))
    assert run("x.mp4", "--rate", "48000") == 0
    got, audio = read_wav(folder / "x.wav")
    # the test file counts time in 1/90000 s
    assert (got, len(audio)) == (48000, round(Fraction(round(frames / rate * 90000), 90000) * 48000))


def test_the_rate_of_the_codec_needs_no_copy() -> None:
    sound = np.ones(44100, np.float32)
    take = make_take(sound)
    assert at_rate(take.audio, take.sample_rate, take.duration, 44100) is sound
    assert at_rate(take.audio, take.sample_rate, take.duration, 48000).shape == (48000,)


def test_same_seed_same_bytes(run: Callable[..., int], folder: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("video.mp4", "-o", f"{name}.wav", "--mux", f"{name}.mp4", "--seed", str(seed)) == 0
    a, b, c = ([(folder / f"{name}.{kind}").read_bytes() for kind in ("wav", "mp4")] for name in "abc")
    assert a == b
    assert a[0] != c[0] and a[1] != c[1]


def test_overwrite(run: Callable[..., int], folder: Path) -> None:
    (folder / "video.wav").write_bytes(b"old")
    assert run("video.mp4", "--overwrite") == 0
    assert len(read_wav(folder / "video.wav")[1]) == SAMPLES


def test_odd_names(run: Callable[..., int], folder: Path) -> None:
    name = "Ünï cødé 'quoted' %d #1.v2.mp4"
    shutil.copy(folder / "video.mp4", folder / name)
    assert run(name, "--mux") == 0
    assert (folder / "Ünï cødé 'quoted' %d #1.v2.wav").is_file()
    assert (folder / "Ünï cødé 'quoted' %d #1.v2.sound.mp4").is_file()


# ---------------------------------------------------------------- progress
def test_progress_as_json_lines(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("video.mp4", "--progress", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * (len(lines) - 1) + ["done"]
    fractions = [line["fraction"] for line in lines[:-1]]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert set(lines[0]) == {"event", "stage", "window", "step", "steps", "fraction"}
    assert lines[-1]["report"]["outputs"] == ["video.wav"]


def test_errors_as_json_lines(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "text.mp4").write_text("This is not a film.")
    cases = {"text.mp4": "media_error", "video.mp4 --steps 0": "option_error", "video.mp4 --steps x": "usage_error",
             "video.mp4 --engines nowhere": "manifest_error", "video.mp4 text.mp4": "usage_error"}  # fmt: skip
    for words, code in cases.items():
        try:
            status = run(*words.split(), "--progress", "json")
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        event = json.loads(out)
        assert (event["event"], event["code"]) == ("error", code) and event["message"] in err
        assert status == (2 if code == "usage_error" else 1)


def test_progress_as_a_bar(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("video.mp4", "--progress", "bar") == 0
    out, err = capsys.readouterr()
    assert out == "" and "100%" in err and err.startswith("\r[") and err.endswith("\r\x1b[K")


def test_quiet_without_a_terminal(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("video.mp4") == 0
    assert capsys.readouterr() == ("", "")


def test_help_shows_defaults_and_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(["--help"])
    assert info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in (
        "-o --engines --backend --steps --guidance --diversity --seed --candidates --takes --rate --mux --report "
        "--overwrite --progress --debug --budget --schedule --guidance-from --guidance-until"
    ).split():
        assert flag in text
    assert text.startswith("usage: python -m runtime.infer video [options]") and "give the video first" in text
    assert "(default: None)" not in text
    for words in ("1 to 1024 (default: 32)", "to 100 (default: 3.0)", "1 to 256 (default: 1)", "(default: 44100)"):
        assert words in text


# ---------------------------------------------------------------- refusals
@pytest.fixture
def refused(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refused(*arguments) -> the one line on stderr; nothing was written or changed."""

    def call(*arguments: str) -> str:
        before = snapshot(folder)
        assert run(*arguments) == 1
        assert snapshot(folder) == before
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err, err
        return err

    return call


def make_bad_videos(folder: Path) -> None:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is not a film.\n" * 50)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(50_000))
    (folder / "folder.mp4").mkdir()
    sound = Sound(np.zeros((1, 44100), np.float32), 44100, "aac")
    write_video(folder / "audio.m4a", None, sound, format="mp4")
    bare = write_video(folder / "bare.mp4", Picture(steady(9, 25)), container_options={"movflags": "faststart"})
    data = bare.read_bytes()
    bare.write_bytes(data[: data.index(b"mdat") + 8])  # an index, and nothing of what it points to
    whole = (folder / "video.mp4").read_bytes()
    (folder / "no_index.mp4").write_bytes(whole[: len(whole) // 4])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp4", "no such file"),
        ("folder.mp4", "is a folder"),
        (".", "is a folder"),
        ("/", "is a folder"),
        ("", "is a folder"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "not a video"),
        ("noise.mp4", "not a video"),
        ("no_index.mp4", "without its index"),
        ("audio.m4a", "sound but no picture"),
        ("bare.mp4", "no frame"),
        ("x" * 300 + ".mp4", "name"),
        ("video.mp4/x.mp4", "video.mp4/x.mp4"),
    ],
)
def test_bad_videos(refused: Callable[..., str], folder: Path, name: str, words: str) -> None:
    make_bad_videos(folder)
    assert words in refused(name, "-o", "out.wav", "--mux", "out.mp4")


OPTIONS = {
    "--steps 0": "steps is 0; it must be a whole number from 1 to 1024",
    "--max-duration 0": "max-duration is 0.0; it must be a number of seconds above 0",
    "--max-duration nan": "max-duration is nan; it must be a number of seconds above 0",
    "--max-duration 1": "and at most 1 s is allowed; cut it, or raise the limit (--max-duration, in seconds)",
    "--steps 1025": "steps is 1025",
    "--guidance -1": "guidance is -1.0; it must be a number from 0 to 100",
    "--guidance nan": "guidance is nan",
    "--diversity -0.5": "diversity is -0.5",
    "--diversity inf": "diversity is inf",
    "--seed -1": "seed is -1",
    "--candidates 0": "candidates is 0",
    "--takes 2": "takes is 2; it must be a whole number from 1 to 1",
    "--candidates 4 --budget 4,1": "budget is (4, 1); it must be falling whole numbers such as (4, 1), below",
    "--candidates 4 --budget two": "budget is 'two'; give falling whole numbers separated by commas, such as 4,1",
    "--guidance-from 0.5 --guidance-until 0.2": "guidance_until is 0.2; it must be a number from 0.5 to 1",
    "--threads -1": "threads is -1; it must be a whole number from 0 to 1024",
    "--threads 100000": "threads is 100000",
    "-o video.mp3": "video.mp3 is not a .wav or .flac file; for a video with sound use --mux",
    "--mux out.xyz": ".mp4",
    "--mux out": "suffix",
    "--mux video.mp4 --overwrite": "cannot write video.mp4: it is the video itself",
    "--report video.wav": "video.wav is named twice",
    "-o nowhere/x.wav": "the folder nowhere does not exist",
    "--mux nowhere/x.mp4": "the folder nowhere does not exist",
    "-o folder.wav": "is a folder",
    "--engines nowhere": "no bundle in nowhere",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_bad_options(refused: Callable[..., str], folder: Path, options: str) -> None:
    (folder / "folder.wav").mkdir()
    assert OPTIONS[options] in refused("video.mp4", *options.split())


@pytest.mark.parametrize(
    "arguments",
    ["", "video.mp4 --backend tpu", "video.mp4 --rate 8000", "video.mp4 --steps many", "video.mp4 --colour red"],
)
def test_what_argparse_refuses(run: Callable[..., int], folder: Path, arguments: str) -> None:
    before = snapshot(folder)
    with pytest.raises(SystemExit) as info:
        run(*arguments.split())
    assert info.value.code == 2
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", ["video.wav", "video.take2.wav", "film.mp4", "r.json"])
def test_existing_outputs_are_kept(refused: Callable[..., str], folder: Path, name: str) -> None:
    (folder / name).write_text("precious")
    options = ["--candidates", "2", "--takes", "2", "--mux", "film.mp4", "--report", "r.json"]
    assert f"{name} exists; give --overwrite" in refused("video.mp4", *options)


def test_folder_without_permission(refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr(outputs.os, "access", lambda path, mode: Path(path).name != "closed")
    assert "no permission to write in closed" in refused("video.mp4", "-o", "closed/x.wav")
    closed.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_folder_that_takes_no_files(refused: Callable[..., str]) -> None:
    assert "cannot write" in refused("video.mp4", "-o", "/proc/x.wav")


FOUR_FILES = ("--candidates", "2", "--takes", "2", "--mux", "film.mp4", "--report", "r.json")


class Calls:
    """os.replace and os.link, of which one call fails: before it, or right after it."""

    def __init__(self, call: int, error: BaseException, after: bool) -> None:
        self.call, self.error, self.after = call, error, after
        self.calls, self.originals = 0, {"replace": os.replace, "link": os.link}

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in self.originals:
            monkeypatch.setattr(os, name, partial(self.do, name))

    def do(self, name: str, *arguments: object, **options: object) -> None:
        self.calls += 1
        if self.calls == self.call and not self.after:
            raise self.error
        self.originals[name](*arguments, **options)
        if self.calls == self.call:
            raise self.error


@pytest.mark.parametrize("overwrite", [False, True])
def test_disk_full(
    refused: Callable[..., str],
    run: Callable[..., int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overwrite: bool,
) -> None:
    """Whichever call of os.replace and os.link fails: no new output is left, and existing files are kept."""
    arguments = ["video.mp4", *FOUR_FILES, *["--overwrite"] * overwrite, "--steps", "1"]
    for name in ("video.wav", "video.take2.wav", "film.mp4", "r.json") if overwrite else ():
        (folder / name).write_text("precious")
    call = 0
    while True:
        call += 1
        for error, after in ((OSError(errno.ENOSPC, "No space left on device"), False), (KeyboardInterrupt(), True)):
            before, calls = snapshot(folder), Calls(call, error, after)
            calls.patch(monkeypatch)
            asides = range(5, 13, 2) if overwrite and not after else ()  # a link that fails is a rename instead
            if call > (12 if overwrite else 8):  # 4 are written, 4 old ones set aside, 4 given their names
                assert run(*arguments) == 0 and calls.calls == call - 1
                monkeypatch.undo()
                return
            if call in asides:
                assert run(*arguments) == 0 and calls.calls == 13
                for name in ("video.wav", "video.take2.wav", "film.mp4", "r.json"):
                    (folder / name).write_text("precious")
            elif after:
                assert run(*arguments) == 130 and snapshot(folder) == before
                assert capsys.readouterr().err == "stopped; nothing was written\n"
            else:
                message = refused(*arguments)
                assert "cannot write" in message and "space" in message and ".maskvat" not in message
            for name, original in calls.originals.items():
                monkeypatch.setattr(os, name, original)


def test_links_that_lead_nowhere_come_back(
    refused: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "video.wav").symlink_to("gone.wav")
    Calls(8, OSError(errno.EIO, "Input/output error"), False).patch(monkeypatch)
    assert "Input/output error" in refused("video.mp4", *FOUR_FILES, "--overwrite")
    assert os.readlink(folder / "video.wav") == "gone.wav"


@pytest.mark.parametrize("what", ["altered", "truncated", "missing", "newer", "no manifest"])
def test_bad_bundle(refused: Callable[..., str], own_bundle: Path, what: str) -> None:
    step = own_bundle / "step.onnx"
    if what == "altered":
        step.write_bytes(step.read_bytes().replace(b"Mul", b"Add", 1))
    elif what == "truncated":
        step.write_bytes(step.read_bytes()[:100])
    elif what == "missing":
        step.unlink()
    elif what == "newer":
        rewrite_manifest(own_bundle, lambda m: m.update(contract_version=99))
    else:
        (own_bundle / "manifest.json").unlink()
    message = refused("video.mp4", "--engines", str(own_bundle))
    assert str(own_bundle) in message and "`" in message
    assert ("manifest.json" if what in ("newer", "no manifest") else "step.onnx") in message


def test_absent_backend(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "'cuda' is not available" in refused("video.mp4", "--backend", "cuda")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install" in refused("video.mp4", "--backend", "auto")


def test_debug_shows_the_traceback(run: Callable[..., int]) -> None:
    with pytest.raises(MediaError):
        run("missing.mp4", "--debug")


# ---------------------------------------------------------------- Ctrl-C
@pytest.fixture
def listening() -> Iterator[None]:
    """Shells start background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("when", ["at once", "sampling", "writing"])
def test_ctrl_c(
    run: Callable[..., int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    def update(self: Reporter, progress: Progress) -> None:
        if when == "at once" or progress.stage == "sample":
            interrupt()

    if when == "writing":
        monkeypatch.setattr(outputs, "mux", interrupt)
    else:
        monkeypatch.setattr(Reporter, "update", update)
    (folder / "video.wav").write_text("precious")
    before = snapshot(folder)
    assert run("video.mp4", "--mux", "--overwrite") == 130
    assert snapshot(folder) == before
    assert capsys.readouterr().err == "stopped; nothing was written\n"


# ---------------------------------------------------------------- as a user calls it
def command(bundle: Path, *arguments: str) -> list[str]:
    options = ["--engines", str(bundle), "--backend", "cpu", "--threads", "1", *arguments]
    return [sys.executable, "-m", "runtime.infer", *options]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def test_command(bundles: Callable[..., Path], folder: Path) -> None:
    line = command(bundles(), "video.mp4", "--steps", "2", "--mux")
    result = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr.splitlines()[:2] == ["video.wav", "video.sound.mp4"]
    assert len(read_wav(folder / "video.wav")[1]) == SAMPLES


@pytest.mark.parametrize("name", ["text.mp4", "noise.mp4", "no_index.mp4"])
def test_command_refuses_in_one_line(bundles: Callable[..., Path], folder: Path, name: str) -> None:
    """The libraries must not print lines of their own."""
    make_bad_videos(folder)
    before = snapshot(folder)
    result = subprocess.run(
        command(bundles(), name), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert snapshot(folder) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on the size of files")
def test_command_when_writing_fails(bundles: Callable[..., Path], folder: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    before = snapshot(folder)
    line = command(bundles(), "video.mp4", "--steps", "1", "--mux")
    result = subprocess.run(
        line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot write video.wav") and result.stderr.count("\n") == 1, result.stderr
    assert snapshot(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
@pytest.mark.parametrize("option", ["json", "bar"])
def test_command_whose_reader_goes_away(bundles: Callable[..., Path], folder: Path, option: str) -> None:
    before, read = snapshot(folder), "stdout" if option == "json" else "stderr"
    line = command(bundles(), "video.mp4", "--steps", "200", "--progress", option)
    with subprocess.Popen(
        line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        closed, other = process.stdout, process.stderr
        if read == "stderr":
            closed, other = other, closed
        assert closed is not None and other is not None
        assert closed.read(1)
        closed.close()
        assert other.read() == b""
        assert process.wait(60) == 1
    assert snapshot(folder) == before


@pytest.mark.usefixtures("listening")
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_command_stops_at_ctrl_c(bundles: Callable[..., Path], folder: Path) -> None:
    before = snapshot(folder)
    line = command(bundles(), "video.mp4", "--steps", "1024", "--candidates", "8", "--progress", "json")
    with subprocess.Popen(
        line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if json.loads(text)["stage"] == "sample":
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "stopped; nothing was written\n"
    last = json.loads(out.splitlines()[-1])
    assert last == {"event": "error", "code": "stopped", "message": err.strip()} and '"done"' not in out
    assert snapshot(folder) == before
