"""Frame features that are made up in training: repeatable, new in every epoch, and named if they cannot be made."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engines.contract import ModelConfig
from tests.support.prepared import arrays, write_shards
from train.data import dataset
from train.data.batch import Hiding
from train.data.dataset import Examples, open_source
from train.data.sample_order import Row, rows
from train.data.video_files import concepts_inside, read_shown, video_concepts
from train.errors import RecipeError
from train.synthetic.concepts.features import ClassifierHead, FeatureMaker
from train.synthetic.concepts.table import CLASSES, Concept
from train.tasks import made_up_features as module
from train.tasks.made_up_features import MadeUpFeatures, made_up_features

pytestmark = pytest.mark.torch
WIDTH = 24
KEPT = Hiding(both=0.0)
CONFIG = ModelConfig(frame_dim=CLASSES, sync_dim=5, audio_dim=4)
TABLE = [Concept("dog", "burst", (0, 1), ("bark",)), Concept("harp", "notes", (2,), ("pluck",))]
SHOWN = [[0.0, 5.0, {"dog": 1.0}], [5.0, 10.0, {"dog": 0.4, "harp": 0.6}]]


def numbers() -> dict[str, np.ndarray]:
    """The arrays of a file of backgrounds."""
    rng = np.random.default_rng(0)
    return {
        "weight": rng.standard_normal((CLASSES, WIDTH)).astype(np.float32),
        "bias": np.zeros(CLASSES, np.float32),
        "pooled": rng.uniform(0, 1, (30, WIDTH)).astype(np.float16),
        "lengths": np.array([10, 20]),
    }


def maker(width: int = CLASSES) -> MadeUpFeatures:
    found = numbers()
    head = ClassifierHead(found["weight"], found["bias"])
    backgrounds = np.split(found["pooled"].astype(np.float32), [10])
    return MadeUpFeatures(FeatureMaker(TABLE, head, backgrounds), width, 8)


def clips(count: int = 4, shown: list | None = None) -> list[dict[str, np.ndarray]]:
    """Every second clip shows concepts."""
    found = [arrays(CONFIG, n) for n in range(count)]
    for clip in found[1::2]:
        del clip["frame_features"]
        clip["concepts"] = np.array(json.dumps(shown or SHOWN))
    return found


def write_folder(folder: Path, found: list[dict[str, np.ndarray]]) -> Path:
    folder.mkdir()
    for n, clip in enumerate(found):
        np.savez(folder / f"{n}.npz", **clip)
    return folder


def examples(place: Path, made_up: MadeUpFeatures | None) -> Examples:
    return Examples(open_source(str(place), "train", CONFIG), CONFIG, make_features=made_up)


def test_features_are_repeatable_and_differ_between_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "NOTHING_KNOWN", 0.0)
    source = examples(write_folder(tmp_path / "a", clips()), maker())
    again = examples(tmp_path / "a", maker())
    chosen = rows(seed=1, step=0, batch=8, n=4)  # two epochs
    batch = source.training_batch(chosen, 1, 300, KEPT)
    again.training_batch(chosen[4:6], 1, 300, KEPT)  # what was read before does not matter
    same = again.training_batch(chosen, 1, 300, KEPT)
    assert torch.equal(batch.frame, same.frame) and torch.equal(batch.codes, same.codes)
    part = again.training_batch(chosen[2:5], 1, 300, KEPT)  # nor does the batch
    assert torch.equal(part.frame, batch.frame[2:5])
    for sample in range(4):
        first, second = (Row(0, epoch, sample) for epoch in (0, 1))
        both = (
            source.training_batch([first, first], 1, 862, KEPT).frame,
            source.training_batch([second], 1, 862, KEPT).frame,
        )
        assert torch.equal(both[0][0], both[0][1])
        assert torch.equal(both[0][0], both[1][0]) == (sample % 2 == 0)
    other = source.training_batch(chosen, 2, 300, KEPT)
    made_up = [n for n, row in enumerate(chosen) if row.sample % 2]
    assert not any(torch.equal(other.frame[n], batch.frame[n]) for n in made_up)


def test_validation_always_sees_the_same_features(tmp_path: Path) -> None:
    source = examples(write_folder(tmp_path / "a", clips()), maker())
    first, again = (source.validation_batch([0, 1, 3], 300).frame for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first[1], first[2])


def test_shards_give_the_features_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", clips())
    write_shards(tmp_path / "shards", clips())
    chosen = rows(seed=1, step=3, batch=4, n=4)
    batches = [examples(tmp_path / n, maker()).training_batch(chosen, 1, 300, Hiding()) for n in ("folder", "shards")]
    assert torch.equal(batches[0].frame, batches[1].frame)


def test_features_show_their_concepts_in_time() -> None:
    made_up = maker()
    found = np.mean([made_up(read_shown(SHOWN), 80, np.random.default_rng(seed)) ** 2 for seed in range(20)], axis=0)
    assert found.shape == (80, CLASSES) and found.sum(1) == pytest.approx(np.ones(80), abs=1e-3)
    dog, harp = found[:, :2].sum(1), found[:, 2]
    assert dog[:40].mean() > 4 * harp[:40].mean() and harp[40:].mean() > 4 * harp[:40].mean()
    assert dog[:40].mean() > 1.3 * dog[40:].mean()
    pooled = maker(WIDTH)(read_shown(SHOWN), 80, np.random.default_rng(0))
    assert pooled.shape == (80, WIDTH) and np.linalg.norm(pooled, axis=1) == pytest.approx(np.ones(80), abs=1e-5)


def test_some_examples_get_the_words_of_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, these are the vectors that a bundle's vocabulary has; blended, they lie between them and a picture."""
    monkeypatch.setattr(module, "PROMPTED", 1.0)
    both = np.zeros(CLASSES, np.float32)  # SHOWN's second half: 0.4 of a dog, 0.6 of a harp
    both[[0, 1, 2]] = 0.4 * 0.5**0.5, 0.4 * 0.5**0.5, 0.6
    both /= np.linalg.norm(both)
    for blended in (0.0, 1.0):
        monkeypatch.setattr(module, "BLENDED", blended)
        found = [maker()(read_shown(SHOWN), 80, np.random.default_rng(seed)) for seed in range(5)]
        near = np.array([features[40:] @ both for features in found])
        assert near == pytest.approx(np.ones_like(near), abs=1e-5) if blended == 0 else (near > 0.5).all()
        assert np.linalg.norm(found, axis=-1) == pytest.approx(np.ones((5, 80)), abs=1e-3)
        assert any((n < 0.999).any() for n in near) == bool(blended)


