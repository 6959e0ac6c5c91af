"""A system folder survives two writers at once, and a writer that is killed at any moment."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tests.support.tiny_system import tiny_components, write_system
from train import checkpoint
from train.errors import CheckpointError

pytestmark = pytest.mark.torch
PROVENANCE = dict.fromkeys(checkpoint.PROVENANCE, "-")


@dataclass(frozen=True)
class Config:
    level: int


class Constant(nn.Module):
    """A component of one number; its configuration must always come with the weights that it was saved with."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.full((3,), float(config.level)))

    @classmethod
    def from_config(cls, values: dict) -> "Constant":
        module = cls(Config(**values))
        nn.init.zeros_(module.weight)
        return module


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoint.KINDS, "codec", f"{__name__}:Constant")
    resolve = checkpoint.resolve
    monkeypatch.setattr(checkpoint, "resolve", lambda r: Constant if r.endswith(":Constant") else resolve(r))


def save(folder: Path, name: str, level: int) -> Path:
    return checkpoint.save(folder, name, Constant(Config(level)), "codec", PROVENANCE)


def level(folder: Path, name: str = "codec") -> int:
    """The level that a component was saved with; checks that weights and configuration belong together."""
    module = checkpoint.load(folder, name)
    assert (module.weight == module.config.level).all()
    assert checkpoint.read_meta(folder)["components"][name]["config"] == {"level": module.config.level}
    return module.config.level


def in_child(function: Callable, *args: object) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    return process


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after_call(number: int, function: Callable) -> Callable:
    calls = []

    def wrapped(*args: object) -> None:
        function(*args)
        calls.append(args)
        if len(calls) == number:
            die()

    return wrapped


def save_and_die(folder: Path, at: str) -> None:
    """Save the codec, and be killed just after the weights are written, described, replaced, or all is done."""
    descriptions = 2 if (folder / "codec.safetensors").exists() else 1  # times that meta.json is written
    if at == "weights":
        checkpoint.write_tensors = dies_after_call(1, checkpoint.write_tensors)
    elif at == "described":
        checkpoint.write_json = dies_after_call(1, checkpoint.write_json)
    elif at == "finished":
        checkpoint.write_json = dies_after_call(descriptions, checkpoint.write_json)
    elif at == "replaced":
        replace = os.replace

        def replace_and_die(source: Path, target: Path) -> None:
            replace(source, target)
            if Path(target).name == "codec.safetensors":
                die()

        os.replace = replace_and_die
    save(folder, "codec", 2)


def die_while_saving(folder: Path, at: str) -> None:
    child = in_child(save_and_die, folder, at)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(("at", "left"), [("weights", 1), ("described", 1), ("replaced", 2), ("finished", 2)])
def test_a_kill_while_saving_leaves_the_old_component_or_the_new_one(tmp_path: Path, at: str, left: int) -> None:
    save(tmp_path, "scav", 7)
    save(tmp_path, "codec", 1)
    die_while_saving(tmp_path, at)
    assert level(tmp_path) == left and level(tmp_path, "scav") == 7
    save(tmp_path, "scav", 8)  # another component is saved into the folder as it was left
    assert level(tmp_path) == left and level(tmp_path, "scav") == 8
    die_while_saving(tmp_path, at)  # twice in a row
    assert level(tmp_path) in (left, 2)
    save(tmp_path, "codec", 3)
    assert level(tmp_path) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "codec.safetensors", "meta.json", "scav.safetensors"]
    assert "previous" not in (tmp_path / "meta.json").read_text()


@pytest.mark.parametrize("at", ["weights", "replaced", "finished"])
def test_a_kill_while_saving_a_first_component_leaves_the_others(tmp_path: Path, at: str) -> None:
    save(tmp_path, "scav", 7)
    die_while_saving(tmp_path, at)
    assert level(tmp_path, "scav") == 7
    if at == "finished":
        assert level(tmp_path) == 2
    else:
        with pytest.raises(CheckpointError, match="has no component 'codec', only scav"):
            checkpoint.load(tmp_path, "codec")
    save(tmp_path, "codec", 3)
    assert level(tmp_path) == 3


def test_an_error_while_saving_leaves_the_old_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "codec", 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("write_tensors", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, full)
            with pytest.raises(OSError, match="No space"):
                save(tmp_path, "codec", 2)
        assert level(tmp_path) == 1


