"""benchmarks.warm on fake engines."""

import json
from pathlib import Path

import pytest

from tests.support.fake_engines import NEEDS_ORT

pytest.importorskip("torch")

from benchmarks import warm

pytestmark = [NEEDS_ORT, pytest.mark.torch]


def test_whole_and_redo_are_timed(make_video, bundles, tmp_path: Path, capsys) -> None:
    video, short = make_video(60), ["--seconds", "2", "--redo", "0.5", "--steps", "2", "--rounds", "2"]
    out = tmp_path / "warm.json"
    assert warm.main([str(video), "--engines", str(bundles()), "--backend", "cpu", *short, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(out.read_text()) == found and found["backend"] == "cpu" and found["options"]["rounds"] == 2
    assert list(found["summary"]) == ["whole", "another", "redo", "redo_again"]
    for row in found["summary"].values():
        assert 0 < row["min"] <= row["median"] <= row["max"] and row["cpu"] > 0


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--redo", "10"], ["--redo", "0"]])
def test_what_is_refused(tmp_path: Path, capsys, arguments: list[str]) -> None:
    assert warm.main([str(tmp_path / "a.mp4"), *arguments]) == 1
    assert capsys.readouterr().err.startswith("error: --rounds")
