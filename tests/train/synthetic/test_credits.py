"""The credits: every author whose licence asks for it, links to the licences, and the conditions of BSD-3-Clause."""

import re

import pytest

from train.synthetic.credits import LICENCES, credits


def row(author: str, licence: str, source: str = "https://example.org/1") -> dict[str, str]:
    return {"file": "a.flac", "author": author, "licence": licence, "source": source}


def test_every_author_and_licence_is_named() -> None:
    rows = [row(f"author {n}", licence) for n, licence in enumerate([*LICENCES, *LICENCES])]
    rows += [row("author 1", "CC-BY-3.0"), row("author 1", "CC-BY-3.0", "https://example.org/2")]
    text = credits(rows)
    for r in rows:
        section = text.split(f"## {r['licence']} (")[1].split("\n## ")[0]
        assert f"- {r['author']}: {r['source']} (" in section and LICENCES[r["licence"]] in section
    assert "- author 1: https://example.org/1 (2)" in text and "## CC-BY-3.0 (4 recordings)" in text
    with pytest.raises(ValueError, match=r"CC-BY-NC-4\.0; known are CC0"):
        credits([row("a", "CC-BY-NC-4.0")])


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