def save_often(folder: Path, name: str, barrier: object) -> None:
    barrier.wait()
    for number in range(20):
        save(folder, name, number)


def test_two_processes_that_save_at_once_lose_nothing(tmp_path: Path) -> None:
    barrier = multiprocessing.get_context("fork").Barrier(3)
    children = [in_child(save_often, tmp_path, name, barrier) for name in ("codec", "scav", "sync_encoder")]
    while any(child.is_alive() for child in children):
        for name in checkpoint.read_meta(tmp_path)["components"]:  # a reader meanwhile sees whole components
            level_while_saved(tmp_path, name)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert {name: level(tmp_path, name) for name in ("codec", "scav", "sync_encoder")} == dict.fromkeys(
        ("codec", "scav", "sync_encoder"), 19
    )


def level_while_saved(folder: Path, name: str) -> None:
    try:
        checkpoint.load(folder, name)
    except CheckpointError as error:
        assert "sha256 differs" in str(error)  # replaced twice between two looks: rare, and never wrong weights


def test_a_system_that_was_saved_before_still_loads(tmp_path: Path) -> None:
    path = save(tmp_path, "codec", 1)
    entry = json.loads((tmp_path / "meta.json").read_text())["components"]["codec"]
    assert set(entry) == {"kind", "config", "provenance", "sha256"}  # the format of before, and nothing else
    (tmp_path / ".lock").unlink()
    assert level(tmp_path) == 1 and path == tmp_path / "codec.safetensors"


def test_without_file_locks_saving_warns_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(checkpoint, "locked", refuse)
    save(tmp_path, "codec", 1)
    assert level(tmp_path) == 1
    assert "cannot lock" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "field"), [("maskvat", "clip_fps"), ("scav", "clip_dim")])
def test_components_of_contract_2_are_refused_with_the_command(tmp_path: Path, name: str, field: str) -> None:
    write_system(tmp_path, {name: tiny_components()[name]})
    meta = json.loads((tmp_path / "meta.json").read_text())
    meta["components"][name]["config"][field] = meta["components"][name]["config"].pop(field.replace("clip", "frame"))
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(
        CheckpointError, match=f"contract 2 .it has {field}.; train it again with `python -m train.fit`"
    ):
        checkpoint.load(tmp_path, name)


# ---------------------------------------------------------------- what prepared data depends on
def test_a_codecs_encoding_has_a_digest_of_its_own(tmp_path: Path) -> None:
    """Training the decoder further keeps it; anything that changes codes changes it."""
    parts = {name: tiny_components()[name] for name in ("codec", "frame_encoder")}
    codec = parts["codec"]
    write_system(tmp_path, parts)
    components = checkpoint.read_meta(tmp_path)["components"]
    assert checkpoint.encoding_sha256(tmp_path, "frame_encoder") == components["frame_encoder"]["sha256"]
    before = checkpoint.encoding_sha256(tmp_path, "codec")

    def changed(name: str) -> bool:
        state = {k: v + 1 if k == name else v for k, v in codec.state_dict().items()}
        checkpoint.save(tmp_path, "codec", codec, "framecodec", PROVENANCE, state)
        assert checkpoint.read_meta(tmp_path)["components"]["codec"]["sha256"] != components["codec"]["sha256"]
        return checkpoint.encoding_sha256(tmp_path, "codec") != before

    assert {name for name in codec.state_dict() if changed(name)} == {*codec.ENCODING}
    again = write_system(tmp_path / "again", {"codec": codec})
    meta = checkpoint.read_meta(again)
    entry = meta["components"]["codec"]
    config = entry["config"]

    def digest(other: dict[str, object]) -> str:
        entry["config"] = other
        (again / "meta.json").write_text(json.dumps(meta))
        return checkpoint.encoding_sha256(again, "codec")

    without = {key: value for key, value in config.items() if key != "gains"}  # as older codecs have it
    assert digest(config) == digest(without) == digest(config | {"gains": 0}) == before
    assert digest(config | {"bands": 64}) != before
    with pytest.raises(CheckpointError, match="no component 'scav'"):
        checkpoint.encoding_sha256(tmp_path, "scav")
