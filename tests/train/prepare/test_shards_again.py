"""Making shards again: in other processes, after a kill, after damage or a crash, and in batches."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from tests.support.corpus import command, video
from tests.support.tiny_system import tiny_components, write_system
from train.checkpoint import system_config
from train.data.shard_files import ShardSet, Store
from train.distributed import find_device
from train.errors import ShardError
from train.prepare import __main__ as prepare
from train.prepare import (
    folder,
    shard_worker,
)
from train.prepare.filters import Dropped


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.slow
def test_the_same_in_other_processes(made: Path, corpus: Path, system: Path, tmp_path: Path) -> None:
    options = ["--processes", "2"]
    assert prepare.main(command(corpus, system, tmp_path / "out", *options)) == 3
    assert contents(tmp_path / "out") == contents(made)


def test_a_run_goes_on_where_it_was_killed(made: Path, corpus: Path, system: Path, tmp_path: Path, monkeypatch) -> None:
    out, begun = tmp_path / "out", []
    real = shard_worker.encode_windows

    def stops(*arguments):
        begun.append(1)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(shard_worker, "encode_windows", stops)
    assert prepare.main(command(corpus, system, out)) == 75
    assert "plan.json" in contents(out) and "manifest.json" not in contents(out)
    with pytest.raises(ShardError, match="has no readable manifest"):
        ShardSet(out)
    kept = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert prepare.main(command(corpus, system, out)) == 3
    assert contents(out) == contents(made)
    assert all((out / name).stat().st_mtime_ns == time for name, time in kept.items())


def test_damaged_shards_are_made_again(made: Path, corpus: Path, system: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    tar = bytearray((out / "train-00000.tar").read_bytes())
    tar[700] ^= 255
    (out / "train-00000.tar").write_bytes(tar)
    (out / "validation-00000.tar").write_bytes(b"short")
    (out / "test-00000.json").write_text("{}")
    assert prepare.main(command(corpus, system, out)) == 3
    printed = capsys.readouterr().err
    assert "damaged validation-00000: it has 5 bytes" in printed and "damaged test-00000" in printed
    assert "train-00000" not in printed and contents(out) != contents(
        made
    )  # the size has not changed: only --check sees it
    assert prepare.main(command(corpus, system, out, "--check")) == 3
    assert "damaged train-00000: its bytes have changed" in capsys.readouterr().err
    assert contents(out) == contents(made)


def test_other_settings_are_refused(made: Path, corpus: Path, system: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    assert prepare.main(command(corpus, system, out, "--seed", "3", "--min-fps", "20")) == 1
    printed = capsys.readouterr().err
    assert (
        printed.startswith("error: ")
        and "seed was 0, is 3" in printed
        and "filters was" in printed
        and printed.count("\n") == 1
    )
    write_system(tmp_path / "other", {"codec": tiny_components()["codec"]})
    assert prepare.main(command(corpus, tmp_path / "other", out)) == 1
    assert "components was" in capsys.readouterr().err and contents(out) == contents(made)


def test_a_shard_that_fails_is_reported_and_the_others_are_made(
    made: Path, corpus: Path, system: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    real = shard_worker.ShardWriter

    def full(store: Store, name: str, *rest):
        if name == "train-00000":
            raise OSError(28, "No space left on device")
        return real(store, name, *rest)

    monkeypatch.setattr(shard_worker, "ShardWriter", full)
    assert prepare.main(command(corpus, system, tmp_path / "out")) == 3
    assert "failed train-00000: " in (printed := capsys.readouterr().err) and "No space left" in printed
    found = contents(tmp_path / "out")
    assert "manifest.json" not in found and "test-00000.tar" in found
    assert len(json.loads(found["report.json"])["failed_shards"]) == 1
    monkeypatch.undo()
    assert prepare.main(command(corpus, system, tmp_path / "out")) == 3
    assert contents(tmp_path / "out") == contents(made)


@pytest.mark.slow
def test_a_decoder_that_crashes_costs_one_clip(system: Path, corpus: Path) -> None:
    """In careful mode, another process reads the clips."""
    clips = [shard_worker.Clip(f"c{n}", p, p.name) for n, p in enumerate(sorted((corpus / "videos").iterdir())[:2])]
    config = system_config(folder.load_components(system))
    job = shard_worker.ShardSettings(str(system), "memory://x", config, shard_worker.Filters(), ())
    dead = shard_worker.Clip("dead", Killer("x"))  # type: ignore[arg-type]
    items = list(shard_worker.read_items(job, [clips[0], dead, clips[1]], careful=True))
    assert [getattr(i, "name", None) or i[0] for i in items] == ["c0", "dead", "c1"]
    assert isinstance(items[1][1], Dropped) and items[1][1].reason == "crashed"


class Killer(str):
    """A path that kills the process that opens it."""

    def __reduce__(self):
        import os

        return os._exit, (9,)


def test_windows_of_a_batch_do_not_see_each_other(corpus: Path, system: Path, tmp_path: Path) -> None:
    parts = folder.load_components(system)
    windows = []
    for n, seconds in enumerate((10, 4)):
        clip = shard_worker.Clip("c", video(tmp_path / f"{n}.mkv", seconds))
        windows.append(next(shard_worker.read_clip(clip, system_config(parts), LOOSE)).window)
    check_batch(parts, windows, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
def test_windows_on_a_gpu(system: Path, tmp_path: Path) -> None:
    parts = folder.load_components(system)
    clip = shard_worker.Clip("c", video(tmp_path / "a.mkv"))
    window = next(shard_worker.read_clip(clip, system_config(parts), LOOSE)).window
    check_batch(parts, [window, window], str(find_device("auto", 0)))


LOOSE = shard_worker.Filters(min_seconds=1.0)


def check_batch(parts: dict, windows: list, device: str) -> None:
    """Up to rounding, a batch on this device gives the same arrays as single windows on the CPU."""
    single = [shard_worker.encode_windows(parts, [window])[0] for window in windows]
    batch = shard_worker.encode_windows({n: p.to(device) for n, p in parts.items()}, windows, device)
    for one, other in zip(single, batch, strict=True):
        assert np.mean(one["codes"] == other["codes"]) > 0.99
        for name in ("clip_features", "sync_features", "audio_features"):
            assert np.allclose(one[name], other[name], rtol=1e-2, atol=1e-2)
