"""`--stream`: the sound is written while it is made, to a pipe or to a file that can be played at every moment."""

import io
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import DeliveryConfig, Take, deliver_take
from runtime.audio import read_audio
from runtime.commands import signals, streaming
from runtime.deliver.levels import fade_ends, fade_pieces
from runtime.deliver.streamed import GrowingWav, deliver_pieces
from runtime.infer import main
from runtime.media.wav import WavFormat, endless_header, growing_header, raw_samples
from runtime.pipeline import Pipeline
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video
from tests.support.paths import ROOT
from tests.support.takes import make_take

pytestmark = NEEDS_ORT
CHUNK = 36
PIECE = CHUNK * 512  # samples
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """4.6 s: four windows of a fake bundle."""
    path = tmp_path_factory.mktemp("clip") / "x.mp4"
    return write_video(path, Picture(steady(46, 10), last=Fraction(1, 10))).read_bytes()


@pytest.fixture
def folder(tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "video.mp4").write_bytes(clip)
    monkeypatch.chdir(tmp_path)
    for module in ("context", "generation"):
        monkeypatch.setattr(f"runtime.{module}.CODEC_CHUNK", CHUNK)
    return tmp_path


@pytest.fixture
def options(bundles: Callable[..., Path]) -> list[str]:
    return ["video.mp4", "--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "2"]


@pytest.fixture
def run(options: list[str], folder: Path) -> Callable[..., int]:
    """run(*arguments) runs the command in `folder` with a fake bundle."""
    return lambda *arguments: main([*options, *arguments])


@pytest.fixture
def piped(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """piped(*arguments) gives what the command writes to standard output."""

    def call(*arguments: str) -> bytes:
        data = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(data))
            assert run("-o", "-", *arguments) == 0
            return data.getvalue()

    return call


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def data_of(path: Path) -> bytes:
    """The samples of a WAV file, as the standard library reads it."""
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes())


# ---------------------------------------------------------------- bytes
@pytest.mark.parametrize("fade", [0, 1, 100, 999])
@pytest.mark.parametrize("length", [1, 2, 150, 1000, 3001])
def test_fades_of_pieces_are_those_of_the_whole(fade: int, length: int) -> None:
    audio = RNG.uniform(-1, 1, length).astype(np.float32)
    for size in (1, 70, 1500):
        pieces = [audio[n : n + size].copy() for n in range(0, length, size)]
        assert np.array_equal(np.concatenate(list(fade_pieces(pieces, fade))), fade_ends(audio, fade))


@pytest.mark.parametrize("config", [{}, {"gain": -6.0}, {"gain": 3.0, "fade": 40.0}], ids=str)
@pytest.mark.parametrize("is_part", [False, True])
def test_levels_of_pieces_are_those_of_the_whole(config: dict, is_part: bool) -> None:
    take, wanted = make_take(RNG.uniform(-1, 1, 30000).astype(np.float32)), DeliveryConfig(**config)
    pieces = deliver_pieces(np.split(take.audio, [9000, 20000]), wanted, 44100, is_part)
    span = (Fraction(0), Fraction(1)) if is_part else None
    assert np.array_equal(np.concatenate(list(pieces)), deliver_take(take, wanted, span=span).audio)


@pytest.mark.parametrize("form", [WavFormat(44100), WavFormat(44100, "24"), WavFormat(48000, "float", 2)], ids=str)
def test_a_growing_file_can_be_read_after_each_piece(tmp_path: Path, form: WavFormat) -> None:
    path, audio, file = tmp_path / "x.wav", RNG.uniform(-1, 1, 1001).astype(np.float32), GrowingWav(form)
    for first, end in ((0, 333), (333, 334), (334, 1001)):
        file.add(path, audio[first:end])
        raw = b"".join(raw_samples(form, audio[:end]))
        content = path.read_bytes()
        assert int.from_bytes(content[4:8], "little") == len(content) - 8 and len(content) % 2 == 0
        assert content.startswith(growing_header(form, end) + raw)
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            assert stream.rate == form.rate and stream.channels == form.channels
            assert sum(f.samples for f in container.decode(stream)) == end
    assert file.seconds == 1001 / form.rate


