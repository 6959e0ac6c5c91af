"""benchmarks.batch on fake engines."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.fake_engines import NEEDS_ORT

pytest.importorskip("torch")

from benchmarks import batch

pytestmark = [NEEDS_ORT, pytest.mark.torch]


def test_ways_are_timed_and_compared(make_video, bundles, tmp_path: Path, capsys) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in "ab":
        shutil.copy(make_video(20), videos / f"{name}.mp4")
    bundle = ["--engines", str(bundles()), "--backend", "cpu"]
    assert batch.main([str(videos), *bundle, "--steps", "2", "--rounds", "2", "--ways", "1x1", "auto"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["same_bytes"] and found["options"] == {"steps": 2, "videos": 2, "rounds": 2}
    assert found["summary"]["1x1"]["ratio"] == 1 and len(found["runs"]["auto"]) == 2
    for row in found["summary"].values():
        assert 0 < row["cpu"] and 0 < row["lowest"] <= row["ratio"] <= row["highest"]
        assert row["clips_per_hour"] == pytest.approx(2 * 3600 / row["wall"], rel=0.2)
    stages = found["stages"]
    assert list(stages)[-1] == "whole" and {"open", "video", "step", "host", "codec", "write", "rest"} < set(stages)
    parts = sum(stage["wall"] for name, stage in stages.items() if name != "whole")
    assert parts == pytest.approx(stages["whole"]["wall"]) and all(s["wall"] >= 0 for s in stages.values())


def test_a_batch_that_fails_is_an_error(make_video, bundles, tmp_path: Path, capfd) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    assert batch.main([str(tmp_path), "--engines", str(bundles()), "--backend", "cpu", "--rounds", "1"]) == 1
    assert "error: `maskvat batch` ended with exit code 1" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--ways", "1", "1"], ["--ways", "2x"], ["--ways", "1x1x1"]])
def test_what_is_refused(make_video, capsys, arguments: list[str]) -> None:
    assert batch.main([str(make_video().parent), *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"error: {'--rounds' if arguments[-1] in '011' else '--ways'}")
