"""benchmarks.latency: refused options, results of runs that end early, and the origin of a result."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import runtime
from benchmarks.common import machine
from benchmarks.latency import __main__ as latency
from benchmarks.latency import at_once, end_to_end, first_sound
from benchmarks.latency.end_to_end import RunOptions
from benchmarks.latency.points import WorkerError
from benchmarks.latency.session import Session
from benchmarks.latency.tables import at_once_table, bars_lines, first_sound_table
from benchmarks.latency.worker import process_peak_mb
from tests.support.fake_engines import NEEDS_ORT

BAD = ("--repeat 0", "--clips nowhere", "--backend abacus", "--seconds 0", "--pair-steps 0", "--threads -1",
       "--limit -1", "--limit nan", "--clips-limit 0", "--clip nowhere.mp4", "--engines nowhere", "--system nowhere",
       "--steps 2000", "--out nowhere/a.json", "--tables nowhere/a.md", "--out {folder}",
       "--plots {file}/plots")  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_options(bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Bad options are refused before anything is measured, with one line that names the given value."""
    monkeypatch.setattr(latency, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").touch()
    given = bad.format(folder=tmp_path, file=tmp_path / "file")
    assert latency.main([*given.split(), "--cache", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and printed.out == ""
    assert given.split()[1] in printed.err


def test_an_unknown_precision(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        latency.main(["--precision", "fp31"])
    assert "fp31" in capsys.readouterr().err


@NEEDS_ORT
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_measured(end, bundles, make_video, tmp_path) -> None:
    """Background jobs of a shell start with Ctrl-C ignored."""
    command = [sys.executable, "-m", "benchmarks.latency", "--engines", f"fake={bundles()}", "--backend", "cpu"]
    command += ["--clip", str(make_video(25)), "--steps", *map(str, range(1, 60)), "--repeat", "1", "--no-quality"]
    command += ["--out", str(tmp_path / "a.json"), "--cache", str(tmp_path / "cache")]
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=deaf
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "Workload(steps=2," in line:
                break
        run.send_signal(end)
        run.stderr.read()
    assert run.returncode == 130
    values = json.loads((tmp_path / "a.json").read_text())
    assert 2 <= len(values["results"]) < 59 and any("ended early" in note for note in values["notes"])


@NEEDS_ORT
@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (runtime.MaskVATError, 1)])
def test_what_was_measured_is_kept(error, status, bundles, make_video, tmp_path, capsys, monkeypatch) -> None:
    """Ctrl-C or an error happens in the second of two points."""
    point = Session.measure_point

    def second_fails(self: Session, *what: object) -> None:
        if self.values["results"]:
            raise error("no more")
        point(self, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "measure_point", second_fails)
    command = ["--engines", f"fake={bundles()}", "--backend", "cpu", "--steps", "2", "3", "--clip", str(make_video(25))]
    files = ["--out", str(tmp_path / "a.json"), "--cache", str(tmp_path / "cache")]
    assert latency.main([*command, "--repeat", "1", *files]) == status
    printed = capsys.readouterr()
    values = json.loads(printed.out.splitlines()[-1])
    assert values == json.loads((tmp_path / "a.json").read_text())
    assert [p["steps"] for p in values["results"]] == [2] and values["floors"]
    assert any(f"ended early by {error.__name__}" in note for note in values["notes"])
    assert printed.err.splitlines()[-1].startswith("error: ")


def test_tables_that_fail_lose_no_json(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(latency, "measure", lambda session, _: session.values["profiles"].append({"size": "mini"}))
    monkeypatch.setattr(latency, "document", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        latency.main(["--out", str(tmp_path / "a.json"), "--cache", str(tmp_path), "--backend", "cpu"])
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads((tmp_path / "a.json").read_text()) and values["profiles"]


# ---------------------------------------------------------------- pictures
def test_no_tick_labels_lie_on_one_another(tmp_path: Path, monkeypatch) -> None:
    """Labels do not overlap for close and distant values on logarithmic axes."""
    pytest.importorskip("matplotlib")
    from benchmarks.latency import plots

    kept, rows = [], [(4, 1, 10, 1.9), (8, 1, 10, 2.4), (64, 1, 10, 14.0), (8, 10, 10, 14.0), (8, 1, 60, 19.0)]
    names = ("steps", "candidates", "clip_seconds", "seconds")
    what = {"size": "mini", "backend": "cpu", "precision": "fp16"}
    monkeypatch.setattr(plots, "save", lambda figure, _: kept.append(figure))
    points = [what | dict(zip(names, values, strict=True)) | {"p95": values[-1]} for values in rows]
    plots.draw_curves(tmp_path / "a.png", points)
    kept[0].draw_without_rendering()
    for axes in kept[0].axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = [t.label1 for t in [*axis.get_major_ticks(), *axis.get_minor_ticks()] if t.label1.get_text()]
            boxes = [label.get_window_extent() for label in shown]
            assert len(shown) >= 2 and not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


# ---------------------------------------------------------------- bars
@NEEDS_ORT
def test_bars_are_of_what_was_asked_for(two_steps: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(end_to_end, "SHORT", 1)
    found = dict(end_to_end.measure_bars(RunOptions(two_steps, "cpu", "fp32", 1), tmp_path, 1, long=2))
    assert (found["backend"], found["precision"], found["threads"]) == ("cpu", "fp32", 1)
    assert [w["steps"] for w in found["whole_process"]] == [32, 8]
    for w in found["whole_process"]:
        assert w["seconds"] > 0 and (w["command_peak_mb"] is None) == (process_peak_mb("self") is None)
        assert w["command_peak_mb"] is None or w["command_peak_mb"] > 20
    printed = bars_lines(found)
    assert "cpu, step in fp32, 1 threads" in printed and printed.count("whole process") == 2
    assert bars_lines({"import_and_load": {"seconds": 1.0}}) == "- import and load: 1.00 s"
    with pytest.raises(WorkerError, match=r"runtime\.infer .* failed: .*int8"):
        Path(two_steps / "step.int8.onnx").unlink()
        end_to_end.whole_process(RunOptions(two_steps, "cpu", "int8"), tmp_path / "video1.mp4", tmp_path, 2, 1)


@NEEDS_ORT
def test_the_first_sound_comes_before_the_end(two_steps: Path, tmp_path: Path) -> None:
    run = RunOptions(two_steps, "cpu", "fp32", 1)
    found = first_sound.measure_first_sound(run, tmp_path, 1, seconds=9)
    assert (found["steps"], found["clip_seconds"]) == (8, 9)
    for name, runs in (("stream", 2), ("whole", 1)):
        row = found[name]
        assert 0 < row["first_seconds"] < row["eight_seconds"] < row["seconds"] and len(row["all_first"]) == runs
        assert row["peak_mb"] is None or row["peak_mb"] > 20
    table = first_sound_table(found).splitlines()
    assert table[0].startswith("| 9 s, 8 steps | s to the first sound |") and "| --stream |" in table[2]
    with pytest.raises(WorkerError, match=r"runtime\.infer .* failed: .*int8"):
        Path(two_steps / "step.int8.onnx").unlink()
        first_sound.measure_first_sound(RunOptions(two_steps, "cpu", "int8"), tmp_path, 0, seconds=9)


@NEEDS_ORT
def test_clips_at_once_share_the_cores(two_steps: Path, tmp_path: Path) -> None:
    run = RunOptions(two_steps, "cpu", "fp32")
    found = at_once.measure_at_once(run, tmp_path, 2, threads=2, seconds=1, counts=(1, 3))
    assert [(p["at_once"], p["threads"], len(p["all"])) for p in found["points"]] == [(1, 2, 2), (3, 1, 6)]
    for p in found["points"]:
        assert 0 < p["seconds"] <= p["p95"] == max(p["all"])
        # no more than `at_once` clips are in work at the same time
        assert sum(p["all"]) <= 3600 * len(p["all"]) / p["clips_per_hour"] * p["at_once"] * 1.001
    assert len(list(tmp_path.glob("video1-*.mp4"))) == 9  # each clip its own file: kept features would not be encoded
    table = at_once_table(found).splitlines()
    assert table[0].startswith("| clips of 1 s at once, 8 steps |") and table[-1].startswith("| 3 | 1 |")


# ---------------------------------------------------------------- where a result comes from
def test_revision_of_a_checkout(tmp_path: Path, monkeypatch) -> None:
    def git(*words: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True, capture_output=True)

    monkeypatch.setattr(machine, "ROOT", tmp_path.resolve())
    assert machine.revision() is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    clean = machine.revision()
    assert clean is not None and len(clean) == 40
    (tmp_path / "new").touch()  # a result, say
    assert machine.revision() == clean
    (tmp_path / "a").write_text("2")
    assert machine.revision() == clean + "-dirty"
    monkeypatch.setattr(machine, "ROOT", tmp_path.resolve() / "inner")  # a copy inside another repository
    (tmp_path / "inner").mkdir()
    assert machine.revision() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.revision() is None


def test_cores_that_share_a_core_count_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1, 4}, raising=False)
    assert machine.physical_cores() == machine.cores() == 3  # the system does not tell
    for n, siblings in enumerate(("0,4", "1,5", "2,6", "3,7", "0,4", "1,5")):
        (tmp_path / f"cpu{n}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{n}" / "topology" / "thread_siblings_list").write_text(siblings)
    assert machine.physical_cores() == 2