@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_a_header_keeps_its_length_when_the_file_passes_its_limit(bits: str) -> None:
    form = WavFormat(44100, bits)
    headers = [growing_header(form, n, limit=10_000) for n in range(0, 20_000, 7)]
    assert {len(h) for h in headers} == {len(headers[0])}
    assert (headers[0][:4], headers[0][12:16]) == (b"RIFF", b"JUNK")
    assert (headers[-1][:4], headers[-1][12:16]) == (b"RF64", b"ds64")


# ---------------------------------------------------------------- a pipe
@pytest.mark.parametrize(
    "arguments",
    [[], ["--range", "0.3-3.7", "--gain", "-6"], ["--bits", "24", "--channels", "2", "--fade", "200"]],
    ids=" ".join,
)
def test_a_pipe_gets_the_samples_of_the_file(
    piped: Callable[..., bytes], run: Callable[..., int], folder: Path, arguments: list[str]
) -> None:
    assert run("-o", "whole.wav", *arguments) == 0
    whole, before = data_of(folder / "whole.wav"), names(folder)
    form = WavFormat(44100, "24" if "24" in arguments else "16", 2 if "24" in arguments else 1)
    assert piped("--stream", "pcm", *arguments) == whole
    found = piped("--stream", *arguments)
    assert found == endless_header(form) + whole and names(folder) == before
    with av.open(io.BytesIO(found)) as container:  # FFmpeg reads it up to its end
        assert sum(f.samples for f in container.decode(audio=0)) == len(whole) // form.block


def test_other_outputs_follow_the_sound(piped: Callable[..., bytes], run: Callable[..., int], folder: Path) -> None:
    assert run("-o", "whole.wav", "--report", "whole.json", "--mux", "whole.mp4") == 0
    sound = piped("--stream", "pcm", "--report", "r.json", "--mux", "m.mp4", "--save", "t.npz")
    report, whole = (json.loads((folder / name).read_text()) for name in ("r.json", "whole.json"))
    assert report["takes"] == [whole["takes"][0] | {"file": "-"}] and report["loudness"] == whole["loudness"]
    assert report["outputs"] == ["m.mp4", "r.json", "t.npz"]
    assert np.array_equal(read_audio(folder / "m.mp4", 44100), read_audio(folder / "whole.mp4", 44100))
    assert np.rint(Take.load(folder / "t.npz").audio * 32768).clip(max=32767).astype("<i2").tobytes() == sound


# ---------------------------------------------------------------- a file
def test_a_file_grows(
    run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("-o", "whole.wav") == 0
    whole, sizes, add = data_of(folder / "whole.wav"), [], streaming.FileSink.add

    def seen(self: streaming.FileSink, audio: np.ndarray) -> None:
        assert (folder / "video.wav").exists() == bool(sizes)
        add(self, audio)
        sizes.append(len(data_of(folder / "video.wav")) // 2)
        assert data_of(folder / "video.wav") == whole[: 2 * sizes[-1]]

    monkeypatch.setattr(streaming.FileSink, "add", seen)
    assert run("--stream", "--sidecar", "--timeline", "t.otio", "--progress", "json") == 0
    assert sizes[:2] == [PIECE, 2 * PIECE] and data_of(folder / "video.wav") == whole
    done = json.loads(capsys.readouterr().out.splitlines()[-1])["report"]
    assert done["outputs"] == ["video.wav", "t.otio", "video.json"]
    assert json.loads((folder / "video.json").read_text())["takes"][0]["samples"] == len(whole) // 2
    assert names(folder) == ["t.otio", "video.json", "video.mp4", "video.wav", "whole.wav"]


def test_an_old_file_stays_until_the_first_piece(
    run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "video.wav").write_text("precious")
    assert run("--stream") == 1 and "video.wav exists; give --overwrite" in capsys.readouterr().err
    assert run("--stream", "--overwrite", "--max-duration", "2") == 1
    monkeypatch.setattr("runtime.generation.Run.chunk", lambda *_: np.full(8, np.nan, np.float32))
    assert run("--stream", "--overwrite") == 1 and "not finite" in capsys.readouterr().err
    assert (folder / "video.wav").read_text() == "precious" and names(folder) == ["video.mp4", "video.wav"]


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (signals.Stopped(signal.SIGINT), 130, "stopped; video.wav has the first 0.8 s of the sound\n"),
        (OSError(28, "full"), 1, "error: cannot write video.wav: the disk is full; free some space or choose another "
         "folder; video.wav has the first 0.8 s of the sound\n"),
    ],
    ids=["Ctrl-C", "full disk"],
)  # fmt: skip
def test_what_was_written_stays_and_can_be_played(
    run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    failure: BaseException, status: int, message: str,
) -> None:  # fmt: skip
    (folder / "video.wav").write_text("old")
    monkeypatch.setattr(signals._State, "done", False)
    add = GrowingWav.add

    def fail(self: GrowingWav, path: Path, audio: np.ndarray) -> None:
        if self.samples == 2 * PIECE:
            with open(path, "ab") as file:
                file.write(b"half of a piece")
            raise failure
        add(self, path, audio)

    monkeypatch.setattr(GrowingWav, "add", fail)
    assert run("--stream", "--overwrite", "--report", "r.json") == status
    assert capsys.readouterr().err == message
    assert names(folder) == ["video.mp4", "video.wav"] and len(data_of(folder / "video.wav")) == 4 * PIECE


