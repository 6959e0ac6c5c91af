"""benchmarks.prepare: every stage has its figures, and the extrapolation is their arithmetic."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from corpus import video  # noqa: E402
from tiny_system import tiny_components, write_system  # noqa: E402

from benchmarks import prepare  # noqa: E402


def test_figures_of_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = write_system(tmp_path / "system", tiny_components())
    for n in range(3):
        video(tmp_path / "videos" / f"{n}.mkv")
    out = tmp_path / "prepare.json"
    options = ["--limit", "2", "--batch", "2", "--device", "cpu", "--price", "2", "--out", str(out)]
    assert prepare.main([str(tmp_path / "videos"), str(system), *options]) == 0
    told = capsys.readouterr().out
    values = json.loads(out.read_text())
    assert json.loads(told.splitlines()[-1]) == values and values["clips"] == 2
    stages = ["read", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "write"]
    assert list(values["stages"]) == stages and all(s["wall"] > 0 for s in values["stages"].values())
    cost = values["vggsound_extrapolated"]
    for name, spent in (("process_hours", "wall"), ("core_hours", "cpu")):
        assert cost[name] == pytest.approx(sum(s[spent] for s in values["stages"].values()) * prepare.VGGSOUND / 3600)
    assert cost["gigabytes"] == pytest.approx(values["bytes_per_clip"] * prepare.VGGSOUND / 1e9)
    assert values["bytes_per_clip"] > 9 * 862 * 2  # the codes alone


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    system = write_system(tmp_path / "system", {"codec": tiny_components()["codec"]})
    for arguments, words in (
        ([str(tmp_path / "empty"), str(system)], "holds no videos"),
        ([str(tmp_path / "empty")], "give a system folder or --official"),
        ([str(tmp_path / "empty"), str(system), "--batch", "0"], "must be 1 or more"),
    ):
        assert prepare.main(arguments) == 1
        assert words in capsys.readouterr().err.splitlines()[-1]
