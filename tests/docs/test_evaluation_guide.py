"""Every command of docs/EVALUATION.md, run as it stands there on a tiny corpus."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests.support.eval_corpus import NAMES, RATE, hits
from tests.support.media import Picture, Sound, steady, write_video

GUIDE = ROOT / "docs" / "EVALUATION.md"
SERVE = "python -m train.listen serve"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guide begins with: reference/ and sparse.txt; long enough for av-benchmark."""
    (tmp_path / "reference").mkdir()
    for seed, name in enumerate(NAMES[:2]):
        picture = Picture(steady(205, 25), last=1 / 25, size=(96, 64))
        write_video(tmp_path / "reference" / f"{name}.mp4", picture, Sound(hits(seed, 8.2)[None], RATE, "aac"))
    (tmp_path / "sparse.txt").write_text(f"{NAMES[0]}\n")
    (tmp_path / "engines").symlink_to(ROOT / "engines")
    return tmp_path


def environment() -> dict[str, str]:
    """The interpreter of the tests is `python`, and this checkout the project."""
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": binaries, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(block: str, folder: Path) -> str:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{block}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def listen(block: str, folder: Path) -> None:
    """Serve the test, take it as one listener, and end it with Ctrl-C."""
    command = [sys.executable, *block.split()[1:], "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            rate_everything(process.stdout.readline().split()[1])
            process.send_signal(signal.SIGINT)
            assert "ratings in" in process.stdout.read()
        finally:
            process.kill()  # where something failed; one that has ended is left alone
    assert process.returncode == 0


def rate_everything(url: str) -> None:
    while True:
        address = url + "next?" + urllib.parse.urlencode({"listener": "ann"})
        item = json.load(urllib.request.urlopen(address, timeout=20))["item"]
        if item is None:
            return
        ratings = dict.fromkeys(item["questions"], 3)
        rating = {"listener": "ann", "expert": True, "item": item["id"], "ratings": ratings}
        urllib.request.urlopen(url + "rate", json.dumps(rating).encode(), timeout=20).close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.torch
def test_every_command_of_the_guide(folder: Path) -> None:
    printed = ""
    for block in blocks():
        if block.startswith(SERVE):
            listen(block, folder)
        else:
            printed += run(block, folder)
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["complete"] and list(report["systems"]) == ["codec reconstruction", "ours"]
    assert report["systems"]["ours"]["onset_f1"]["clips"] == 2
    assert report["subsets"]["sparse"]["systems"]["ours"]["onset_f1"]["clips"] == 1
    assert (folder / "av" / "pred_audio" / "ours" / f"{NAMES[0]}.wav").exists() and "python evaluate.py" in printed
    scores = json.loads((folder / "test" / "mos.json").read_text())
    assert scores["experts"]["systems"]["ours"]["Alignment 16 kHz"] == {"mean": 3.0, "interval": [3.0, 3.0], "n": 1}


def test_the_guide_has_commands() -> None:
    found = "".join(blocks())
    for command in ("train.evaluate", "train.listen make", SERVE, "train.listen score", "--av-benchmark"):
        assert command in found
