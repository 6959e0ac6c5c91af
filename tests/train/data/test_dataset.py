"""Training straight from shards: the same batches as from a folder, and a damaged sample in the middle."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engines.contract import ModelConfig
from tests.support.prepared import arrays, write_shards
from train.data.dataset import Examples, Folder, open_source
from train.data.sample_order import rows
from train.data.shard_files import ShardSet
from train.errors import RecipeError

pytestmark = pytest.mark.torch
CONFIG = ModelConfig(clip_dim=6, sync_dim=5, audio_dim=4)


@pytest.fixture
def examples() -> list[dict[str, np.ndarray]]:
    return [arrays(CONFIG, n) for n in range(5)]


def same(a: object, b: object) -> None:
    for name, value in vars(a).items():
        assert torch.equal(value, getattr(b, name)), name


def test_shards_give_the_batches_of_a_folder(tmp_path: Path, examples: list[dict[str, np.ndarray]]) -> None:
    (tmp_path / "folder").mkdir()
    for n, example in enumerate(examples):
        np.savez(tmp_path / "folder" / f"{n}.npz", **example)
    write_shards(tmp_path / "shards", examples)
    sources = [open_source(str(tmp_path / kind), "train", CONFIG) for kind in ("folder", "shards")]
    assert isinstance(sources[0], Folder) and isinstance(sources[1], ShardSet)
    folder, shards = (Examples(source, CONFIG) for source in sources)
    chosen = rows(seed=1, step=3, batch=4, n=5)
    same(folder.training_batch(chosen, 1, 300, 0.5), shards.training_batch(chosen, 1, 300, 0.5))
    assert torch.equal(folder.frequencies(), shards.frequencies()) and shards.frequencies().sum() == 5 * 9 * 862


def test_what_is_drawn_for_a_row_does_not_depend_on_its_batch(
    tmp_path: Path, examples: list[dict[str, np.ndarray]]
) -> None:
    write_shards(tmp_path, examples)
    source = Examples(open_source(str(tmp_path), "train", CONFIG), CONFIG)
    chosen = rows(seed=1, step=3, batch=6, n=5)
    whole, part = source.training_batch(chosen, 1, 300, 0.5), source.training_batch(chosen[2:4], 1, 300, 0.5)
    assert torch.equal(whole.mask[2:4], part.mask) and torch.equal(whole.codes[2:4], part.codes)
    assert torch.equal(whole.drop[2:4], part.drop)
    other = source.training_batch(chosen[2:4], 2, 300, 0.5)
    assert not torch.equal(other.mask, part.mask)


def test_a_damaged_sample_is_named_once_and_the_next_takes_its_place(
    tmp_path: Path, examples: list[dict[str, np.ndarray]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path, examples)
    index = np.load(tmp_path / "train.index.npz")
    shard = tmp_path / "train-00000.tar"
    content = bytearray(shard.read_bytes())
    content[index["offset"][1] + 3000] ^= 255
    shard.write_bytes(content)
    source = Examples(open_source(str(tmp_path), "train", CONFIG), CONFIG)
    for _ in range(2):
        same(source.validation_batch([0, 1, 2], 300), source.validation_batch([0, 2, 2], 300))
    message = capsys.readouterr().err
    assert message.count("skipped prepared example 1: ") == 1 and "have changed" in message and source.bad == {1}


def test_a_lost_shard_is_named_and_nothing_usable_is_an_error(
    tmp_path: Path, examples: list[dict[str, np.ndarray]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path, examples)
    (tmp_path / "train-00000.tar").unlink()
    assert len(open_source(str(tmp_path), "train", CONFIG)) == 3
    assert "skipped shard train-00000: it is missing" in capsys.readouterr().err
    other = Examples(open_source(str(tmp_path), "train", CONFIG), ModelConfig(clip_dim=7, sync_dim=5, audio_dim=4))
    with pytest.raises(RecipeError, match=r"3 prepared examples in a row cannot be used.*made by other components"):
        other.validation_batch([0], 300)
