"""Drawn clips: the same seed gives the same clip, only contacts make sound, and splits are disjoint."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.audio import read_audio
from tests.support.paths import ROOT
from tests.support.pool import write_pool, write_table
from train.synthetic.drawn.__main__ import main
from train.synthetic.drawn.kinds import KINDS
from train.synthetic.drawn.render import ClipError, DrawnClipSpec, Film, make_clips, render_frames
from train.synthetic.drawn.shapes import LOOKS, Stage
from train.synthetic.recordings import RATE, PoolError, Recordings, mix
from train.synthetic.splits import GROUPS, LARGE_SESSION, SPLITS, split_files, split_sessions

SILENT = ("drift", "sway", "miss", "still")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three decaying tones for each group, one for each split, and a recording of speech."""
    return write_pool(tmp_path_factory.mktemp("sounds"), GROUPS | {"speech": ("speech_hello",)}, 3, 500)


def facts(folder: Path) -> list[dict]:
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]


def test_jobs_and_resuming_do_not_change_a_clip(pool: Path, tmp_path: Path) -> None:
    orders = [DrawnClipSpec(tmp_path / name, pool, seed=3, seconds=1.0, size=(64, 48)) for name in "ab"]
    assert make_clips(orders[0], 4, jobs=2) == 4
    assert make_clips(orders[1], 2) == 2
    (tmp_path / "b" / "train-0003-00001.json").unlink()  # as if interrupted
    assert make_clips(orders[1], 4) == 3
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 12 and files == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_the_command_is_stopped(number: int, pool: Path, tmp_path: Path) -> None:
    """The workers hold the command's stdout, so it is read to its end only when all of them are gone."""
    line = [sys.executable, "-m", "train.synthetic.drawn", str(tmp_path), "--sounds", str(pool), "--jobs", "2"]
    line += ["--clips", "100000", "--seconds", "1", "--size", "64", "48"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    try:
        for _ in range(3):  # two lines of clips, so that the workers have begun
            process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -number


def test_seeds_and_splits_give_other_clips(pool: Path, tmp_path: Path) -> None:
    seen = set()
    for name, seed, split in (("a", 1, "train"), ("b", 2, "train"), ("c", 1, "val")):
        make_clips(DrawnClipSpec(tmp_path / name, pool, split, seed, 1.0, size=(64, 48)), 1)
        seen.add(next((tmp_path / name).glob("*.mp4")).read_bytes())
    assert len(seen) == 3


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in (*SILENT, "slide")])
def test_sound_begins_at_the_contact(kind: str, pool: Path) -> None:
    """The level rises within 5 ms after every contact that no other one masks, and not before it."""
    sounds, checked = Recordings.load(pool, "train"), 0
    for seed in range(4):
        stage = Stage(np.random.default_rng(seed), 4.0, 0.0, 1.5, 0.85, "floor")
        KINDS[kind][0](stage)
        stage.events.sort(key=lambda event: event.time)
        audio, used = mix(stage.events, sounds, Dry(seed), 4.0)
        assert len(used) == len(stage.events)
        last = -1.0
        for event in stage.events:
            if event.time - last > 0.5 and event.strength > 0.1:
                at, near = round(event.time * RATE), round(0.005 * RATE)
                before = np.sqrt(np.mean(audio[at - near : at - near // 10] ** 2))
                after = np.sqrt(np.mean(audio[at : at + near] ** 2))
                assert after > 1e-3 and after > 4 * before, (event, before, after)
                checked += 1
            last = event.time
    assert checked >= 2


class Dry:
    """A generator whose `random()` gives neither reverberation nor background."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def random(self) -> float:
        return 0.99

    def __getattr__(self, name: str) -> object:
        return getattr(self.rng, name)


def test_contact_is_seen_when_it_is_said() -> None:
    """A thrown shape's lowest point is on the ground at its contact times, and above it shortly before."""
    stage = Stage(np.random.default_rng(5), 6.0, 0.0, 1.5, 0.8)
    KINDS["bounce"][0](stage)
    bodies = {s.voice: s for s in stage.shapes}
    falls = [e for e in stage.events if e.kind == "bounce" and e.strength > 0.1]
    assert len(falls) > 3
    for event in falls:
        body = bodies[event.voice]
        _, y, angle, _ = body.motion(event.time)
        assert y + body.depth(angle) == pytest.approx(0.8, abs=1e-6)
        assert body.motion(event.time - 0.02)[1] < y  # it was still falling


@pytest.mark.parametrize("kind", SILENT)
def test_silent_scenes_are_silent(kind: str, pool: Path, tmp_path: Path) -> None:
    make_clips(DrawnClipSpec(tmp_path, pool, seed=4, seconds=1.0, kind=kind, size=(64, 48), fps=25), 2)
    for fact in facts(tmp_path):
        assert fact["silent"] and fact["events"] == [] and fact["sounds"] == []
        audio = read_audio(tmp_path / f"{fact['id']}.flac", RATE)
        assert len(audio) == RATE and not audio.any()


def test_slide_is_as_loud_as_fast(pool: Path) -> None:
    stage = Stage(np.random.default_rng(1), 4.0, 0.0, 1.5, 0.85)
    KINDS["slide"][0](stage)
    event = max(stage.events, key=lambda e: e.strength)
    audio, _ = mix([event], Recordings.load(pool, "train"), Dry(0), 4.0)
    at = [event.time, (event.time + event.end) / 2, event.end - 0.05]
    start, middle, end = (np.abs(audio[round(t * RATE) :][: RATE // 20]).mean() for t in at)
    assert middle > 3 * max(start, end) and not audio[: round(event.time * RATE)].any()


def test_files_have_the_promised_form(pool: Path, tmp_path: Path) -> None:
    options = "--clips 1 --kind drums --seconds 2 --fps 30 --size 96 64"
    assert main([str(tmp_path), "--sounds", str(pool), *options.split()]) == 0
    fact = facts(tmp_path)[0]
    with av.open(str(tmp_path / f"{fact['id']}.mp4")) as media:
        assert [s.type for s in media.streams] == ["video"]
        shown = list(media.decode(video=0))
    assert len(shown) == 60 and (shown[0].width, shown[0].height) == (96, 64) and shown[0].time == 0
    with av.open(str(tmp_path / f"{fact['id']}.flac")) as media:
        assert (media.streams.audio[0].rate, media.streams.audio[0].channels) == (RATE, 1)
    assert all({"time", "kind", "material", "size", "strength", "sound"} <= set(e) for e in fact["events"])


def test_bad_recordings_are_named_and_left_out(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(open(pool / "sounds.csv", encoding="utf-8", newline="")))
    for row in rows:
        (tmp_path / row["file"]).write_bytes((pool / row["file"]).read_bytes())
    write_table(tmp_path, rows)
    train = sorted(split_files([r for r in rows if not r["file"].startswith("speech")], "train"))
    missing, cut, foreign, long = train[:4]
    (tmp_path / missing).unlink()
    (tmp_path / cut).write_bytes((pool / cut).read_bytes()[:2000])
    (tmp_path / foreign).write_text("no sound")
    (tmp_path / long).write_bytes((pool / "clap0.flac").read_bytes())
    for row in rows:
        row["seconds"] = "9.0" if row["file"] == long else row["seconds"]
    write_table(tmp_path, rows)
    make_clips(DrawnClipSpec(tmp_path / "out", tmp_path, seconds=1.0, size=(64, 48)), 1)
    printed = capsys.readouterr()
    assert all(f"skipped sound {name}" in printed.err for name in (missing, cut, foreign, long))
    assert "4 sound files skipped" in printed.out and not set(facts(tmp_path / "out")[0]["sounds"]) & set(train[:4])


def test_pool_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), "--sounds", str(tmp_path)]) == 1
    write_table(tmp_path, [])
    with pytest.raises(PoolError, match="no usable recording"):
        Recordings.load(tmp_path, "train")
    (tmp_path / "sounds.csv").write_text("name\nx\n")
    assert main([str(tmp_path / "out"), "--sounds", str(tmp_path)]) == 1
    assert "file, label and seconds" in capsys.readouterr().err


def test_splits_share_nothing_and_leave_speech_out(pool: Path) -> None:
    parts = {split: Recordings.load(pool, split).groups for split in SPLITS}
    files = {s: {f for labels in g.values() for names in labels.values() for f in names} for s, g in parts.items()}
    everything = set().union(*files.values())
    assert len(everything) == sum(map(len, files.values())) == 3 * len(GROUPS)
    assert all(set(groups) == set(GROUPS) for groups in parts.values())
    assert not any(name.startswith("speech") for name in everything)


def test_every_material_has_a_look_and_recordings() -> None:
    assert set(LOOKS) == set(GROUPS) - {"ambience"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_scene_is_named(jobs: int, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if jobs == 1:
        monkeypatch.setitem(KINDS, "bad", (lambda stage: stage.rng.uniform(1, 0), 0.0))  # else no such scene
    with pytest.raises(ClipError, match=r"train-0007-00000 \(seed 7, split train, index 0\): .*Error: .*(- low|bad)"):
        make_clips(DrawnClipSpec(tmp_path, pool, seed=7, seconds=1.0, kind="bad", size=(64, 48)), 1, jobs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [0.25, 0.3, 0.65, 1.8])
@pytest.mark.parametrize("seconds", [0.5, 10.0])
def test_scenes_fit_any_lane(width: float, seconds: float) -> None:
    for name, (scene, _) in KINDS.items():
        for seed in range(8):
            stage = Stage(np.random.default_rng(seed), seconds, 0.1, 0.1 + width, 0.8)
            scene(stage)
            assert all(0 <= e.time < seconds and 0 < e.strength <= 1 and e.size > 0 for e in stage.events), name
            assert (name in SILENT) <= (not stage.events)


def test_blur_keeps_the_moment() -> None:
    """Sub-frames are centred on the frame's time, so a steadily moving shape is blurred around its true position."""
    stage = Stage(np.random.default_rng(0), 1.0, 0.0, 1.0, 2.0)
    stage.add("card", 0.1).motion = lambda t: (0.2 + 0.6 * t, 0.5, 0.0, 0.0)
    centres = []
    for blur in (1, 4):
        film = Film(128, 128, 10, 1.0, blur=blur)
        still, moving = (
            list(render_frames(s, film, np.random.default_rng(1))) for s in (Stage(stage.rng, 1, 0, 1, 2), stage)
        )
        change = np.abs(moving[5].astype(int) - still[5]).sum((0, 2))
        centres.append((change * np.arange(128)).sum() / change.sum() / 128)
    assert centres[0] == pytest.approx(0.5, abs=0.02) and centres[1] == pytest.approx(centres[0], abs=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--clips -3", "--clips is -3"),
        ("--jobs 0", "--jobs is 0"),
        ("--seed -1", "--seed is -1"),
        ("--seconds nan", "--seconds is nan"),
        ("--fps 0", "--fps is 0"),
        ("--size 33 48", "--size is 33 48; both must be even"),
        ("--sounds none", "sounds.csv is missing"),
    ],
)
def test_impossible_orders_are_refused_in_one_line(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    assert main([str(tmp_path / "out"), "--sounds", str(pool), *options.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_file_in_place_of_the_folder_is_refused(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("")
    assert main([str(tmp_path / "out"), "--sounds", str(pool)]) == 1
    assert "is a file; give a folder" in capsys.readouterr().err


AUTHORS = [f"author{i}" for i in range(40)]


def test_sessions_stay_on_one_side() -> None:
    rows = [
        {
            "file": f"{author}/{name}_{i}.flac",
            "label": name,
            "author": author,
            "source": author if i % 2 else f"{author}2",
        }
        for author in AUTHORS
        for name in ("dog_bark", "cow_moo")
        for i in range(3)
    ]
    large = [
        {"file": f"z/n{i}.flac", "label": f"rare{i}", "author": "z", "source": "z"} for i in range(LARGE_SESSION + 1)
    ]
    parts = [split_sessions(rows + large, split) for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(rows + large) and parts[1] and parts[2]
    for author in AUTHORS:  # both sources are one session: a recording has pieces of either
        assert any({row["file"] for row in rows if row["author"] == author} <= part for part in parts)
    assert {row["file"] for row in large} <= parts[0]
    assert {row["label"] for row in rows if row["file"] in parts[0]} == {"dog_bark", "cow_moo"}
