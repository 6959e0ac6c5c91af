"""The motion probe: its targets, what probes learn, how they are scored, and a whole run on tiny clips."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from benchmarks.common.true_track import TrueTrack
from benchmarks.motion_probe import __main__ as motion_probe
from benchmarks.motion_probe.__main__ import (
    Clip,
    MotionProbe,
    choose_power,
    contact_targets,
    probability,
    read_features,
    summary,
    train_probe,
)
from benchmarks.motion_probe.flow import POOLED
from tests.support.media import Picture, steady, write_video
from train.metrics.onsets import onset_strength, pick_onsets
from train.models.s3d import S3D, S3DConfig

pytestmark = pytest.mark.torch
TINY = S3DConfig(width=0.05, feature="mixed_4d", resize=56, size=56, frame_dim=4)


def clicks(times: list[float], seconds: float, rate: int = 16000) -> np.ndarray:
    audio = np.random.default_rng(0).normal(0, 1e-4, round(seconds * rate))
    for time in times:
        start = round(time * rate)
        audio[start : start + 400] += np.exp(-np.arange(400) / 80)[: len(audio) - start]
    return audio.astype(np.float32)


def test_targets_of_contacts(tmp_path: Path) -> None:
    events = [{"time": 0.1, "end": 0.0}, {"time": 0.2, "end": 0.6}]
    (tmp_path / "a.json").write_text(json.dumps({"events": events}))
    assert contact_targets(tmp_path / "a.mp4", 6) == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    assert not contact_targets(tmp_path / "none.mp4", 6).any()


def rhythm(times: list[float], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [frames, 3], whose second number tells the contacts, and their targets."""
    away = np.abs(np.array(times)[:, None] * S3D.fps - np.arange(frames) - 0.5).min(0)
    target = np.clip(1.5 - away, 0, 1).astype(np.float32)
    noise = np.random.default_rng(len(times)).normal(0, 0.1, (frames, 3)).astype(np.float32)
    noise[:, 1] += target
    return noise, target


def test_a_probe_learns_repeats_and_is_scored() -> None:
    data = [rhythm([0.5, 1.2, 2.1], 75), rhythm([0.3, 1.9], 60)]
    probes = []
    for _ in range(2):
        torch.manual_seed(0)
        probes.append(train_probe(nn.Linear(3, 1), data, 300, 0))
    assert torch.equal(probes[0].weight, probes[1].weight)
    times = [0.42, 1.02, 2.22]
    sound = clicks(times, 3.0)
    strength = onset_strength(sound)
    clip = Clip(TrueTrack(Path("a.mp4"), 0.0, sound, pick_onsets(strength)), strength, {"x": rhythm(times, 75)[0]})
    power, lift = choose_power([clip], "x", probes[0])
    assert power in motion_probe.POWERS and lift > 0.6
    curve = probability(probes[0], clip.features["x"], 3.0)
    assert len(curve) == 300 and pick_onsets(curve**power) == pytest.approx(times, abs=0.06)


def test_the_motion_probe_leaves_out_functions_only_in_training() -> None:
    probe, x = MotionProbe(), torch.randn(2, 30, POOLED)
    assert not torch.equal(probe(x), probe(x))
    probe.eval()
    assert torch.equal(probe(x), probe(x)) and probe(x).shape == (2, 30, 1)


def test_summary_and_gate() -> None:
    names = ("encoder", "motion", "encoder_wrong", "motion_wrong")
    numbers = [(0.0, 0.1, 0.0, 0.05), (0.2, 0.1, 0.0, 0.05)]
    rows = [dict(zip(names, row, strict=True)) | {"impact": k == 0} for k, row in enumerate(numbers)]
    found = summary(rows)
    assert found["all"]["motion"]["mean"] == pytest.approx(0.1) and found["all"]["paired"]["mean"] == pytest.approx(0)
    assert found["all"]["motion_above_wrong"]["mean"] == pytest.approx(0.05)
    assert found["gate"] == {"lift": True, "impacts": True, "impacts_certain": True}
    assert summary(rows[1:])["gate"] == {"lift": True, "impacts": False, "impacts_certain": False}


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Features of most videos come from the cache folder, their sounds from here."""
    encoder = S3D(TINY).eval()
    rng, cache = np.random.default_rng(1), tmp_path / "cache"
    cache.mkdir()
    for folder in ("real", "train", "val"):
        (tmp_path / folder).mkdir()
        for k in range(3):
            name = f"{folder}{k}.mp4"
            (tmp_path / folder / name).touch()
            np.save(cache / f"{name}.npy", rng.standard_normal((50, TINY.frame_dim + POOLED)).astype(np.float16))
            events = {"events": [{"time": 0.5 + k / 4, "end": 0.0}]}
            (tmp_path / folder / f"{name[:-4]}.json").write_text(json.dumps(events))

    def read_true_track(path: Path) -> TrueTrack:
        sound = clicks([0.4, 0.9 + int(path.stem[-1]) / 4], 2.0)
        return TrueTrack(path, 0.0, sound, pick_onsets(onset_strength(sound)))

    monkeypatch.setattr(motion_probe, "read_true_track", read_true_track)
    monkeypatch.setattr(motion_probe.checkpoint, "load", lambda system, component: encoder)
    args = [str(tmp_path / "real"), "--simulated", str(tmp_path / "train"), "--validation", str(tmp_path / "val")]
    args += ["--system", str(tmp_path), "--cache", str(cache), "--steps", "3", "--out", str(tmp_path / "out.json")]
    assert motion_probe.main(args) == 0
    values = json.loads((tmp_path / "out.json").read_text())
    assert values == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["clip"] for row in values["clips"]] == ["real0.mp4", "real1.mp4", "real2.mp4"]
    assert values["summary"]["impacts"]["paired"]["n"] == 3 and values["simulated"] == 3
    assert len(values["chosen"]["motion"]) == 2

    for path in (tmp_path / "train").glob("*.json"):
        path.unlink()
    assert motion_probe.main(args) == 1
    assert "no video of --simulated has a contact" in capsys.readouterr().err


def test_features_are_computed_and_kept(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    write_video(video, Picture(steady(12, 25), size=(64, 56)))
    encoder = S3D(TINY).eval()
    found = read_features(video, encoder, tmp_path / "cache")
    again = read_features(video, encoder, tmp_path / "cache")
    assert found["encoder"].shape[1] == TINY.frame_dim and found["motion"].shape[1] == POOLED
    assert np.abs(found["motion"]).max() <= 1
    assert all(np.array_equal(found[name], again[name]) for name in found)
