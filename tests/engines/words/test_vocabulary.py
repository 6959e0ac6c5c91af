"""A bundle's vocabulary: lookups, suggestions, and files that are refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.base import OptionError
from engines.contract import ModelConfig
from engines.manifest import MINI, Manifest, ManifestError
from engines.words.vocabulary import NULL_WORD, Vocabulary, write_vocabulary

CONFIG = ModelConfig(frame_dim=4)
EYE = np.eye(4, dtype=np.float32)
WORDS = {NULL_WORD: np.full(4, 3, np.float32), "dog": EYE[0], "big_cat": EYE[1], "Doorbell": EYE[2]}


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    write_vocabulary(tmp_path / "v.npz", WORDS)
    return Vocabulary.load(tmp_path / "v.npz", CONFIG)


def test_words_are_found_in_any_spelling(vocabulary: Vocabulary) -> None:
    assert vocabulary.words == ("dog", "big_cat", "Doorbell")
    for spelling in ("big cat", "BIG_CAT", " Big  cat "):
        assert spelling in vocabulary and np.array_equal(vocabulary.vector(spelling), EYE[1])
    assert np.array_equal(vocabulary.vector("[null]"), np.full(4, 3)) and vocabulary.vector("dog").dtype == np.float32


def test_unknown_words_suggest_similar_ones(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'doog'; similar words: dog.*runtime.info --words.* lists its 3 words"):
        vocabulary.vector("doog")
    with pytest.raises(OptionError, match=r"'xyz'; `python") as raised:
        vocabulary.vector("xyz")
    assert "similar" not in str(raised.value)
    write_vocabulary(tmp_path / "none.npz", {NULL_WORD: EYE[0]})
    with pytest.raises(OptionError, match="its vocabulary has no words"):
        Vocabulary.load(tmp_path / "none.npz", CONFIG).vector("dog")


def test_half_precision_is_kept(tmp_path: Path) -> None:
    vectors = {NULL_WORD: np.array([0.1, 0, 0, 0], np.float32), "dog": EYE[0]}
    write_vocabulary(tmp_path / "v.npz", vectors, "fp16")
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["vectors"].dtype == np.float16
    assert Vocabulary.load(tmp_path / "v.npz", CONFIG).vector(NULL_WORD)[0] == np.float16(0.1)


def test_equal_words_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_vocabulary(tmp_path / name, WORDS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_shipped_bundle_has_a_vocabulary() -> None:
    manifest = Manifest.load(MINI)
    vocabulary = Vocabulary.load(MINI / manifest.vocabulary, manifest.config)
    assert vocabulary.vector(NULL_WORD).shape == (manifest.config.frame_dim,)


# ---------------------------------------------------------------- files that are refused
NAMES = np.array([NULL_WORD, "dog"])
TWO = EYE[:2]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no words": ({"vectors": TWO}, "words"),
    "no vectors": ({"words": NAMES}, "vectors"),
    "numbers for words": ({"words": np.arange(2), "vectors": TWO}, "not text"),
    "a table of words": ({"words": NAMES[None], "vectors": TWO}, "not text"),
    "an empty list": ({"words": NAMES[:0], "vectors": TWO[:0]}, "not text"),
    "double precision": ({"words": NAMES, "vectors": TWO.astype(np.float64)}, "float64"),
    "whole numbers": ({"words": NAMES, "vectors": TWO.astype(np.int32)}, "int32"),
    "another frame_dim": ({"words": NAMES, "vectors": TWO[:, :3]}, r"\[2, 4\]"),
    "too few vectors": ({"words": NAMES, "vectors": TWO[:1]}, r"\[2, 4\]"),
    "a word twice": ({"words": np.array([NULL_WORD, "big cat", "Big_Cat"]), "vectors": EYE[:3]}, "'big cat' twice"),
    "an empty word": ({"words": np.array([NULL_WORD, "_ "]), "vectors": TWO}, "without text"),
    "no [NULL]": ({"words": np.array(["cat", "dog"]), "vectors": TWO}, r"lacks the word \[NULL\]"),
    "nan": ({"words": NAMES, "vectors": np.array([EYE[0], EYE[1] * np.nan])}, "'dog' has numbers that are not finite"),
    "infinity in [NULL]": ({"words": NAMES, "vectors": np.array([EYE[0] + np.inf, EYE[1]])}, "not finite"),
    "another length": ({"words": NAMES, "vectors": TWO * 2}, "'dog' has length 2, not 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused(tmp_path: Path, case: str) -> None:
    arrays, problem = WRONG[case]
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(ManifestError, match=problem) as raised:
        Vocabulary.load(tmp_path / "v.npz", CONFIG)
    assert "python -m export CHECKPOINT" in str(raised.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_vocabulary(path, WORDS)
    good = path.read_bytes()
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        for name in ("words", "vectors"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<U9" if name == "words" else "<f4", "fortran_order": False, "shape": (10**15,)}
            )
            archive.writestr(f"{name}.npy", header.getvalue())
    objects = io.BytesIO()
    np.savez(objects, words=np.array([{}, {}], dtype=object), vectors=EYE[:2])
    for content in (b"", b"x" * 100, good[: len(good) // 2], good[:-30], huge.getvalue(), objects.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=r"v\.npz is not a vocabulary"):
            Vocabulary.load(path, CONFIG)
    with pytest.raises(ManifestError):
        Vocabulary.load(tmp_path / "missing.npz", CONFIG)


def test_a_vocabulary_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="'dog' has length"):
        write_vocabulary(tmp_path / "v.npz", {NULL_WORD: EYE[0], "dog": EYE[1] * 3})
    assert not list(tmp_path.iterdir())
