"""benchmarks.fit: figures of real steps on a tiny recipe, and refused options."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks import fit as bench
from engines.contract import ModelConfig
from tests.support.prepared import write_prepared
from train.loop.flops import gemm_peak
from train.models.flops import forward_flops

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_prepared(tmp_path_factory.mktemp("bench"), examples=2)
    folders = f'data = "{root}/prepared"\nvalidation = "{root}/prepared"\nsystem = "{root}/system"\n'
    sizes = 'size = "tiny"\nbatch = 2\ncrop_seconds = 0.5\ndevice = "cpu"\n'
    path = root / "tiny.toml"
    path.write_text(f'[task]\nname = "maskvat"\n{folders}{sizes}[loop]\nsteps = 100\n')
    return path


def test_real_steps_are_timed(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([str(recipe), "--steps", "4", "--warm", "1", "--out", str(tmp_path / "fit.json")]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert values == json.loads((tmp_path / "fit.json").read_text())
    assert values["benchmark"] == "fit" and values["steps"] == 4 and values["processes"] == 1
    step = values["seconds_per_step"]
    tokens = 2 * 9 * ModelConfig().n_tokens(22050)
    assert values["tokens_per_second"] == pytest.approx(tokens / step)
    assert values["mfu"] == pytest.approx(values["flops_per_step"] / step / values["gemm_flops_per_second"])
    assert 0 < values["mfu"] < 1
    assert values["hours_per_epoch_of_vggsound"] == pytest.approx(155_000 / 2 * step / 3600)
    assert values["hours_of_the_recipe"] == pytest.approx(100 * step / 3600)
    assert not list(recipe.parent.glob("runs"))


def test_a_smaller_batch_is_extrapolated_to_the_recipes_own() -> None:
    """0.5 clips a second, 6e12 operations a clip; 100 steps of 400 clips; a device of 3 TFLOP/s at a quarter of it."""
    values = {"batch": 2, "clips_per_second": 0.5, "flops_per_step": 12e12, "mfu": 0.25}
    found = bench.extrapolate(values, {"task": {"batch": 400}, "loop": {"steps": 100}}, 3.0)
    assert found["hours_of_the_recipe"] == pytest.approx(40_000 / 0.5 / 3600)
    assert found["flops_of_the_recipe"] == pytest.approx(40_000 * 6e12)
    assert found["device_hours_of_the_recipe"] == pytest.approx(40_000 * 8 / 3600)
    assert found["device_hours_per_epoch_of_vggsound"] == pytest.approx(155_000 * 8 / 3600)
    assert "device_tflops" not in bench.extrapolate(values, {"task": {}, "loop": {}}, None)


def test_random_data_needs_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe whose folders do not exist runs on random data, if its size can be made."""
    path = tmp_path / "any.toml"
    path.write_text(
        '[task]\nname = "maskvat"\ndata = "none"\nvalidation = "none"\nsystem = "none"\nsize = "mini"\nbatch = 1\n'
        'crop_seconds = 0.5\ndevice = "cpu"\ngenerate_count = 3\n[loop]\nsteps = 10\n'
    )
    assert bench.main([str(path), "--random", "--steps", "1", "--warm", "1"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert values["random_data"] and values["task"]["size"] == "mini" and values["seconds_per_step"] > 0
    assert bench.main([str(path), "--random", "--set", "task.size=tiny"]) == 1
    assert "--random makes systems of size mini, small, base" in capsys.readouterr().err


def test_what_cannot_be_timed_is_one_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([str(recipe), "--steps", "0"], "--steps is 0"),
        ([str(recipe), "--set", "task.colour=1"], "unknown keys in"),
        ([str(recipe.parent / "none.toml")], "there is no recipe"),
    ):
        assert bench.main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1


def test_operations_are_those_of_the_layers() -> None:
    """Compare with the products of AdaLN-A, counted by hand."""
    c = ModelConfig(design="adaln_a", clip_dim=12, hidden_size=64, n_blocks=3, n_heads=2, codec_latent=64)
    T, H = 40, 64
    N = c.n_clip(T)
    block = T * (4 * H * H + 8 * H * H) + N * 6 * H * H + 2 * T * T * H  # attention, MLP, modulation, scores
    rest = N * (12 * H + H * H) + N * 2 * H * H + T * H * 9 * 1024  # condition, last norm, head
    assert forward_flops(c, T) == 2 * (3 * block + rest)


def test_the_peak_is_that_of_a_matrix_product() -> None:
    assert 1e8 < gemm_peak(torch.device("cpu"), torch.float32) < 1e15