# ---------------------------------------------------------------- processes
PLANTED = f"""
import ctypes, os, sys
sys.argv = ["maskvat", *sys.argv[1:]]
from runtime import infer
from runtime.commands import crash_guard
real = crash_guard.run_guarded

def plant(run, debug):  # in the child
    def planted():
        from runtime import context, generation
        from runtime.commands import streaming
        context.CODEC_CHUNK = generation.CODEC_CHUNK = {CHUNK}
        add = streaming.FileSink.add
        def crash(self, audio):
            add(self, audio)
            if self.seconds > 0.5: ctypes.string_at(0)
        streaming.FileSink.add = crash
        return run()
    return real(planted, debug)

crash_guard.run_guarded = plant
sys.exit(infer.process())
"""


def start(program: list[str], options: list[str], *more: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *program, *options, *more], env=environment, **pipes)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the guard, which forks")
def test_a_crash_leaves_what_was_written(options: list[str], folder: Path) -> None:
    process = start(["-c", PLANTED], options, "--stream", "--report", "r.json")
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 1 and error.startswith("error: the decoder crashed on video.mp4 (SIGSEGV)")
    assert error.endswith("; video.wav has the beginning of the sound\n") and error.count("\n") == 1
    assert names(folder) == ["video.mp4", "video.wav"] and len(data_of(folder / "video.wav")) == 4 * PIECE


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_that_goes_away_ends_it_quietly(options: list[str], folder: Path) -> None:
    process = start(["-m", "runtime.infer"], options, "-o", "-", "--stream", "--quiet", "--save", "t.npz")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(120) == 1 and process.stderr.read() == b"" and names(folder) == ["video.mp4"]
    process.stderr.close()


# ---------------------------------------------------------------- checked before any work
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lufs", "-23"], "--lufs needs the whole sound, and --stream writes it while it is made; leave out one"),
        (["--peak", "-1"], "--save take.npz and deliver the take again, with --from take.npz --peak"),
        (["--mix", "-12"], "--mix needs the whole sound"),
        (["--silence", "auto"], "--silence needs the whole sound"),
        (["--bwf"], "--bwf needs the whole sound"),
        (["--rate", "48000"], "--rate is 48000, and --stream writes the 44100 Hz at which the sound is made"),
        (["--candidates", "2"], "candidates is 2; a stream is heard before the last window is made"),
        (["--from", "x.npz"], "--stream makes a new sound, and --from goes on with a take"),
        (["-o", "x.flac"], "--stream writes a .wav file that grows, not x.flac"),
        (["-o", "-", "--sidecar"], "--sidecar needs a sound file"),
        (["--stream", "pcm"], "--stream pcm writes bare samples to a pipe, not to video.wav; give -o -"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_what_needs_the_whole_sound_is_refused(
    run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Pipeline, "stream", lambda *_, **__: pytest.fail("work has begun"))
    assert run("--stream", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert names(folder) == ["video.mp4"]
