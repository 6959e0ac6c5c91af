"""Shards can be read by us and by WebDataset; damaged samples are reported and the rest stays readable."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="needs the extra train")

from train import shards as check_shards
from train.data import shard_files
from train.data.shard_files import FORMAT, SPLITS, ShardInfo, ShardSet, ShardWriter, Store, sample_key
from train.errors import ShardError

NAMES = ["-a_b", "dotted.name", "Ünïcode " + "x" * 120, "d", "e", "f"]


def arrays(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "codes": rng.integers(0, 16, (9, 20)).astype(np.uint16),
        "frame_features": rng.standard_normal((8, 5)).astype(np.float16),
    }


def write_set(url: str | Path, names: list[str] = NAMES, per_shard: int = 2) -> str:
    """A small finished set: the writer's real files, and a manifest."""
    store, infos = Store(url), []
    for number, first in enumerate(range(0, len(names), per_shard)):
        with ShardWriter(store, f"train-{number:05d}", "train", codebook_size=16) as shard:
            for n in range(first, min(first + per_shard, len(names))):
                shard.add(names[n], arrays(n), {"clip": names[n]})
            shard.drop(f"lost{number}", "silent", "peak -71.0 dBFS")
        infos.append(shard.info)
    shard_files.write_index(store, "train", infos)
    store.write_json("manifest.json", {"format": shard_files.FORMAT})
    return str(url)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    examples = ShardSet(write_set(tmp_path / "set"), "train")
    assert len(examples) == 6 and examples.keys == [sample_key(n) for n in NAMES] and not examples.bad
    for n in (5, 0, 3, -1):
        expected = arrays(n % 6)
        assert set(examples[n]) == set(expected)
        assert all(np.array_equal(examples[n][k], v) and examples[n][k].dtype == v.dtype for k, v in expected.items())
        assert examples.record(n) == {"clip": NAMES[n]}
    counts = sum(np.stack([np.bincount(r, minlength=16) for r in arrays(n)["codes"]]) for n in range(6))
    assert np.array_equal(examples.code_counts, counts)
    with pytest.raises(IndexError, match="sample 6 of 6"):
        examples[6]
    info = ShardInfo(**Store(tmp_path / "set").read_json("train-00001.json"))
    assert info.dropped == [{"clip": "lost1", "reason": "silent", "detail": "peak -71.0 dBFS"}]


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    write_set(tmp_path / "a"), write_set(tmp_path / "b")
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir()) and "train.index.npz" in names
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_webdataset_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the extra test")
    write_set(tmp_path)
    found = webdataset.WebDataset([str(tmp_path / f"train-{n:05d}.tar") for n in range(3)], shardshuffle=False).decode()
    samples = list(found)
    assert [s["__key__"] for s in samples] == [sample_key(n) for n in NAMES]
    for n, sample in enumerate(samples):
        assert all(np.array_equal(sample[f"{k}.npy"], v) for k, v in arrays(n).items())
        assert sample["json"] == {"clip": NAMES[n]}


def test_names_stay_different() -> None:
    names = ["a.b", "a%2Eb", "a/b", "a b", "a~b", "a_b"]
    keys = {sample_key(n) for n in names}
    assert len(keys) == len(names) and not any(set(k) & set("./~ ") for k in keys)


def test_damage_in_the_middle_costs_one_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = write_set(tmp_path)
    tar, info = tmp_path / "train-00001.tar", ShardInfo(**Store(url).read_json("train-00001.json"))
    content = bytearray(tar.read_bytes())
    content[info.samples[1][1] + 600] ^= 255
    tar.write_bytes(content)
    examples = ShardSet(url)
    assert len(examples) == 6
    with pytest.raises(ShardError, match=r"train-00001.tar: sample d cannot be read"):
        examples[3]
    assert np.array_equal(examples[2]["codes"], arrays(2)["codes"]) and len(examples[4]) == 2
    assert check_shards.main([url]) == 1
    output = capsys.readouterr()
    assert "train: 5 samples good, 1 samples or shards damaged" in output.out and "damaged" in output.err


def test_lost_and_cut_shards_are_left_out_and_listed(tmp_path: Path) -> None:
    url = write_set(tmp_path)
    (tmp_path / "train-00000.tar").unlink()
    tar = tmp_path / "train-00001.tar"
    tar.write_bytes(tar.read_bytes()[:-700])
    examples = ShardSet(url)
    assert examples.keys == ["e", "f"] and np.array_equal(examples[0]["codes"], arrays(4)["codes"])
    assert examples.bad[0] == "train-00000: it is missing" and "train-00001: it has " in examples.bad[1]
    (tmp_path / "train-00002.tar").unlink()
    with pytest.raises(ShardError, match="no samples of split train; first train-00000"):
        ShardSet(url)


def test_an_unfinished_set_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ShardError, match=r"no readable manifest\.json"):
        ShardSet(tmp_path / "none")
    url = write_set(tmp_path)
    with pytest.raises(ShardError, match=f"choose from {', '.join(SPLITS)}"):
        ShardSet(url, "val")
    with pytest.raises(ShardError, match=r"no readable test\.index\.npz"):
        ShardSet(url, "test")
    (tmp_path / "train.index.npz").write_bytes(b"PK no zip")
    with pytest.raises(ShardError, match=r"no readable train\.index\.npz"):
        ShardSet(url)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ShardError, match=f"format 99, not {FORMAT}"):
        ShardSet(url)
    with pytest.raises(ShardError, match="cannot be opened"):
        ShardSet("nosuchprotocol://x/y")
    assert check_shards.main([str(tmp_path / "none")]) == 1 and "error: " in capsys.readouterr().err


def test_a_broken_off_shard_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(Store(tmp_path), "train-00000", "train", 16) as shard:
        shard.add("a", arrays(0), {})
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(ShardError, match="already holds a sample a"):
        with ShardWriter(Store(tmp_path), "train-00000", "train", 16) as shard:
            shard.add("a", arrays(0), {})
            shard.add("a", arrays(1), {})


def test_sets_survive_pickling_and_forks(tmp_path: Path) -> None:
    examples = ShardSet(write_set(tmp_path))
    again = pickle.loads(pickle.dumps(examples))
    assert np.array_equal(again[1]["codes"], examples[1]["codes"])
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(examples[4]["codes"], arrays(4)["codes"]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_memory_urls_work_like_folders() -> None:
    examples = ShardSet(write_set("memory://bucket/set"))
    assert np.array_equal(examples[3]["codes"], arrays(3)["codes"]) and len(examples) == 6
