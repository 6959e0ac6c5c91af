"""The credits: what each licence asks for, and the command that writes them from one or more lists of recordings."""

import re
from pathlib import Path

import pytest

from runtime.errors import OptionError
from train.synthetic.credits import COLUMNS, LICENCES, PERMISSION, credits, main

ROOT = Path(__file__).parents[3]


def row(author: str, licence: str, source: str = "https://example.org/1") -> dict[str, str]:
    return {"file": "a.flac", "author": author, "licence": licence, "source": source}


def section_of(text: str, licence: str) -> str:
    return text.split(f"## {licence} (")[1].split("\n## ")[0]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    lines = [",".join(r.get(name, "1") for name in COLUMNS) for r in rows]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    return path


def test_every_author_and_licence_is_named() -> None:
    rows = [row(f"author {n}", licence) for n, licence in enumerate([*LICENCES, *LICENCES])]
    rows += [row("author 1", "CC-BY-3.0"), row("author 1", "CC-BY-3.0", "https://example.org/2")]
    text = credits(rows)
    for r in rows:
        section = section_of(text, r["licence"])
        assert f"- {r['author']}: {r['source']} (" in section and LICENCES[r["licence"]] in section
    assert "- author 1: https://example.org/1 (2)" in text and "## CC-BY-3.0 (4 recordings)" in text
    with pytest.raises(OptionError, match=r"CC-BY-NC-4\.0; the known ones are CC0"):
        credits([row("a", "CC-BY-NC-4.0")])


def test_each_mit_source_carries_its_notice_once() -> None:
    fluid = "http://www.musescore.org/download/fluid-soundfont.tar.gz"
    rows = [row("Ann", "MIT"), row("Ann", "MIT"), row("Bob", "MIT", "https://example.org/2"), row("FR3", "MIT", fluid)]
    section = section_of(credits([*rows, row("Cid", "PD")]), "MIT")
    for line in (
        "- Ann: https://example.org/1 (2)\n\n  Copyright (c) Ann\n\n  Permission is hereby granted",
        "- Bob: https://example.org/2 (1)\n\n  Copyright (c) Bob\n",
        f"- FR3: {fluid} (1)\n\n  Copyright (c) 2000-2002, 2008 Frank Wen",
    ):
        assert section.count(line) == 1
    plain = re.sub(r"\s+", " ", section)
    assert plain.count(re.sub(r"\s+", " ", PERMISSION).strip()) == 3
    assert "The above copyright notice and this permission notice shall be included" in plain


def test_public_domain_recordings_are_listed_without_a_notice() -> None:
    text = credits([row("NPS", "PD"), row("Ann", "CC0-1.0")])
    assert "- NPS: https://example.org/1 (1)" in section_of(text, "PD") and "public domain" in section_of(text, "PD")
    assert "Permission is hereby granted" not in text and "Copyright (c) NPS" not in text


def test_the_command_joins_several_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_table(tmp_path / "first.csv", [row("Ann", "CC-BY-4.0"), row("Bob", "CC0-1.0")])
    second = write_table(tmp_path / "second.csv", [row("Ann", "CC-BY-4.0"), row("Cid", "MIT")])
    assert main([str(first), str(second)]) == 0
    text = capsys.readouterr().out
    assert "- Ann: https://example.org/1 (2)" in text and "Copyright (c) Cid" in text and "- Bob: " in text


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "sounds.csv"
    bare.write_text("file,label,seconds\na.flac,dog,1\n", encoding="utf-8")
    unknown = write_table(tmp_path / "unknown.csv", [row("Ann", "GPL-3.0")])
    for arguments, words in (
        ([bare], "has no column licence, author, source"),
        ([unknown], "unknown licence GPL-3.0"),
        ([tmp_path / "absent.csv"], "absent.csv"),
    ):
        assert main(list(map(str, arguments))) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1


def test_the_committed_file_begins_as_the_command_writes_it() -> None:
    committed = (ROOT / "CREDITS.md").read_text(encoding="utf-8")
    assert committed.startswith(credits([]).rstrip("\n")), "make it again: python -m train.synthetic.credits SOUNDS.CSV"


def test_the_frame_encoders_licence_is_whole() -> None:
    text = re.sub(r"\s+", " ", credits([]))
    for part in (
        "except those of the frame encoder",
        "research terms of their own",
        "Copyright (c) Soumith Chintala 2016, All rights reserved.",
        "1. Redistributions of source code must retain",
        "2. Redistributions in binary form must reproduce",
        "3. Neither the name of the copyright holder",
        "EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.",
    ):
        assert part in text


def test_the_licence_of_the_mode_tables_is_whole() -> None:
    part = re.sub(r"\s+", " ", credits([])).split("## BSD-2-Clause: the mode tables of PyImpact")[1]
    for words in (
        "Copyright 2020 Massachusetts Institute of Technology",
        "1. Redistributions of source code must retain",
        "2. Redistributions in binary form must reproduce",
        "EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.",
    ):
        assert words in part
    assert "Neither the name" not in part
