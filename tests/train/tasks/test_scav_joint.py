"""Training of the audio encoder and SCAV: unusable data, learning, and the mean-pooled baseline."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from train import checkpoint
from train.errors import RecipeError
from train.loop.trainer import LoopConfig, fit
from train.models.beats import BEATsConfig
from train.models.scav import SCAVConfig, distances, pooled
from train.tasks.scav_joint import ScavOptions, ScavTask, read_examples

pytestmark = pytest.mark.torch
TINY_BEATS = BEATsConfig(embed_dim=16, dim=16, layers=2, heads=2, ffn_dim=32, conv_pos=8, conv_pos_groups=4)
TINY_SCAV = SCAVConfig(clip_dim=10, audio_dim=16, dim=16, layers=1, heads=2)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def write_tones(folder: Path, n: int) -> None:
    """Clips with one tone each, which sounds while their feature is on."""
    from runtime.audio import write_wav

    for i in range(n):
        rng = np.random.default_rng(i)
        features, audio = np.zeros((24, 10), np.float32), rng.normal(0, 1e-3, 48_000).astype(np.float32)
        for k in rng.choice(24, 6, replace=False):
            features[k, i] = 1
            audio[k * 2000 : k * 2000 + 2000] += np.sin(np.arange(2000) * (0.1 + 0.2 * i), dtype=np.float32) / 2
        np.savez(folder / f"{i}.npz", clip_features=features)
        write_wav(folder / f"{i}.wav", audio, 16_000)


def scav_task(folder: Path, **options: object) -> ScavTask:
    where = {name: str(folder) for name in ("data", "clips", "validation_data", "validation_clips")}
    sizes = {"batch": 8, "seconds": 1.0, "threads": 1, "data_licence": "my own"}
    return ScavTask(ScavOptions(**where | sizes | options), 0, TINY_BEATS, TINY_SCAV)


def test_scav_task_learns_and_saves(tmp_path) -> None:
    write_tones(tmp_path, 6)
    results = fit(scav_task(tmp_path), LoopConfig(steps=60, warmup_steps=5, learning_rate=5e-3), tmp_path / "run")
    assert results["validation_clips"] == 6 and results["validation_sound_r1"] > 0.6
    scav = checkpoint.load(tmp_path / "run" / "system", "scav")
    beats_ = checkpoint.load(tmp_path / "run" / "system", "audio_encoder")
    assert scav.config.audio_dim == beats_.dim and scav.config.clip_dim == 10
    for entry in checkpoint.read_meta(tmp_path / "run" / "system")["components"].values():
        assert entry["provenance"]["data_licence"] == "my own" and entry["provenance"]["code_licence"] == "Apache-2.0"
        assert entry["provenance"]["steps"] == 60


def test_pooled_forgets_the_order_in_time() -> None:
    video, audio = noise(3, 6, 16), noise(4, 6, 8, 16)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    plain, shuffled = distances(*pooled(video, audio)), distances(*pooled(video[:, order], audio))
    torch.testing.assert_close(plain, shuffled)
    assert not torch.allclose(distances(video, audio), distances(video[:, order], audio))
    torch.testing.assert_close(pooled(video, audio)[0].square().mean(dim=2), torch.ones(3, 1), rtol=1e-3, atol=0)


def test_the_mean_pooled_baseline_trains_alike_and_is_not_saved_in_the_system(tmp_path) -> None:
    write_tones(tmp_path, 6)
    baseline, other = (scav_task(tmp_path, pooling=p, system=str(tmp_path / "system")) for p in ("mean", "sequence"))
    for a, b in zip(baseline.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(a, b)  # the same networks
    results = fit(baseline, LoopConfig(steps=60, warmup_steps=5, learning_rate=5e-3), tmp_path / "run")
    assert results["validation_sound_r1"] > 0.4 and "validation_video_r1" in results  # tones differ in their means, too
    assert not (tmp_path / "system").exists()
    entry = checkpoint.read_meta(tmp_path / "run" / "system")["components"]["scav"]
    assert "baseline" in entry["provenance"]["name"]
    with pytest.raises(ValueError, match="choose from sequence, mean"):
        ScavOptions(pooling="max")


def test_bad_windows_are_named_skipped_and_counted(tmp_path, capsys) -> None:
    write_tones(tmp_path, 6)
    (tmp_path / "0.npz").write_bytes((tmp_path / "0.npz").read_bytes()[:200])
    np.savez(tmp_path / "1.npz", codes=np.zeros(3))
    np.savez(tmp_path / "2.npz", clip_features=np.zeros((24, 11), np.float32))  # other weights' width
    np.savez(tmp_path / "nan.npz", clip_features=np.full((24, 10), np.nan))
    np.savez(tmp_path / "a-weird-walk.npz", clip_features=np.zeros((24, 10), np.float32))  # no sound
    (tmp_path / "text.npz").write_text("foreign")
    (tmp_path / "3.wav").write_bytes(b"RIFF")
    assert len(read_examples(tmp_path, tmp_path, 1.5)) == 2
    output = capsys.readouterr().err
    skipped = {line.split()[1].rstrip(":") for line in output.splitlines() if line.startswith("skipped")}
    assert skipped == {"0.npz", "1.npz", "2.npz", "3.npz", "nan.npz", "a-weird-walk.npz", "text.npz"}
    assert "2 windows with 1.5 s of sound or more (0 silent or shorter, 7 bad)" in output
    for path in tmp_path.glob("*.npz"):
        path.write_text("foreign")
    with pytest.raises(RecipeError, match=r"0 windows .* 9 bad; 0.npz: "):
        read_examples(tmp_path, tmp_path, 1.5)
