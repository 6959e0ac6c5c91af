"""benchmarks.prepare: figures of every stage, and the extrapolation from them."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from benchmarks import prepare
from benchmarks.common import torchvision_stub
from tests.support.corpus import video
from tests.support.tiny_system import tiny_components, write_system


def test_figures_of_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = write_system(tmp_path / "system", tiny_components())
    for n in range(3):
        video(tmp_path / "videos" / f"{n}.mkv")
    out = tmp_path / "prepare.json"
    options = ["--limit", "2", "--batch", "2", "--device", "cpu", "--price", "2", "--out", str(out)]
    assert prepare.main([str(tmp_path / "videos"), str(system), *options]) == 0
    printed = capsys.readouterr().out
    values = json.loads(out.read_text())
    assert json.loads(printed.splitlines()[-1]) == values and values["clips"] == 2
    stages = ["read", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "write"]
    assert list(values["stages"]) == stages and all(s["wall"] > 0 for s in values["stages"].values())
    used = values["components"]
    assert list(used) == stages[1:-1] and used["codec"]["weights"] == "of the system"
    assert f"codec ({used['codec']['network']})" in printed and all(u["parameters"] > 0 for u in used.values())
    cost = values["vggsound_extrapolated"]
    for name, spent in (("process_hours", "wall"), ("core_hours", "cpu")):
        assert cost[name] == pytest.approx(sum(s[spent] for s in values["stages"].values()) * prepare.VGGSOUND / 3600)
    assert cost["gigabytes"] == pytest.approx(values["bytes_per_clip"] * prepare.VGGSOUND / 1e9)
    assert values["bytes_per_clip"] > 9 * 862 * 2  # the codes alone


@pytest.mark.host  # most of a minute; CI builds plans of the same networks (tests/export/test_tensorrt.py)
@pytest.mark.slow
def test_the_official_sizes(tmp_path: Path) -> None:
    """Random weights in the sizes of the paper. A torchvision that does not fit torch is made importable."""
    torchvision_stub.install()
    pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
    video(tmp_path / "videos" / "0.mkv")
    out = tmp_path / "prepare.json"
    assert prepare.main([str(tmp_path / "videos"), "--official", "--limit", "1", "--out", str(out)]) == 0
    values = json.loads(out.read_text())
    assert values["official"] and values["clips"] == 1
    assert list(values["stages"])[1:5] == ["codec", "frame_encoder", "sync_encoder", "audio_encoder"]
    networks = [used["network"] for used in values["components"].values()]
    assert networks == ["DAC", "CLIP", "S3D", "BEATs"] and values["components"]["codec"]["weights"] == "random"
    codes, clip, sync = 9 * 862 * 2, 80 * 512 * 2, 32 * 512 * 2
    assert values["bytes_per_clip"] > codes + clip + sync


def test_official_without_a_fitting_torchvision_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"{name} is installed but does not import; install torch and torchvision from the same index")

    monkeypatch.setattr("train.models.clip_image.import_library", fail)
    assert prepare.main([str(tmp_path), "--official"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: open_clip is installed but does not import") and printed.count("\n") == 1


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
