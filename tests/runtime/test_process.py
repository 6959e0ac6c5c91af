"""The command as a process of its own: streams that are missing, signals, crashes, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.commands.staging import Staging
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

pytestmark = [NEEDS_ORT, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
PLANTED = """
import os, signal, sys, time
sys.argv = ["maskvat", *sys.argv[1:]]
from runtime import infer
from runtime.commands import crash_guard
real = crash_guard.run_guarded

def plant(run, debug):  # in the child, after the imports
    def planted():
        import ctypes
        from runtime import generation, video
        from runtime.commands import outputs
        from runtime.commands import make as command
        from runtime.deliver import mux
        {code}
        return run()
    return real(planted, debug)

crash_guard.run_guarded = plant
sys.exit(infer.process())
"""


@pytest.fixture
def folder(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "video.mp4").write_bytes(make_video().read_bytes())
    return tmp_path / "work"


@pytest.fixture
def start(bundles: Callable[..., Path], folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start(*arguments, code="", **options) starts the command; `code` runs in it before it begins."""
    running: list[subprocess.Popen[str]] = []

    def call(*arguments: str, code: str | None = None, **options: object) -> subprocess.Popen[str]:
        begin = ["-m", "runtime.infer"] if code is None else ["-c", PLANTED.format(code=code)]
        more = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        line = [sys.executable, *begin, "video.mp4", *more, *arguments]
        running.append(subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, **pipes))
        return running[-1]

    before = {s: signal.signal(s, signal.SIG_DFL) for s in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield call
    for number, handler in before.items():
        signal.signal(number, handler)
    for process in running:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def descendants(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


# ---------------------------------------------------------------- what is written
def test_only_the_outputs_are_written(bundles: Callable[..., Path], folder: Path) -> None:
    """Nothing stays in the folders of the user and for temporary files; sound and copy are both made."""
    places = {name: folder.parent / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for place in places.values():
        place.mkdir()
    line = [sys.executable, "-m", "runtime.infer", "video.mp4", "--mux", "--report", "r.json", "--steps", "1"]
    line += ["--engines", str(bundles()), "--backend", "cpu"]
    before = {p: p.stat().st_mtime_ns for p in bundles().iterdir()}
    subprocess.run(line, cwd=folder, env=ENVIRONMENT | {n: str(p) for n, p in places.items()}, check=True)
    assert names(folder) == ["r.json", "video.mp4", "video.sound.mp4", "video.wav"]
    assert {n: names(p) for n, p in places.items()} == {n: [] for n in places}
    assert names(folder.parent) == sorted([*places, "work"])
    assert {p: p.stat().st_mtime_ns for p in bundles().iterdir()} == before


# ---------------------------------------------------------------- streams
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("progress", ["auto", "bar", "json"])
def test_closed_streams(bundles: Callable[..., Path], folder: Path, closed: str, progress: str) -> None:
    line = f'"{sys.executable}" -m runtime.infer video.mp4 --engines "{bundles()}" --backend cpu --steps 1 '
    result = subprocess.run(["sh", "-c", f"{line} --mux --progress {progress} {closed}"], cwd=folder, env=ENVIRONMENT)
    assert result.returncode == 0
    assert names(folder) == ["video.mp4", "video.sound.mp4", "video.wav"]


def test_a_closed_stderr_and_a_bad_video(bundles: Callable[..., Path], folder: Path) -> None:
    line = f'"{sys.executable}" -m runtime.infer absent.mp4 --engines "{bundles()}" 2>&-'
    result = subprocess.run(["sh", "-c", line], cwd=folder, env=ENVIRONMENT, capture_output=True)
    assert (result.returncode, result.stdout) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_stdout(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    """Before the outputs are there, the exit status is 1 and nothing is left."""
    with open("/dev/full", "w") as full:
        process = start("--progress", "json", "--steps", "1", stdout=full)
        assert process.wait(60) == 1
    assert process.stderr is not None and process.stderr.read().count("\n") == 1
    assert names(folder) == ["video.mp4"]


@pytest.mark.parametrize("fails", ["shown.done", "shown.close", "log.info"])
def test_the_outputs_are_there_and_the_last_line_fails(
    start: Callable[..., subprocess.Popen[str]], folder: Path, fails: str
) -> None:
    code = {
        "shown.done": "command.Reporter.done = lambda *a: os.write(99, b'x')",
        "shown.close": "command.Reporter.close = lambda *a: os.write(99, b'x')",
        "log.info": "command.say = lambda *a: os.write(99, b'x')",
    }[fails]
    process = start("--steps", "1", code=code)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and names(folder) == ["video.mp4", "video.wav"], err


# ---------------------------------------------------------------- signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("times", [1, 3])
def test_signals_while_outputs_are_written(
    start: Callable[..., subprocess.Popen[str]], folder: Path, number: signal.Signals, times: int
) -> None:
    (folder / "video.wav").write_text("precious")
    code = "outputs.mux = lambda *a, **k: time.sleep(30)"
    process = start("--steps", "1", "--mux", "--overwrite", code=code)
    until(lambda: list(folder.glob(".maskvat*/video.wav")))
    for _ in range(times):
        process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (128 + number, "", "stopped; nothing was written\n")
    assert names(folder) == ["video.mp4", "video.wav"] and (folder / "video.wav").read_text() == "precious"


@pytest.mark.parametrize("milliseconds", [0, 30, 100, 200, 300, 450])
def test_ctrl_c_twice_in_the_first_half_second(
    start: Callable[..., subprocess.Popen[str]], folder: Path, milliseconds: int
) -> None:
    """The terminal sends it to parent and child, which imports libraries."""
    process = start("--steps", "1024", start_new_session=True)
    until(lambda: descendants(process.pid))
    time.sleep(milliseconds / 1000)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert process.communicate(timeout=30) == ("", "stopped; nothing was written\n")
    assert process.returncode == 130 and names(folder) == ["video.mp4"]


@pytest.mark.parametrize("where", ["runtime.commands.crash_guard", "numpy", "av", "runtime.commands.make"])
def test_ctrl_c_during_an_import(folder: Path, where: str) -> None:
    """Each import is interrupted in the middle."""
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {where!r}: os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores Ctrl-C for what runs in the background
sys.argv = ["maskvat", "video.mp4"]
from runtime.infer import process
sys.exit(process())
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert "Traceback" not in result.stderr and result.returncode in (130, -signal.SIGINT)
    assert names(folder) == ["video.mp4"]


def test_ignored_signals_stay_ignored(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    process = start("--steps", "2", "--progress", "json")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and "video.wav" in names(folder)


def test_a_signal_after_publishing_changes_nothing(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    code = "command.show = lambda *a: os.kill(os.getpid(), signal.SIGTERM)"
    process = start("--steps", "1", code=code)
    process.communicate(timeout=60)
    assert process.returncode == 0 and names(folder) == ["video.mp4", "video.wav"]


def test_a_host_keeps_its_handlers_and_loggers(bundles: Callable[..., Path], folder: Path) -> None:
    code = f"""
import logging, os, signal, sys, threading
def state():
    numbers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return numbers, list(logging.root.handlers), logging.root.level, sys.stderr, os.fstat(2).st_ino
before = state()
from runtime import infer
status = []
run = lambda: status.append(infer.main(["video.mp4", "--engines", {str(bundles())!r}, "--steps", "1", "--overwrite"]))
run()
thread = threading.Thread(target=run); thread.start(); thread.join()
assert status == [0, 0] and state() == before
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# ---------------------------------------------------------------- crashes
CRASH = "ctypes.string_at(0)"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("generation.windows", "the decoder crashed on video.mp4 (SIGSEGV); convert it"),
        ("outputs.mux", "FFmpeg's libraries crashed while they copied video.mp4 (SIGSEGV); convert it"),
    ],
)
def test_a_crash_is_one_line(start: Callable[..., subprocess.Popen[str]], folder: Path, place: str, words: str) -> None:
    (folder / "video.wav").write_text("precious")
    flags = ["--steps", "1", "--mux", "--overwrite", "--progress", "json"]
    process = start(*flags, code=f"{place} = lambda *a, **k: {CRASH}")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (1, 1)
    assert json.loads(out.splitlines()[-1]) == {"event": "error", "code": "crashed", "message": err[7:-1]}
    assert err.startswith(f"error: {words}")
    assert names(folder) == ["video.mp4", "video.wav"] and (folder / "video.wav").read_text() == "precious"


def test_a_crash_in_an_engine(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    code = "from engines import ort; ort.OrtEngine._run_here = lambda *a: ctypes.string_at(0)"
    # its frames lie in this text, and the caller's in engines/ort.py
    process = start(code=code)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and err.startswith("error: the engines crashed (SIGSEGV)") and err.count("\n") == 1


@pytest.mark.parametrize("call", range(1, 8))
def test_killed_while_the_outputs_get_their_names(
    start: Callable[..., subprocess.Popen[str]], folder: Path, call: int
) -> None:
    """Whatever was published before the crash is taken back: all outputs or none."""
    for name in ("video.wav", "video.sound.mp4"):
        (folder / name).write_text("precious")
    code = f"""
        calls = []
        def counted(real):
            def do(*a, **k):
                calls.append(a)
                if len(calls) == {call}: os.kill(os.getpid(), signal.SIGKILL)
                return real(*a, **k)
            return do
        os.replace, os.link = counted(os.replace), counted(os.link)"""
    process = start("--steps", "1", "--mux", "--overwrite", code=code.strip())
    err = process.communicate(timeout=60)[1]
    # WAV and video are written atomically: two renames. Then two links to the old files, and two renames.
    assert process.returncode == (1 if call <= 6 else 0), err
    kept = [(folder / name).read_bytes() == b"precious" for name in ("video.wav", "video.sound.mp4")]
    assert kept == [call <= 6] * 2 and names(folder) == ["video.mp4", "video.sound.mp4", "video.wav"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_the_child_ends_with_its_parent(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    process = start("--steps", "1", "--mux", code="outputs.mux = lambda *a, **k: time.sleep(30)")
    until(lambda: list(folder.glob(".maskvat*/video.wav")))
    (child,) = descendants(process.pid)
    process.kill()
    until(lambda: names(folder) == ["video.mp4"], 20)
    until(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text(), 20)


def test_what_libraries_print_is_shown_with_debug(start: Callable[..., subprocess.Popen[str]]) -> None:
    code = r"os.write(2, b'\x1b[1;31mlibrary text\n')"
    for options, shown in (((), False), (("--debug",), True)):
        err = start("--steps", "1", "--overwrite", *options, code=code).communicate(timeout=60)[1]
        assert ("library text" in err) == shown


# ---------------------------------------------------------------- names that are taken
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_appears_meanwhile_stays(start: Callable[..., subprocess.Popen[str]], folder: Path, kind: str) -> None:
    """Between the check and the publishing; the other output is taken back."""
    make = {"file": "open(p, 'w').write('x')", "link": "os.symlink('gone', p)", "folder": "os.mkdir(p)"}[kind]
    code = "outputs.check_output = lambda *a: None; p = 'video.sound.mp4'; "
    code += f"outputs.mux = lambda *a, **k: [open(a[3], 'w'), {make}][:0]"
    process = start("--steps", "1", "--mux", code=code)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "video.sound.mp4 exists; give --overwrite" in err and err.count("\n") == 1
    assert names(folder) == ["video.mp4", "video.sound.mp4"]


def test_two_runs_that_overwrite_do_not_mix_their_outputs(tmp_path: Path) -> None:
    """The second one begins to publish while the first has published one of two files."""
    files = [tmp_path / "a", tmp_path / "b"]
    first, second = Staging(files, True), Staging(files, True)
    with first, second, ThreadPoolExecutor(1) as pool:
        for staging, text in ((first, "first"), (second, "second")):
            for part in staging.parts.values():
                part.write_text(text)
        others = []

        def check(path: Path) -> None:
            if path == files[1]:
                others.append(pool.submit(second.publish))
                with pytest.raises(TimeoutError):
                    others[0].result(timeout=0.3)

        first.publish(check)
        others[0].result(timeout=30)
    assert [path.read_text() for path in files] == ["second", "second"]


def test_a_folder_that_someone_else_has_locked_delays_only(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    monkeypatch.setattr("runtime.commands.staging.PATIENCE", 0.1)
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with Staging([tmp_path / "a"], True) as staging:
        staging.parts[tmp_path / "a"].write_text("x")
        staging.publish()
    os.close(lock)
    assert (tmp_path / "a").read_text() == "x"


def test_of_two_runs_on_one_name_one_wins(start: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    """Both pass the first check, and wait for each other before they write."""
    code = """
        write = outputs.write_outputs
        def wait(*a):
            open(f"{os.getpid()}.ready", "w").close()
            while len([n for n in os.listdir() if n.endswith(".ready")]) < 2: time.sleep(0.005)
            return write(*a)
        command.write_outputs = wait"""
    two = [
        start("--steps", "1", "--seed", str(seed), "--mux", "--report", "r.json", code=code.strip()) for seed in (1, 2)
    ]
    errors = [process.communicate(timeout=90)[1] for process in two]
    assert sorted(process.returncode for process in two) == [0, 1], errors
    winner = next(n for n, process in enumerate(two, 1) if process.returncode == 0)
    assert "exists; give --overwrite" in errors[2 - winner]
    left = [name for name in names(folder) if not name.endswith(".ready")]
    assert left == ["r.json", "video.mp4", "video.sound.mp4", "video.wav"]
    assert json.loads((folder / "r.json").read_text())["sampling"]["seed"] == winner


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("megabytes", [120, 200, 300, 450, 600])
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on address space")
def test_short_memory_is_one_line(start: Callable[..., subprocess.Popen[str]], folder: Path, megabytes: int) -> None:
    import resource

    limit = megabytes << 20
    process = start("--steps", "1", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        assert "video.wav" in names(folder) and megabytes > 300
        return
    assert (process.returncode, out, err.count("\n")) == (1, "", 1), err
    assert "memory" in err and names(folder) == ["video.mp4"]
