"""`maskvat batch`: checks before the work, failures on their own, crashes, Ctrl-C, and the summary."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import runtime.pipeline
from runtime.commands.batch.options import chosen_jobs, parse_batch
from runtime.commands.batch.run import main
from runtime.commands.batch.sources import read_sources, read_table
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest
from tests.support.paths import ROOT

pytestmark = NEEDS_ORT
POSIX = pytest.mark.skipif(sys.platform != "linux", reason="needs the child process of Linux")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
PLANTED = """
import sys
from runtime.commands import crash_guard
from runtime.commands.batch import supervise
real = crash_guard.run_in_child

def plant(run, debug):  # in the child, after the imports
    def planted():
        import ctypes, os, signal, time
        from runtime.commands import make, outputs
        from runtime.pipeline import Pipeline
        {code}
        return run()
    return real(planted, debug)

supervise.run_in_child = plant
sys.exit(supervise.process(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with in/a.mp4, in/b.mp4, in/c.mp4, in/notes.txt; it is the current one."""
    (tmp_path / "work" / "in").mkdir(parents=True)
    for name in "abc":
        shutil.copy(make_video(20), tmp_path / "work" / "in" / f"{name}.mp4")
    (tmp_path / "work" / "in" / "notes.txt").write_text("not a video")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def options(bundles: Callable[..., Path]) -> list[str]:
    return ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "1"]


@pytest.fixture
def run(options: list[str], folder: Path) -> Callable[..., int]:
    return lambda *arguments: main([*options, *arguments])


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-c", PLANTED.format(code=code), *arguments]
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def statuses(path: str = "s.json") -> dict[str, str]:
    return {Path(c["video"]).name: c["status"] for c in json.loads(Path(path).read_text())["clips"]}


# ---------------------------------------------------------------- what is made
def test_a_folder(run: Callable[..., int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, init = [], runtime.pipeline.Bundle.__init__

    def counted(self: object, *rest: object) -> None:
        opened.append(rest)
        init(self, *rest)

    monkeypatch.setattr(runtime.pipeline.Bundle, "__init__", counted)
    assert run("in", "--out-dir", "out", "--mux", "--jobs", "2", "--summary", "s.json") == 0
    assert len(opened) == 1
    assert names(folder / "out") == sorted(f"{n}{end}" for n in "abc" for end in (".wav", ".sound.mp4"))
    summary = json.loads(Path("s.json").read_text())
    assert summary["counts"] == {"done": 3, "skipped": 0, "failed": 0, "not_done": 0} and summary["bundle"] == "fake"
    assert summary["clips"][0]["outputs"] == ["out/a.wav", "out/a.sound.mp4"]
    assert run("in", "--mux") == 0 and len(names(folder / "in")) == 10
    assert len(read_sources([Path("in")], None)) == 3  # the copies with sound are no videos of the batch


def test_each_sound_is_the_one_that_make_writes(run: Callable[..., int], folder: Path, options: list[str]) -> None:
    from runtime.infer import main as make

    assert run("in", "--out-dir", "out", "--jobs", "3", "--seed", "5", "--bits", "24") == 0
    assert make(["in/b.mp4", "-o", "b.wav", "--seed", "5", "--bits", "24", *options]) == 0
    assert (folder / "out" / "b.wav").read_bytes() == (folder / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("flags", "cores", "videos", "chosen"),
    [
        ("", 1, 9, (1, 0)),
        ("", 2, 9, (2, 1)),
        ("", 12, 9, (4, 3)),
        ("", 12, 1, (1, 0)),  # one video gets all cores
        ("--candidates 4", 12, 9, (2, 6)),
        ("--jobs 1", 2, 9, (1, 0)),
        ("--jobs 8 --threads 3", 2, 9, (8, 3)),
        ("--jobs 3", 2, 9, (3, 1)),
    ],
)
def test_jobs_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, flags: str, cores: int, videos: int, chosen: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert chosen_jobs(parse_batch(["in", *flags.split()]), videos) == chosen


def test_a_gpu_makes_one_video_at_a_time_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.commands.batch.options.choose", lambda backend: ["cuda", "cpu"])
    assert chosen_jobs(parse_batch(["in"]), 9) == (1, 0)
    assert chosen_jobs(parse_batch(["in", "--jobs", "3"]), 9)[0] == 3


def test_several_at_once_make_the_same_sounds_as_one_after_the_other(folder: Path) -> None:
    """With the shipped bundle, whose int8 step would show another order of sums."""
    for out, flags in (("a", ["--jobs", "1", "--threads", "2"]), ("b", ["--jobs", "3", "--threads", "1"]), ("c", [])):
        assert main(["in", "--out-dir", out, "--backend", "cpu", "--steps", "3", *flags]) == 0
    for name in ("a.wav", "b.wav", "c.wav"):
        assert len({(folder / out / name).read_bytes() for out in "abc"}) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table(run: Callable[..., int], folder: Path, delimiter: str) -> None:
    """Columns in any order, a byte order mark, an empty line, names from the table's folder."""
    rows = [["output", "Clip"], ["one.wav", "in/a.mp4"], ["", ""], ["two.flac", "in/a.mp4"], ["", "in/b.mp4"]]
    Path("list.csv").write_text("\ufeff" + "\r\n".join(delimiter.join(row) for row in rows))
    assert run("list.csv", "--out-dir", "out") == 0
    assert names(folder / "out") == ["b.wav", "one.wav", "two.flac"]
    assert names(folder / "in") == ["a.mp4", "b.mp4", "c.mp4", "notes.txt"]


def test_existing_outputs(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in/a.mp4", "--out-dir", "out") == 0
    before = (folder / "out" / "a.wav").stat().st_mtime_ns
    assert run("in", "--out-dir", "out") == 1 and "give --skip-existing" in capsys.readouterr().err
    assert names(folder / "out") == ["a.wav"]
    assert run("in", "--out-dir", "out", "--skip-existing", "--summary", "s.json") == 0
    assert statuses() == {"a.mp4": "skipped", "b.mp4": "done", "c.mp4": "done"}
    assert (folder / "out" / "a.wav").stat().st_mtime_ns == before
    assert run("in", "--out-dir", "out", "--skip-existing", "--mux") == 1
    assert "out/a.wav exists, and out/a.sound.mp4 does not; give --overwrite" in capsys.readouterr().err
    assert run("in", "--out-dir", "out", "--skip-existing", "--mux", "--overwrite") == 0
    assert len(names(folder / "out")) == 6


# ---------------------------------------------------------------- what is refused before the work
TABLES = {
    "clip,colour\nin/a.mp4,red\n": "unknown column 'colour': the columns are clip, range, prompt, avoid, output; only",
    "output\nx.wav\n": "there is no column clip",
    "clip,clip\nin/a.mp4,in/b.mp4\n": "the column 'clip' is there twice",
    "clip\n": "the table has no rows",
    "": "there is no column clip",
    "clip\nin/a.mp4\nin/gone.mp4\n": "list.csv, line 3: in/gone.mp4: no such file",
    "clip,output\n,x.wav\n": "line 2: the column clip is empty",
    "clip\nin/a.mp4,x.wav\n": "line 2: 2 values for 1 columns",
    "clip,output\nin/a.mp4,x.wav\nin/b.mp4,./x.wav\n": "two files of one name: x.wav, the output for in/b.mp4,",
    "clip,output\nin/a.mp4,in/b.mp4\n": "is not a .wav or .flac file",
    "clip,output\nin/a.mp4,nowhere/x.wav\n": "the folder nowhere does not exist",
}


@pytest.fixture
def refused(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refused(*arguments) -> what is on stderr; nothing was written."""

    def call(*arguments: str) -> str:
        before = sorted(str(p) for p in folder.rglob("*"))
        assert run(*arguments) == 1
        assert sorted(str(p) for p in folder.rglob("*")) == before
        err = capsys.readouterr().err
        assert "Traceback" not in err and "nothing was made" in err
        return err

    return call


@pytest.mark.parametrize("text", TABLES)
def test_bad_tables(refused: Callable[..., str], text: str) -> None:
    Path("list.csv").write_text(text)
    assert TABLES[text] in refused("list.csv")


def test_bad_sources(refused: Callable[..., str], folder: Path, make_video: Callable[..., Path]) -> None:
    (folder / "empty").mkdir()
    assert "the folder has no videos" in refused("empty")
    err = refused("in/gone.mp4", "in/a.mp4", "in/a.mp4", "--out-dir", "out")
    assert "no such file" in err and "two files of one name" in err and "2 problems in a batch of 3" in err
    assert "--keep-going makes the others" in err and "--keep-going" not in refused("in/gone.mp4")
    Path("s.json").write_text("{}")
    err = refused("in/gone.mp4", "in/a.mp4", "--summary", "s.json")
    assert "s.json exists; give --skip-existing to go on" in err and "no such file" in err and "2 problems" in err
    assert "no such file" not in refused("in/gone.mp4", "in/a.mp4", "--summary", "s.json", "--keep-going")
    Path("s.json").unlink()
    (folder / "x").mkdir()
    shutil.copy(make_video(20), folder / "x" / "a.mp4")
    assert "out/a.wav, the output for x/a.mp4, is also the output for in/a.mp4" in refused(
        "in", "x", "--out-dir", "out"
    )


def test_bad_options(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "there.json").write_text("{}")
    for words, text in {
        "--jobs 0": "jobs is 0; it must be a whole number from 1 to 64",
        "--steps 0": "steps is 0",
        "--summary s.txt": "ends in .json",
        "--summary there.json": "there.json exists; give --skip-existing to go on, --overwrite",
        "--engines nowhere": "no bundle in nowhere",
        "--out-dir no/where": "cannot make the folder no/where",
    }.items():
        before = sorted(str(p) for p in folder.rglob("*"))
        flags = words.split()
        assert (main(["in/a.mp4", "--backend", "cpu", *flags]) if "engines" in words else run("in/a.mp4", *flags)) == 1
        err = capsys.readouterr().err
        assert text in err and err.count("\n") == 1
        assert sorted(str(p) for p in folder.rglob("*")) == before


def test_a_column_is_passed_on_to_its_flag(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with a flag that the parser has, and once without one."""
    from runtime.commands.batch import sources

    Path("list.csv").write_text("clip,prompt\nin/a.mp4,7\n")
    monkeypatch.setitem(sources.COLUMNS, "prompt", "--colour")
    assert "the table gives a colour, and this version has no --colour" in refused("list.csv")
    monkeypatch.setitem(sources.COLUMNS, "prompt", "--guidance-from")
    assert "guidance_from is 7.0; it must be a number from 0 to 1" in refused("list.csv")
    assert read_table(Path("list.csv"), None)[0].flags == {"--guidance-from": "7"}


def test_words_of_a_table_are_looked_up_first(
    run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "clip;prompt;output;avoid\nin/a.mp4;dog:2, door;a.wav;car\nin/b.mp4;{};b.wav\nin/c.mp4;;c.wav\n"
    Path("list.csv").write_text(table.format("dgo"))
    assert run("list.csv", "--out-dir", "out") == 1 and not (folder / "out").exists()
    assert "list.csv, line 3: the bundle does not know the word 'dgo'; similar words: dog" in capsys.readouterr().err
    Path("list.csv").write_text(table.format("car"))
    assert run("list.csv", "--out-dir", "out", "--prompt", "street", "--sidecar") == 0
    words = [json.loads((folder / "out" / f"{n}.json").read_text())["words"] for n in "abc"]
    assert [w["prompts"][0]["prompt"] for w in words] == ["dog:2, door", "car", "street"]
    assert [w["avoid"] for w in words] == ["car", "", ""]
    assert run("in", "--avoid", "music") == 1
    assert "error: the bundle does not know the word 'music'" in capsys.readouterr().err


# ---------------------------------------------------------------- failures
def test_failures_stay_alone(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "b.mp4").write_text("no video")
    assert run("in", "--out-dir", "out", "--summary", "s.json", "--progress", "json") == 1
    assert names(folder / "out") == ["a.wav", "c.wav"]
    assert statuses() == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done"}
    out, err = capsys.readouterr()
    assert err.count("failed: in/b.mp4 is not a video") == 1
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "done" and events[-1]["summary"] == json.loads(Path("s.json").read_text())
    (failed,) = [e for e in events if e.get("status") == "failed"]
    assert (failed["clip"], failed["error"]["code"]) == (1, "media_error")
    totals = [e["total_fraction"] for e in events if e["event"] == "progress"]
    assert totals == sorted(totals) and totals[-1] == 1


def test_keep_going(run: Callable[..., int], folder: Path) -> None:
    assert run("in", "in/gone.mp4", "in/a.mp4", "--out-dir", "out", "--keep-going", "--summary", "s.json") == 1
    assert names(folder / "out") == ["a.wav", "b.wav", "c.wav"]
    clips = json.loads(Path("s.json").read_text())["clips"]
    assert [c["status"] for c in clips] == ["done"] * 3 + ["failed"] * 2


CRASH = """made = Pipeline.generate
        def generate(self, video, *a, **k):
            if video.name in {names}: {deed}
            return made(self, video, *a, **k)
        Pipeline.generate = generate"""


@POSIX
@pytest.mark.parametrize(("jobs", "crashing"), [("1", ["a.mp4"]), ("3", ["b.mp4", "c.mp4"])])
def test_a_crash_does_not_end_the_batch(folder: Path, options: list[str], jobs: str, crashing: list[str]) -> None:
    code = CRASH.format(names=crashing, deed="time.sleep(0.3); ctypes.string_at(0)")
    with start(code, "in", "--out-dir", "out", "--jobs", jobs, "--summary", "s.json", *options) as process:
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert statuses() == {n: "failed" if n in crashing else "done" for n in ("a.mp4", "b.mp4", "c.mp4")}, err
    assert names(folder / "out") == [f"{n}.wav" for n in "abc" if f"{n}.mp4" not in crashing]
    assert err.count("failed: ") == len(crashing) and err.count("(SIGSEGV)") == len(crashing), err


@POSIX
def test_a_crash_while_writing_leaves_nothing_of_this_video(folder: Path, options: list[str]) -> None:
    code = "outputs.mux = lambda video, *a, **k: ctypes.string_at(0) if video.name == 'b.mp4' else []"
    with start(code, "in", "--out-dir", "out", "--sidecar", "--mux", *options) as process:
        process.communicate(timeout=60)
    assert process.returncode == 1 and [n for n in names(folder / "out") if "b" in n or n.startswith(".")] == []


@POSIX
def test_a_crash_before_the_first_video_is_one_line(folder: Path, options: list[str]) -> None:
    with start("ctypes.string_at(0)", "in", "--out-dir", "out", *options) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1) and "crashed (SIGSEGV)" in err


@POSIX
def test_ctrl_c_says_what_is_done(folder: Path, options: list[str]) -> None:
    code = "outputs.mux = lambda video, *a, **k: time.sleep(0 if video.name == 'a.mp4' else 2) or []"
    flags = ["--out-dir", "out", "--mux", "--jobs", "1", "--summary", "s.json"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        process = start(code, "in", *flags, *options)
        end = time.monotonic() + 60
        while not list((folder / "out").glob(".maskvat*/b.wav")):
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1]
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert (
        last.startswith("stopped; ") and " of 3 sounds are done" in last and "run it again with --skip-existing" in last
    )
    assert not [n for n in names(folder / "out") if n.startswith(".") or "c" in n]
    assert statuses()["c.mp4"] == "not_done"


def test_avoiding_with_distilled_guidance_is_refused_before_the_work(
    run: Callable[..., int], folder: Path, own_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_manifest(own_bundle, lambda m: m["weights"][0].update(distilled_guidance=3.0))
    assert run("in", "--out-dir", "out", "--engines", str(own_bundle), "--avoid", "dog") == 1
    assert "is distilled, so it cannot lead away from words" in capsys.readouterr().err
