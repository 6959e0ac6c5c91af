"""`train.synthetic.sounding`: the same seed gives the same bytes, a third stays as today, bad input is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.audio import read_audio
from tests.support.sounding import COLUMNS, TABLE, write_pools, write_recordings, write_rows, write_scene
from train.synthetic.concepts.table import parse_table
from train.synthetic.recordings import RATE, PoolError
from train.synthetic.sounding.__main__ import main
from train.synthetic.sounding.plan import as_today, draw_seen
from train.synthetic.sounding.pool import ClassRecordings
from train.synthetic.splits import SPLITS

SCENES = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pools, a concept table, and scenes: every third one is silent, with or without movement."""
    folder = tmp_path_factory.mktemp("sounding")
    write_pools(folder)
    (folder / "table.csv").write_text(TABLE)
    for k in range(SCENES):
        times = () if k % 3 == 2 else tuple(0.5 + 0.45 * n + 0.01 * k for n in range(7))
        write_scene(folder / "scenes", k, times, (1.0, 3.0) if k % 2 else None)
    return folder


def command(root: Path, out: Path, *more: str, scenes: Path | None = None) -> list[str]:
    pools = ["--sounds", str(root / "materials"), "--class-sounds", str(root / "classes")]
    return [str(scenes or root / "scenes"), str(out), *pools, "--table", str(root / "table.csv"), *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def made(root: Path) -> Path:
    assert main(command(root, root / "made", "--per-scene", "4")) == 0
    return root / "made"


def metadata(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_every_clip_is_whole_and_shares_its_picture(root: Path, made: Path) -> None:
    clips = metadata(made)
    assert len(clips) == 4 * SCENES == len(contents(made)) / 3
    for clip in clips:
        picture = root / "scenes" / f"{clip['picture']}.mp4"
        assert (made / f"{clip['id']}.mp4").stat().st_ino == picture.stat().st_ino
        audio = read_audio(made / f"{clip['id']}.flac", RATE)
        assert len(audio) == 4 * RATE and clip["silent"] == (not audio.any()) and np.abs(audio).max() <= 1
        assert [e["time"] for e in clip["events"]] == sorted(e["time"] for e in clip["events"])
        assert bool(clip["credits"]) == bool(clip["sounds"]) and all(len(c) == 3 for c in clip["credits"])
        spans = clip["concepts"]
        assert not spans or (
            spans[0][0] == 0 and spans[-1][1] == 4 and all(sum(s[2].values()) in (0, 1) for s in spans)
        )


def test_a_third_stays_as_today(made: Path) -> None:
    clips = metadata(made)
    today = [clip for clip in clips if not clip["concepts"]]
    assert 3 * len(today) >= len(clips)
    for clip in today:
        assert clip["silent"] == (not clip["events"])  # silence stays silent
        assert all(e["concept"] == "" and e["material"] == "wood" for e in clip["events"])
    for variants in range(1, 7):
        kept = [as_today(scene, variant) for scene in range(20) for variant in range(variants)]
        for scenes in range(1, 21):
            assert 3 * sum(kept[: scenes * variants]) >= scenes * variants


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(root: Path, made: Path, tmp_path: Path) -> None:
    out = root / "again"
    assert main(command(root, out, "--per-scene", "4")) == 0
    assert contents(out) == contents(made)
    assert main(command(root, root / "other", "--per-scene", "4", "--seed", "2")) == 0
    assert {n.replace("s0002", "s0001") for n in contents(root / "other")} == set(contents(made))
    assert sorted(contents(root / "other").values()) != sorted(contents(made).values())


def test_it_resumes_and_more_scenes_change_nothing(root: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, out = root / "few", root / "resumed"
    for path in sorted((root / "scenes").glob("*0000[0-3].*")):
        scenes.mkdir(exist_ok=True)
        shutil.copy(path, scenes)
    assert main(command(root, out, "--per-scene", "2", scenes=scenes)) == 0
    some = sorted(out.glob("*.mp4"))[1]
    some.unlink()  # as after an interruption: the video comes last
    some.with_suffix(".flac").write_bytes(b"half")
    for path in sorted((root / "scenes").glob("*0000[45].*")):
        shutil.copy(path, scenes)
    capsys.readouterr()
    assert main(command(root, out, "--per-scene", "2", scenes=scenes)) == 0
    assert "5 of 12 clips to make" in capsys.readouterr().out
    first = contents(made)
    assert all(content == first[name] for name, content in contents(out).items() if not name.endswith(".mp4"))


def test_damaged_and_foreign_files_are_named_and_skipped(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes, classes = tmp_path / "scenes", tmp_path / "classes"
    shutil.copytree(root / "scenes", scenes)
    shutil.copytree(root / "classes", classes)
    broken, foreign, alien = sorted(scenes.glob("*.json"))[:3]
    broken.write_text('{"id"')
    foreign.write_text("[]")
    alien.write_text(json.dumps({**json.loads(alien.read_text()), "id": "another"}))
    write_scene(scenes, 9, split="val")
    (scenes / "movie.mp4").write_bytes(b"no json")
    for name in ("bang1x", "bark2x", "hum3x"):
        (classes / "classes" / f"{name}.flac").write_bytes(b"not a recording")
    (classes / "classes" / "pluck4x.flac").unlink()
    arguments = command(root, tmp_path / "out", scenes=scenes)
    arguments[arguments.index(str(root / "classes"))] = str(classes)
    assert main(arguments) == 0
    printed = capsys.readouterr()
    skipped = {line.split()[2].rstrip(":") for line in printed.err.splitlines() if line.startswith("skipped scene")}
    assert skipped == {p.with_suffix(".mp4").name for p in (broken, foreign, alien)} | {
        "movie.mp4", "val-0007-00009.mp4",
    }  # fmt: skip
    assert "belongs to the split val, not train" in printed.err and "3 scenes; 5 skipped" in printed.out
    used = ClassRecordings.load([], [classes], "train", ["bang", "bark", "hum", "pluck"])
    assert used.skipped and all(f"skipped sound {line}" in printed.err for line in used.skipped)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--sounds": "none"}, "sounds.csv is missing"),
        ({"--class-sounds": "none"}, "sounds.csv is missing"),
        ({"--table": "none"}, "cannot read the concept table"),
        ({"--per-scene": "0"}, "--per-scene is 0; it must lie between 1 and 100"),
        ({"scenes": "none"}, "is not a folder; give the output folder of train.synthetic.scenes"),
        ({"--split": "test"}, "has no usable scene of the split test (6 skipped; first train-0007-00000.mp4"),
    ],
)
def test_wrong_options_are_one_line(
    root: Path, tmp_path: Path, changes: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(root, tmp_path / "out", "--per-scene", "1", "--split", "train")
    for name, value in changes.items():
        arguments[arguments.index(name) + 1 if name != "scenes" else 0] = value
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and words in error


def test_wrong_pools_are_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write_recordings(tmp_path / "pool", ["bang"], 2, sessions=True)
    rows = [dict(zip(COLUMNS, ("a.flac", "bang", "1", "CC-BY-SA-4.0", "a", "b"), strict=True))]
    write_rows(pool, rows)
    with pytest.raises(PoolError, match=r"lists licences CC-BY-SA-4.0; allowed are CC0-1.0"):
        ClassRecordings.load([], [pool], "train", ["bang"])
    write_rows(pool, rows, COLUMNS[:3])
    with pytest.raises(PoolError, match="lacks the columns licence, author, source"):
        ClassRecordings.load([], [pool], "train", ["bang"])
    with pytest.raises(PoolError, match=r"lists 72 files of another pool, first classes/bang0x\.flac"):
        ClassRecordings.load([], [root / "classes", root / "classes"], "train", ["bang"])
    with pytest.raises(PoolError, match="have no usable recording of the split train"):
        ClassRecordings.load([], [root / "classes"], "train", ["meow"])
    table = tmp_path / "table.csv"
    table.write_text(TABLE.replace("bark", "meow"))
    arguments = command(root, tmp_path / "out")
    arguments[arguments.index("--table") + 1] = str(table)
    assert main(arguments) == 1 and "unknown label meow" in capsys.readouterr().err


def test_splits_share_no_recording_and_no_session(root: Path) -> None:
    parts = {}
    for split in SPLITS:
        pool = ClassRecordings.load([root / "materials"], [root / "classes"], split, ["bang", "bark", "hum", "pluck"])
        names = {recording.name for found in pool.labels.values() for recording in found}
        parts[split] = names, {pool.credits[name][1] for name in names}
    for n in (0, 1):
        sets = [part[n] for part in parts.values()]
        assert all(sets) and len(set().union(*sets)) == sum(map(len, sets))


def test_what_a_clip_shows() -> None:
    concepts = parse_table(TABLE, "t")
    drawn = [draw_seen(concepts, 10.0, np.random.default_rng(seed)) for seed in range(400)]
    for spans in drawn:
        assert spans[0].begin == 0 and spans[-1].end == 10 and all(s.end - s.begin >= 1.5 for s in spans)
        assert any(s.shown for s in spans) and all(sum(s.shown.values()) == pytest.approx(1) for s in spans if s.shown)
    sizes = [(len(spans), max(len(s.shown) for s in spans)) for spans in drawn]
    assert 200 < sizes.count((1, 1)) < 280 and 35 < sizes.count((1, 2)) < 90 and 60 < sizes.count((2, 1)) < 140
    assert {name for spans in drawn for s in spans for name in s.shown} == {c.name for c in concepts}
    one = [c for c in concepts if c.name == "dog"]
    assert all(name == "dog" for s in draw_seen(one, 2.0, np.random.default_rng(0)) for name in s.shown)
