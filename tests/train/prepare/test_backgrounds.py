"""`train.prepare.backgrounds`: the classifier and pooled features in one file; damaged videos are named and skipped."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from tests.support.media import Picture, steady, write_video
from train.models.mobilenet import MobileNetV2, MobileNetV2Config
from train.prepare import backgrounds
from train.tasks.made_up_features import made_up_features


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two videos and a damaged one, and a tiny encoder in place of the real weights."""
    torch.manual_seed(0)
    tiny = MobileNetV2(MobileNetV2Config(width=0.1, resize=40, size=32))
    rng = np.random.default_rng(0)
    head = rng.standard_normal((1000, 1280)).astype(np.float32), np.zeros(1000, np.float32)
    monkeypatch.setattr(MobileNetV2, "load_imagenet", lambda self, path=None: None)
    monkeypatch.setattr(backgrounds, "MobileNetV2", lambda config: tiny)
    monkeypatch.setattr(backgrounds, "classifier", lambda weights: head)
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name, seconds in (("a", 2), ("c", 1)):
        write_video(folder / f"{name}.mp4", Picture(steady(10 * seconds, 10), last=0.1))
    (folder / "b.mp4").write_bytes(b"not a video")
    return folder


def test_the_file_is_what_training_reads(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "concepts.npz"
    assert backgrounds.main([str(scenes), str(out)]) == 0
    printed = capsys.readouterr()
    assert "skipped b.mp4: " in printed.err and "2 backgrounds in " in printed.out
    with np.load(out) as arrays:
        assert arrays["lengths"].tolist() == [16, 8] and arrays["pooled"].shape == (24, 1280)
        assert json.loads(str(arrays["names"])) == ["a.mp4", "c.mp4"]
    made_up = made_up_features(str(out), 1000, 8)
    assert made_up is not None and made_up([(0.0, 10.0, {})], 80, np.random.default_rng(0)).shape == (80, 1000)
    first = out.read_bytes()
    assert backgrounds.main([str(scenes), str(out), "--clips", "1"]) == 0 and out.read_bytes() != first
    with np.load(out) as arrays:
        assert arrays["lengths"].tolist() == [16]


def test_nothing_usable_is_one_line(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "b.mp4").write_bytes(b"not a video")
    for arguments, words in (
        ([str(tmp_path / "empty")], "none of the 1 videos in"),
        ([str(tmp_path / "missing")], "none of the 0 videos in"),
        ([str(scenes), "--clips", "0"], "--clips is 0; it must be 1 or more"),
    ):
        assert backgrounds.main([arguments[0], str(tmp_path / "out.npz"), *arguments[1:]]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and words in error
    assert not (tmp_path / "out.npz").exists()
