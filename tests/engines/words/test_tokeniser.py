"""The tokeniser against open_clip's, by stored tokens, and its table's errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.contract import ModelConfig
from engines.manifest import ManifestError
from engines.words.tokeniser import Tokeniser, byte_symbols, cleaned, pieces
from tests.golden.make_golden import read as fixture
from tests.support.bpe import clip_merges

MERGES = [("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>"), ("a", "b")]
CONFIG = ModelConfig(text_context=77)


@pytest.fixture(scope="module")
def clip() -> Tokeniser:
    return Tokeniser(clip_merges(), 77)


def test_tokens_are_open_clips(clip: Tokeniser) -> None:
    tokens = fixture("clip_text")[0]["tokens"]
    assert len(tokens) > 40 and clip.size == 49408
    assert {text: clip.encode(text) for text in tokens} == tokens


@given(st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=40))
@settings(deadline=None, max_examples=50)
def test_every_text_has_tokens(clip: Tokeniser, text: str) -> None:
    row = clip(text)[0]
    assert row.dtype == np.int32 and row.shape == (77,) and row[0] == 49406 and row.max() < 49408
    end = int(row.argmax()) if row[1:].max() == 49407 else -1
    assert "<end_of_text>" in cleaned(text) or (end > 0 and (row[end + 1 :] == 0).all())


def test_merges_apply_by_rank_and_from_the_left() -> None:
    tokeniser = Tokeniser(MERGES, 8)
    symbols = sorted(byte_symbols(), key=ord)
    ids = {symbol: n for n, symbol in enumerate([*symbols, *(s + "</w>" for s in symbols)])}
    first = 512
    assert tokeniser.encode("dog cat") == [first + 1, first + 3]
    assert tokeniser.encode("abab") == [first + 4, ids["a"], ids["b</w>"]]  # "b</w>" is another symbol than "b"
    assert tokeniser.encode("DOG!") == [first + 1, ids["!</w>"]]


def test_long_texts_are_cut_and_still_end() -> None:
    tokeniser = Tokeniser(MERGES, 5)
    start, end = tokeniser.size - 2, tokeniser.size - 1
    assert tokeniser("dog " * 9).tolist() == [[start, 513, 513, 513, end]]
    assert tokeniser("").tolist() == [[start, end, 0, 0, 0]]


def test_pieces_cover_everything_but_spaces() -> None:
    assert list(pieces("it's 12 dogs' 'ss a.b!? über")) == [
        *("it", "'s", "1", "2", "dogs", "'", "'s", "s", "a", ".", "b", "!?", "über")
    ]


# ---------------------------------------------------------------- the bundle's file
def write(folder: Path, **changes: object) -> Path:
    table = {"context": 77, "merges": [" ".join(m) for m in MERGES], "origin": "a test", "licence": "MIT", **changes}
    path = folder / "tokeniser.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_a_table_is_loaded(tmp_path: Path) -> None:
    assert Tokeniser.load(write(tmp_path), CONFIG).encode("dog") == [513]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"context": 8}, "for 8 tokens, the text encoder for 77"),
        ({"merges": ["d o", "do g x"]}, "'do g x' is not a pair"),
        ({"merges": ["d "]}, "is not a pair"),
        ({"merges": ["d o", "d o"]}, "a merge twice"),
        ({"merges": [3]}, "no attribute"),
        ({"merges": None}, "not iterable"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ManifestError, match=problem) as raised:
        Tokeniser.load(write(tmp_path, **changes), CONFIG)
    assert "python -m export CHECKPOINT" in str(raised.value)


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokeniser.json"
    for content in (b"", b"[1]", b"\xff\xfe", b"{", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ManifestError, match="is not a tokeniser"):
            Tokeniser.load(path, CONFIG)
    with pytest.raises(ManifestError):
        Tokeniser.load(tmp_path / "missing.json", CONFIG)
