"""docs/BATCH.md: its flags, columns and commands are those of `maskvat batch`."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.commands.batch.options import ONE_FILE, get_batch_parser
from runtime.commands.batch.run import main
from runtime.commands.batch.sources import COLUMNS
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "BATCH.md").read_text(encoding="utf-8")


def test_flags_and_columns() -> None:
    own, rest = get_batch_parser().format_help().partition("the batch:")[2].partition("what most people")[::2]
    rows = re.findall(r"^\| `(--[a-z-]+)", GUIDE, re.MULTILINE)
    assert set(re.findall(r"^  (--[a-z-]+)", own, re.MULTILINE)) <= set(rows)
    assert all(f"  {flag}" in own + rest for flag in rows)
    assert all(f"  {flag} " not in own + rest for flag in ONE_FILE if flag != "--mux")
    table = GUIDE.partition("| column |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == set(COLUMNS)


@NEEDS_ORT
def test_the_commands(
    bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand there; the table is the example."""
    monkeypatch.chdir(tmp_path)
    (table,) = re.findall(r"```csv\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "list.csv").write_text(table)
    for name in ("films/one.mp4", "films/two.mp4", "a.mp4", "b.mov", "shots/door.mp4", "shots/rain.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(make_video(20), tmp_path / name)
    options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--steps", "1"]
    commands = re.findall(r"^maskvat batch (.*)$", GUIDE, re.MULTILINE)
    assert main([*shlex.split(commands[0]), *options]) == 0
    assert sorted(p.name for p in (tmp_path / "sounds").iterdir()) == ["one.wav", "two.wav"]
    shutil.rmtree(tmp_path / "sounds")
    assert main([*shlex.split(commands[1]), *options]) == 0
    sounds = {"one.wav", "two.wav", "a.wav", "b.wav", "door.wav", "rain.flac"}
    assert sounds == {p.name for p in (tmp_path / "sounds").iterdir() if ".sound." not in p.name}
