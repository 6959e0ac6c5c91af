"""Preparing shards: their content, what is left out and why, splits, bad input, and the documented commands."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from tests.support.corpus import BAD, HERE, bad_videos, command, video
from train import shards as check_shards
from train.checkpoint import PREPARED_ARRAYS, system_config
from train.data import shard_files
from train.data.shard_files import ShardSet
from train.prepare import __main__ as prepare
from train.prepare import folder
from train.prepare.features import FrameGrid, Video, video_windows


def test_shards_hold_what_the_trainer_needs(made: Path, system: Path) -> None:
    sets = {split: ShardSet(made, split) for split in shard_files.SPLITS}
    assert {split: len(s) for split, s in sets.items()} == {"train": 2, "validation": 1, "test": 1}
    assert sets["test"].keys == ["clip-_00004_000040"]
    clip, record, manifest = sets["train"][0], sets["train"].record(0), sets["train"].manifest
    parts = folder.load_components(system)
    config = system_config(parts)
    assert clip["codes"].shape == (9, 862) and clip["codes"].dtype == np.uint16
    assert clip["clip_features"].shape == (80, config.clip_dim) and clip["clip_features"].dtype == np.float16
    assert clip["sync_features"].shape == (config.n_sync(862), config.sync_dim)
    assert clip["sync_times"][:2].tolist() == pytest.approx([0.02, 0.18])  # mixed_4d: frames 0 and 4 of 25 per second
    assert clip["audio_features"].shape == (62, 8, config.audio_dim)
    assert record["split"] == "train" and record["start"] == record["window"] * 10 + int(record["video"][-5:]) * 10
    assert record["fps"] == 25 and record["sounds"] == 1 and -3 < record["peak_dbfs"] < 0 and record["still"] < 0.1
    counts = sum(np.stack([np.bincount(r, minlength=config.codebook_size) for r in s["codes"]]) for s in sets["train"])
    assert np.array_equal(sets["train"].code_counts, counts)
    known = json.loads((system / "meta.json").read_text())["components"]
    assert {n: c["sha256"] for n, c in manifest["components"].items()} == {
        n: known[n]["sha256"] for n in PREPARED_ARRAYS
    }
    assert len(manifest["preprocessing"]["sha256"]) == 64 and manifest["samples"]["train"] == 2
    assert manifest["preprocessing"]["settings"]["filters"]["max_still"] == 0.8


def test_shards_and_single_files_hold_the_same(made: Path, corpus: Path, system: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(corpus / "videos" / "clip-_00004_000040.mkv", tmp_path / "videos")
    assert prepare.main([str(tmp_path / "videos"), str(system), str(tmp_path / "out")]) == 0
    clip = ShardSet(made, "test")[0]
    with np.load(tmp_path / "out" / "clip-_00004_000040.npz") as arrays:
        for name in ("codes", "clip_features", "sync_features"):
            assert np.array_equal(arrays[name], clip[name])
        assert np.allclose(arrays["audio_features"], clip["audio_features"], atol=2e-3)


def test_the_report_names_what_was_left_out(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    printed = {entry["clip"]: (entry["reason"], entry["detail"]) for entry in report["dropped"]}
    assert printed["clip-_00003_000030"][0] == "unreadable" and "not a video" in printed["clip-_00003_000030"][1]
    assert printed["clip-_00005_000050"][0] == "missing" and len(printed) == 2
    assert report["reasons"] == {"missing": 1, "unreadable": 1} and report["complete"] is False


def test_every_filter_has_its_reason_and_its_option(system: Path, tmp_path: Path, capsys) -> None:
    bad_videos(tmp_path / "videos")
    video(tmp_path / "videos" / "good.mkv")
    base = [str(tmp_path / "videos"), str(system), str(tmp_path / "out"), "--source", "folder", *HERE]
    assert prepare.main([*base, "--validation", "0"]) == 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {d["clip"]: d["reason"] for d in report["dropped"]} == BAD
    assert report["samples"] == {"train": 1, "validation": 0, "test": 0}
    printed = capsys.readouterr().out
    assert all(f"left out, {reason}: 1\n" in printed for reason in BAD.values())
    loose = ["--silence-peak", "-120", "--silence-rms", "-120", "--min-seconds", "5", "--min-fps", "10"]
    again = [*base, "--validation", "0", *loose, "--max-gap", "0.5", "--max-still", "1"]
    again[2] = str(tmp_path / "loose")
    assert prepare.main(again) == 3
    kept = set(ShardSet(tmp_path / "loose").keys)
    assert kept == {"good", "brief", "slow", "late", "frozen"}  # digital silence stays out: it has no variance
    for name in ("mute", "noise", "heard"):
        (tmp_path / "videos").joinpath(f"{name}.mkv").unlink(missing_ok=True)
        (tmp_path / "videos").joinpath(f"{name}.mp4").unlink(missing_ok=True)
    again[2] = str(tmp_path / "clean")
    assert prepare.main(again) == 0


def test_long_videos_become_windows_and_splits_keep_videos_together(system: Path, tmp_path: Path) -> None:
    for n in range(4):
        video(tmp_path / "videos" / f"video-{n:05d}.mkv", seconds=21 if n == 0 else 10)
    names = [f"video-{n:05d}" for n in range(4)]
    (tmp_path / "music.json").write_text(json.dumps({"videos": {"tuba": names[:2], "erhu": [*names[2:], "x" * 11]}}))
    options = ["--source", "music21", "--table", str(tmp_path / "music.json"), "--validation", "1", "--test", "1"]
    assert prepare.main([str(tmp_path / "videos"), str(system), str(tmp_path / "out"), *options, *HERE]) == 0
    keys = {split: ShardSet(tmp_path / "out", split).keys for split in shard_files.SPLITS}
    assert sorted(key for found in keys.values() for key in found) == sorted([*names, "video-00000-w1"])
    videos = {split: {key[:11] for key in found} for split, found in keys.items()}
    assert [len(videos[s]) for s in shard_files.SPLITS] == [2, 1, 1]
    split = next(s for s, found in keys.items() if "video-00000" in found)
    assert "video-00000-w1" in keys[split]
    record = ShardSet(tmp_path / "out", split).record(keys[split].index("video-00000-w1"))
    assert (record["window"], record["start"]) == (1, 10)


def test_a_whole_video_is_cut_where_the_table_says(system: Path, tmp_path: Path) -> None:
    video(tmp_path / "videos" / "abcdefghijk.mkv", seconds=25)
    (tmp_path / "segments.csv").write_text(
        '# AudioSet\nabcdefghijk, 12.000, 22.000, "/m/0"\nabcdefghijk, 30.0, 40.0, x\n'
    )
    options = ["--source", "audioset", "--table", str(tmp_path / "segments.csv"), "--validation", "0"]
    assert prepare.main([str(tmp_path / "videos"), str(system), str(tmp_path / "out"), *options, *HERE]) == 0
    clips = ShardSet(tmp_path / "out")
    assert clips.keys == ["abcdefghijk_12000_22000"] and clips.record(0)["start"] == 12
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["reasons"] == {"short": 1} and report["dropped"][0]["clip"] == "abcdefghijk_30000_40000"
    config = system_config(folder.load_components(system))
    with Video(tmp_path / "videos" / "abcdefghijk.mkv") as film:
        frames, _ = next(video_windows(film, config, 12.0))
        every = [f for _, f in film.sample([FrameGrid(config.clip_fps, config.clip_resize, config.clip_size)])]
    assert np.array_equal(frames[0], every[96]) and np.array_equal(frames[79], every[175])


# ---------------------------------------------------------------- options and input
def test_the_mean_of_the_bands(made: Path, corpus: Path, system: Path, tmp_path: Path) -> None:
    lists = tmp_path / "list.txt"
    lists.write_text("clip-_00004_40000_50000\n")
    more = ["--audio-bands", "mean", "--only", str(lists), "--validation", "0"]
    assert prepare.main(command(corpus, system, tmp_path / "out", *more)) == 0
    small, full = ShardSet(tmp_path / "out", "test")[0], ShardSet(made, "test")[0]
    assert small["audio_features"].shape == (62, 1, 16)
    mean = full["audio_features"].astype(np.float32).mean(axis=1, keepdims=True)
    assert np.allclose(small["audio_features"], mean, atol=2e-3)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["reasons"] == {"list": 4, "missing": 1} and report["complete"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--table", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--source", "music21"], "is not {"),
        (["--validation", "3"], "3 validation clips are more than half of the 4 training clips"),
        (["--shard-clips", "0"], "--shard-clips is 0; it must be 1 or more"),
        (["--test", "3"], "--test does not work with vggsound"),
        (["--frames"], "--frames does not work with --source"),
        (["--only", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_bad_options_are_one_line(
    more: list[str], words: str, corpus: Path, system: Path, tmp_path: Path, capsys
) -> None:
    assert prepare.main(command(corpus, system, tmp_path / "out", *more)) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and words in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_one_line(corpus: Path, system: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert prepare.main(command(corpus, system, tmp_path / "out", "--ray", "auto")) == 1
    assert capsys.readouterr().err == "error: ray is not installed; install it with: pip install '.[ray]'\n"
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert prepare.main(command(corpus, system, "s3://bucket/x")) == 1
    printed = capsys.readouterr().err
    assert (
        printed.startswith("error: s3://bucket/x cannot be opened")
        and "'.[s3]'" in printed
        and printed.count("\n") == 1
    )


def test_nothing_usable_is_an_error(system: Path, tmp_path: Path, capsys) -> None:
    bad_videos(tmp_path / "videos")
    base = [str(tmp_path / "videos"), str(system), str(tmp_path / "out"), "--source", "folder", *HERE]
    assert prepare.main([*base, "--validation", "0"]) == 1
    assert "error: none of the 8 clips can be used" in capsys.readouterr().err
    folders = [str(tmp_path / "videos"), str(system), str(tmp_path / "b")]
    assert prepare.main([*folders, "--source", "vggsound", *HERE]) == 1
    assert "--source vggsound needs its list" in capsys.readouterr().err


def test_the_commands_of_the_documentation(corpus: Path, system: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """The commands of docs/DATA.md, except those for S3 and Ray, which have their own tests."""
    shutil.copytree(corpus / "videos", tmp_path / "VGGSOUND")
    shutil.copytree(corpus / "videos", tmp_path / "videos")
    shutil.copy(corpus / "vggsound.csv", tmp_path)
    shutil.copytree(system, tmp_path / "system")
    guide = ROOT / "docs" / "DATA.md"
    lines = guide.read_text(encoding="utf-8").split("```")[1].strip().splitlines()
    monkeypatch.chdir(tmp_path)
    mains = {"train.prepare": prepare.main, "train.shards": check_shards.main}
    here = ["--processes", "0", "--threads", "1", "--validation", "1"]  # the corpus is tiny
    status = []
    for words in (line.split() for line in lines if "s3://" not in line):
        assert words[:2] == ["python", "-m"]
        status.append(mains[words[2]](words[3:] + (here if words[2] == "train.prepare" else [])))
    assert status == [3, 0, 3]  # one of the files is no video
    assert len(ShardSet(tmp_path / "shards")) == 3 and len(ShardSet(tmp_path / "vggsound")) == 2
