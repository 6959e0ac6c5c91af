"""MaskVAT's task: repeatable numbers on the given device, and the provenance that its recipe states."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from runtime.errors import OptionError
from tests.support.prepared import SMALL, write_prepared
from train.checkpoint import PROVENANCE, read_meta, save
from train.distributed import find_device
from train.errors import RecipeError
from train.models.maskvat import MaskVAT
from train.tasks.maskvat import MaskVATTask
from train.tasks.start_weights import FRAME_WEIGHTS

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("maskvat-task"), examples=2)


def make(root: Path, **changes: object) -> MaskVATTask:
    folders = {"data": str(root / "prepared"), "validation": str(root / "prepared"), "system": str(root / "system")}
    options = {**folders, "size": "tiny", "batch": 2, "crop_seconds": 1.0, "model": SMALL, "device": "cpu"}
    return MaskVATTask.from_options(options | changes, seed=0)


def numbers(task: MaskVATTask) -> list[float]:
    task.module.eval()
    found = task.backward(3)
    with torch.no_grad():
        return [*found.values(), *task.validate().values()]


def test_auto_gives_the_cpus_numbers_where_there_is_no_card(root: Path) -> None:
    assert numbers(make(root)) == numbers(make(root))
    if not torch.cuda.is_available():
        assert numbers(make(root, device="auto")) == numbers(make(root))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_the_cpus_numbers(root: Path) -> None:
    task = make(root, device="auto")
    assert all(p.is_cuda for p in task.module.parameters())
    assert numbers(task) == pytest.approx(numbers(make(root)), rel=0.02, abs=0.02)
    assert all(p.grad is not None and p.grad.is_cuda for p in task.module.parameters())


def test_an_absent_device_is_refused() -> None:
    for name in ("cuda:99", "gpu"):
        with pytest.raises(OptionError, match=f"no device '{name}' here; choose from auto, cpu"):
            find_device(name, 0)


def test_batches_move_whole(root: Path) -> None:
    task = make(root)
    batch = task.train_examples.validation_batch([0], task.n_tokens).to(torch.device("meta"))
    assert all(getattr(batch, f.name).device.type == "meta" for f in fields(batch))


@pytest.mark.parametrize("stated", [{}, {"data_licence": "my own clips", "origin": "my recipe"}])
def test_provenance_is_what_the_recipe_states(root: Path, tmp_path: Path, stated: dict[str, str]) -> None:
    task = make(root, **stated)
    task.finish(tmp_path)
    found = read_meta(root / "system")["components"]["maskvat"]["provenance"]
    expected = {"data_licence": "not stated", "origin": "not stated"} | stated
    assert found.items() >= (expected | {"code_licence": "Apache-2.0", "trained": True}).items()


def test_bad_prepared_examples_are_named_and_left_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(root / "prepared", folder)
    whole = (folder / "0.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.npz").write_bytes(b"not an archive")
    with np.load(folder / "0.npz") as arrays:
        rest = {name: arrays[name] for name in arrays if name != "codes"}
        np.savez(folder / "part.npz", **rest)
        endless = {"frame_features": np.full((80, arrays["frame_features"].shape[1]), np.inf, np.float16)}
        np.savez(folder / "endless.npz", codes=arrays["codes"], **(rest | endless))
        np.savez(folder / "wide.npz", codes=arrays["codes"], **(rest | {"sync_features": np.zeros((60, 5))}))
    assert len(make(root, data=str(folder)).train_examples) == 2
    words = capsys.readouterr().err
    assert all(f"skipped {name}.npz" in words for name in ("cut", "endless", "foreign", "part", "wide"))
    assert "lacks codes" in words and "5 of 7 prepared examples" in words
    for name in ("0", "1"):
        (folder / f"{name}.npz").unlink()
    with pytest.raises(RecipeError, match="5 skipped"):
        make(root, data=str(folder))


def test_training_starts_from_weights_for_another_frame_encoder(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All weights are kept but the layer that reads the frame features."""
    first = make(root)
    start = MaskVAT(replace(first.config, frame_dim=first.config.frame_dim + 1))
    save(tmp_path, "maskvat", start, "maskvat", dict.fromkeys(PROVENANCE, "test"))
    capsys.readouterr()
    state = make(root, start=str(tmp_path)).model.state_dict()
    assert "another frame encoder" in capsys.readouterr().out
    equal = {name for name, value in start.state_dict().items() if torch.equal(value, state[name])}
    assert {"frame_mlp.0.weight"} <= set(state) - equal <= set(FRAME_WEIGHTS)
    other = MaskVAT(replace(first.config, hidden_size=2 * first.config.hidden_size))
    save(tmp_path, "maskvat", other, "maskvat", dict.fromkeys(PROVENANCE, "test"))
    with pytest.raises(RecipeError, match="another configuration"):
        make(root, start=str(tmp_path))
