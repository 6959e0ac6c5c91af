"""The concept table: complete, checkable by name, and refused with every problem named and counted."""

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import OptionError
from train.synthetic.concepts.__main__ import main
from train.synthetic.concepts.table import SOUNDINGS, class_names, membership, parse_table, pool_labels, read_table
from train.synthetic.recordings import PoolError

HEAD = "concept,sounding,imagenet,labels\n"


def test_the_projects_table_is_whole() -> None:
    table = read_table()
    classes = [index for concept in table for index in concept.classes]
    assert len(classes) == len(set(classes)) and len(table) > 100
    assert {concept.sounding for concept in table} == set(SOUNDINGS)
    sums = membership(table) @ np.ones(1000, np.float32)
    assert [int(s) for s in sums] == [len(concept.classes) for concept in table]


@pytest.mark.parametrize(
    ("concept", "some"),
    [
        ("dog", {"Chihuahua", "beagle", "Mexican hairless", "dogsled"}),
        ("harp", {"harp"}),
        ("drum", {"drum", "drumstick"}),
        ("construction", {"crane", "drilling platform"}),  # not the bird, which has the same name
        ("seabird", {"crane", "pelican"}),
        ("steam_locomotive", {"steam locomotive"}),
        ("sewing_machine", {"sewing machine"}),
    ],
)
def test_class_numbers_are_those_of_the_named_classes(concept: str, some: set[str]) -> None:
    names = class_names()
    classes = next(c.classes for c in read_table() if c.name == concept)
    assert some <= {names[index] for index in classes}


def test_there_are_a_thousand_names() -> None:
    names = class_names()
    assert len(names) == 1000 and all(names)
    assert names[0] == "tench" and names[134] == names[517] == "crane" and names[999] == "toilet tissue"


def test_every_problem_is_named_and_counted() -> None:
    text = HEAD + "dog,bark,151 1000 x,dog_bark\ndog,burst,151,dog_bark dog_bark meow\n,hit,,\n"
    with pytest.raises(OptionError) as caught:
        parse_table(text, "mine.csv", {"dog_bark"})
    words = str(caught.value)
    for part in (
        "mine.csv has 10 problems: ",
        "line 2 (dog): unknown ImageNet class 1000 (0 to 999 exist)",
        "line 2 (dog): unknown ImageNet class x",
        "line 2 (dog): unknown sounding 'bark' (hit, burst, steady, notes exist)",
        "line 3 (dog): ImageNet class 151 already belongs to dog",
        "line 3 (dog): label dog_bark is listed twice",
        "line 3 (dog): unknown label meow",
        "line 3 (dog): the name is listed twice",
        "line 4 (): no ImageNet class",
        "line 4 (): no label of recordings",
        "line 4 (): no name",
    ):
        assert part in words


def test_a_long_list_of_problems_is_cut() -> None:
    text = HEAD + "".join(f"c{n},hit,{n},no_{n}\n" for n in range(25))
    with pytest.raises(OptionError, match=r"has 25 problems: .*unknown label no_9; and 15 more$"):
        parse_table(text, "mine.csv", {"dog_bark"})


@pytest.mark.parametrize(
    ("text", "words"), [("", "must have the columns"), (HEAD, "no concepts"), ("a,b\n", "it has ['a', 'b']")]
)
def test_an_empty_or_foreign_table_is_refused(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_table(text, "mine.csv")
    assert words in str(caught.value)


def test_a_short_line_is_refused() -> None:
    with pytest.raises(OptionError, match="line 2 \\(dog\\): no label of recordings"):
        parse_table(HEAD + "dog,burst,151\n", "mine.csv")


def test_a_missing_or_binary_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read the concept table"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot read the concept table"):
        read_table(tmp_path / "bad.csv")


def test_labels_come_from_all_pools(tmp_path: Path) -> None:
    for name, label in (("one", "dog_bark"), ("two", "cat_meow")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sounds.csv").write_text(f"file,label,seconds\na.flac,{label},1\n")
    assert pool_labels([tmp_path / "one", tmp_path / "two"]) == {"dog_bark", "cat_meow"}
    with pytest.raises(PoolError, match="is missing"):
        pool_labels([tmp_path])
    (tmp_path / "sounds.csv").write_text("file,seconds\na.flac,1\n")
    with pytest.raises(PoolError, match="has no labels"):
        pool_labels([tmp_path])


def test_the_command_prints_names_or_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    table.write_text(HEAD + "dog,burst,151,dog_bark\n")
    assert main([str(table)]) == 0
    assert "seen as: 151 Chihuahua" in capsys.readouterr().out
    (tmp_path / "sounds.csv").write_text("file,label,seconds\na.flac,cat_meow,1\n")
    assert main([str(table), "--sounds", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "unknown label dog_bark" in error and error.count("\n") == 1