def test_examples_without_concepts_sometimes_show_nothing_known(tmp_path: Path) -> None:
    """Their own features are those of simulated pictures, and no real picture looks like these."""
    source = examples(write_folder(tmp_path / "a", clips()), maker())
    found = [source.example(0, np.random.default_rng(seed))["frame_features"] for seed in range(40)]
    own = arrays(CONFIG, 0)["frame_features"]
    kept = sum(np.array_equal(features, own) for features in found)
    assert 20 <= kept <= 36 and all(features.shape == own.shape for features in found)
    plain = examples(tmp_path / "a", None)
    assert all(np.array_equal(plain.example(0, np.random.default_rng(n))["frame_features"], own) for n in range(9))


def test_the_shortest_spans_and_counts() -> None:
    short = read_shown([[0, 0.01, {"dog": 1}], [0.01, 0.02, {}], [0.02, 0.03, {"harp": 1}]])
    for count in (1, 2, 80):
        assert maker()(short, count, np.random.default_rng(0)).shape == (count, CLASSES)


def test_unknown_concepts_are_named_once_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = clips(5)
    found[1]["concepts"] = np.array(json.dumps([[0, 10, {"unicorn": 1.0}]]))
    found[3]["concepts"] = np.array("[[1, 0, {}]]")
    source = examples(write_folder(tmp_path / "a", found), maker())
    for _ in range(2):
        batch = source.validation_batch([1, 3], 300)
        assert torch.equal(batch.codes, source.validation_batch([2, 4], 300).codes)
    printed = capsys.readouterr().err
    assert printed.count("concepts that the table lacks: unicorn") == 1 and printed.count("must follow each other") == 1


def test_without_a_maker_training_refuses_at_once(tmp_path: Path) -> None:
    source = examples(write_folder(tmp_path / "a", clips()), None)
    with pytest.raises(RecipeError, match=r"set task.concepts to the file that `python -m train.prepare.backgrounds`"):
        source.validation_batch([1], 300)


def test_a_file_of_backgrounds(tmp_path: Path) -> None:
    path = tmp_path / "concepts.npz"
    np.savez(path, **numbers())
    made_up = made_up_features(str(path), CLASSES, 8, TABLE)
    assert made_up is not None and [len(b) for b in made_up.maker.backgrounds] == [10, 20]
    shown = read_shown(SHOWN)
    first, second = (m(shown, 80, np.random.default_rng(3)) for m in (made_up, maker()))
    assert np.array_equal(first, second)
    assert made_up_features("", CLASSES, 8) is None
    with pytest.raises(RecipeError, match="are 77 wide; made-up ones are 1000 or 24 wide"):
        made_up_features(str(path), 77, 8, TABLE)
    for damage in (lambda: path.write_bytes(path.read_bytes()[:99]), path.unlink, lambda: np.savez(path, a=1)):
        damage()
        with pytest.raises(RecipeError, match=r"task.concepts: .*make it with `python -m train.prepare.backgrounds`"):
            made_up_features(str(path), CLASSES, 8, TABLE)


WRONG = [3, [3], [[0, 1]], [[0, 1, ["dog"]]], [[0, 1, {"dog": 0}]], [[0, 2, {}], [1, 3, {}]], [[0, float("nan"), {}]]]


@pytest.mark.parametrize("spans", WRONG)
def test_what_is_no_list_of_spans_is_refused(tmp_path: Path, spans: object) -> None:
    with pytest.raises(ValueError, match="spans"):
        read_shown(spans)
    (tmp_path / "a.json").write_text(json.dumps({"concepts": spans}))
    with pytest.raises(ValueError, match=r"a.json does not say which concepts are seen"):
        video_concepts(tmp_path / "a.mp4")


def test_spans_of_a_window() -> None:
    shown = read_shown([[0, 12, {"dog": 1}], [12, 25, {}]])
    assert concepts_inside(shown, 0, 10) == [(0, 10, {"dog": 1})]
    assert concepts_inside(shown, 10, 10) == [(0, 2, {"dog": 1}), (2, 10, {})]
    assert video_concepts(Path("nowhere.mp4")) == [] == concepts_inside([], 0, 10)
