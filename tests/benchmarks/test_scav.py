"""benchmarks.scav on fake engines, whose embeddings are loudness and brightness, so the results are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video

pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = [pytest.mark.torch, NEEDS_ORT]

import torch

from benchmarks import scav
from benchmarks.scav import hits, nearest_hits
from runtime.audio import write_wav

SECONDS, FPS, RATE, CLIPS = 4, 8, 16000, 4


def levels(k: int) -> np.ndarray:
    """Brightness and loudness of clip k in each second. All values of all clips differ."""
    return 0.1 + 0.03 * k + 0.2 * np.arange(SECONDS)


def write_videos(folder: Path, sound: Callable[[int], np.ndarray]) -> Path:
    folder.mkdir()
    for k in range(CLIPS):
        images = [np.full((48, 64, 3), round(255 * x), np.uint8) for x in levels(k).repeat(FPS)]
        write_video(folder / f"{k}.mp4", Picture(steady(SECONDS * FPS, FPS), last=1 / FPS, images=images))
        write_wav(folder / f"{k}.wav", sound(k).repeat(RATE).astype(np.float32), RATE)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("scav") / "clips", levels)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert scav.main([*map(str, arguments), "--backend", "cpu", "--seconds", "1"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return values


def means(values: dict[str, Any], row: str = "bundle") -> list[float]:
    return [values["summary"][row][m]["mean"] for m in scav.MEASURES]


def test_a_perfect_scav_and_its_twin(
    videos: Path, bundles: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plots = tmp_path / "scav.json", tmp_path / "plots"
    values = run(capsys, videos, "--engines", bundles(), "--against", bundles(), "--out", out, "--plots", plots)
    assert means(values) == [1, 1, 1] and means(values, "against") == [1, 1, 1]
    # means of the fake's embeddings are normalised to nothing: all are equally near
    assert means(values, "bundle pooled") == [0.25, 0.25, 0.25]
    assert values["chance"] == {"r1": 0.25, "moment": 0.25}
    assert values["paired"]["bundle pooled"]["moment"] == {"mean": 0.75, "interval": [0.75, 0.75], "n": CLIPS}
    assert values["paired"]["against"]["sound_r1"]["mean"] == 0
    assert values["clips"] == [f"{k}.mp4" for k in range(CLIPS)]
    assert json.loads(out.read_text()) == values
    assert (plots / "retrieval.png").stat().st_size > 1000


def test_exchanged_sounds_are_no_hits_but_their_moments_are(
    bundles: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_videos(tmp_path / "clips", lambda k: levels((k + 1) % CLIPS))
    assert means(run(capsys, folder, "--engines", bundles())) == [0, 0, 1]


def test_silence_is_worth_chance(
    bundles: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal distances must not count as hits."""
    folder = write_videos(tmp_path / "clips", lambda k: np.zeros(SECONDS))
    sound, picture, moment = means(run(capsys, folder, "--engines", bundles()))
    assert sound == 0.25 and picture == 0.25 and moment == 0.25


def test_hits_of_known_distances() -> None:
    table = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 4.0], [0.5, 2.0, 1.0]])
    assert nearest_hits(table).tolist() == [1.0, 0.5, 0.0]
    generator = torch.Generator().manual_seed(0)
    pictures = torch.nn.functional.layer_norm(torch.randn(3, 5, 6, 8, generator=generator), (8,))
    sounds = pictures[:, :, :, None].repeat(1, 1, 1, 8, 1)
    assert all((values == 1).all() for values in hits(pictures, sounds, False).values())
    turned = sounds.flip(2)  # the same in time's other direction: only means over time are as before
    assert all((values == 1).all() for values in hits(pictures, turned, True).values())
    assert min(values.mean() for values in hits(pictures, turned, False).values()) < 1


def test_what_is_refused(
    videos: Path, bundles: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (["--seconds", "0"], "--seconds is 0; it must be above 0"),
        (["--seconds", "4"], "0 clips of"),
        (["--limit", "1", "--seconds", "1"], "1 clips of"),
        (["--limit", "0"], "--limit is 0"),
        (["--against", str(tmp_path)], "no bundle in"),
    ):
        assert scav.main([str(videos), "--engines", str(bundles()), "--backend", "cpu", *arguments]) == 1
        printed = capsys.readouterr()
        assert words in printed.err.splitlines()[-1] and not printed.out
    assert scav.main([str(videos), "--engines", str(bundles()), "--backend", "cpu", "--seconds", "4"]) == 1
    assert "skipped 0.mp4: too short for 4 crops of 4 s" in capsys.readouterr().err
