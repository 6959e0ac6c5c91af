"""Pools of recordings and the codec's training on them: bad files, both stages, and the real pool's licences."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch
from safetensors.torch import load_file, save_file

from runtime.audio import write_wav
from train import checkpoint
from train.errors import RecipeError
from train.loop.trainer import LoopConfig, fit
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.discriminators import Discriminators
from train.synthetic.credits import credits
from train.tasks import precision
from train.tasks.codec import CodecOptions, CodecTask, Losses, attacks
from train.tasks.codec_data import PoolError, held_out, read_pool

TINY = FrameCodecConfig(n_codebooks=2, codebook_size=16, latent=16, decoder_mlp=16, decoder_blocks=1)
PROVENANCE = dict.fromkeys(checkpoint.PROVENANCE, "a test")
FIXED = ("mean", "axes", "quantizer.codebook")  # what codes depend on


def write_pool(folder: Path) -> list[str]:
    """Seven recordings to train on and one that is held out; returns their names, the held-out one last."""
    folder.mkdir()
    rows = [{"file": f"{i}.wav", "label": "snare", "seconds": "0.2", "licence": "CC0-1.0"} for i in range(8)]
    names = sorted((row["file"] for row in rows), key=lambda name: name in held_out(rows))
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        audio = rng.normal(size=9000) * np.exp(-np.arange(9000) / 2000)
        write_wav(folder / name, (audio / np.abs(audio).max() * 0.9).astype(np.float32), 44100)
    with open(folder / "sounds.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return names


def tiny_task(folder: Path, **options: object) -> CodecTask:
    small = {"batch": 2, "frames": 16, "judged_frames": 8, "validation_sounds": 2, "bfloat16": False, "threads": 1}
    small |= {"fit_crops": 4, "fit_rounds": 2}
    return CodecTask(CodecOptions(sounds=str(folder), **(small | options)), seed=0, config=TINY)


def test_bad_recordings_are_named_and_left_out(tmp_path: Path, capsys) -> None:
    names = write_pool(tmp_path / "pool")
    (tmp_path / "pool" / names[0]).unlink()
    (tmp_path / "pool" / names[1]).write_bytes(b"RIFF, and then nothing")
    training, validation = read_pool(tmp_path / "pool", 44100)
    assert (len(training.names), len(validation.names)) == (5, 1) and not {*names[:2]} & {*training.names}
    words = capsys.readouterr().err
    assert all(f"skipped {name}" in words for name in names[:2]) and "2 of 8 recordings" in words
    for name in names[2:]:
        (tmp_path / "pool" / name).write_bytes(b"")
    with pytest.raises(PoolError, match="no readable"):
        read_pool(tmp_path / "pool", 44100)


def random_sound() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 8192)).astype(np.float32))


@pytest.mark.torch
def test_the_second_stage_keeps_the_codes(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool")
    loop = LoopConfig(steps=3, warmup_steps=1, learning_rate=1e-3, validate_every=3)
    first = tiny_task(tmp_path / "pool", system=str(tmp_path / "system"))
    results = fit(first, loop, tmp_path / "first")
    assert all(math.isfinite(results[f"validation_{name}"]) for name in ("mel", "si_sdr", "silence_db", "codes"))
    system = str(tmp_path / "system")
    second = tiny_task(tmp_path / "pool", system=system, start=system, adversarial=True, fit_crops=1)
    _, numbers = second.loss(0)
    assert set(numbers) == {"mel", "bins", "attacks", "generator", "features", "discriminator"}
    fit(second, loop, tmp_path / "second")
    codec = checkpoint.load(tmp_path / "system", "codec")
    codes = first.codec.eval().encode(random_sound())
    assert torch.equal(codec.encode(random_sound()), codes)
    assert not torch.equal(codec.decode(codes), first.codec.decode(codes))


@pytest.mark.torch
def test_codebooks_are_saved_at_the_first_step_and_never_change(tmp_path: Path, monkeypatch, capsys) -> None:
    """Data can be prepared while the decoder learns, and a run that goes on does not look for them again."""
    write_pool(tmp_path / "pool")
    task = tiny_task(tmp_path / "pool", system=str(tmp_path / "system"))
    drawn = task.codec.quantizer.codebook.clone()
    task.loss(0)
    assert "codebooks: 64 frames, mean error of a level" in capsys.readouterr().out
    early = checkpoint.load(tmp_path / "system", "codec")
    assert not torch.equal(early.quantizer.codebook, drawn)
    fit(tiny_task(tmp_path / "pool"), LoopConfig(steps=2, warmup_steps=1, learning_rate=1e-2), tmp_path / "run")
    monkeypatch.setattr(CodecTask, "_fit", lambda self: pytest.fail("codebooks are sought twice"))
    resumed = tiny_task(tmp_path / "pool", system=str(tmp_path / "system"))
    fit(resumed, LoopConfig(steps=4, warmup_steps=1, learning_rate=1e-2), tmp_path / "run")
    late = checkpoint.load(tmp_path / "system", "codec")
    assert all(torch.equal(late.get_buffer(name), early.get_buffer(name)) for name in FIXED)
    assert {name for name, _ in late.named_buffers()} == {*FIXED, "noise"}
    assert not torch.equal(late.head.weight, early.head.weight)


def test_too_few_crops_for_the_codebooks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fit_crops 3 of 4 frames cannot fill codebooks of 16 rows; raise task"):
        tiny_task(tmp_path, fit_crops=3, frames=4, judged_frames=4)


@pytest.mark.torch
def test_an_older_codec_is_a_start_for_all_but_its_head(tmp_path: Path, capsys) -> None:
    write_pool(tmp_path / "pool")
    first = tiny_task(tmp_path / "pool", system=str(tmp_path / "system"))
    first.loss(0)
    weights = tmp_path / "system" / "codec.safetensors"
    state = load_file(weights)
    del state["noise"]
    save_file(state | {"head.weight": torch.ones(7, 16), "head.bias": torch.ones(7)}, weights)
    second = tiny_task(tmp_path / "pool", start=str(tmp_path / "system"))
    assert "no head.bias, head.weight, noise of today's shape; they begin at random" in capsys.readouterr().out
    assert torch.equal(second.codec.start.weight, state["start.weight"])
    codes = first.codec.encode(random_sound())
    assert torch.equal(second.codec.encode(random_sound()), codes)
    tiny_task(tmp_path / "pool", start=str(tmp_path / "system"), adversarial=True)


@pytest.mark.torch
def test_a_codec_without_a_volume_curve_gets_one(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool")
    first = tiny_task(tmp_path / "pool", system=str(tmp_path / "system")).codec
    torch.nn.init.normal_(first.head.bias[: -TINY.gains])
    older = FrameCodec(replace(TINY, gains=0))
    kept = {name: value[: len(older.state_dict()[name])] for name, value in first.state_dict().items()}
    older.load_state_dict(kept)
    checkpoint.save(tmp_path / "system", "codec", older, "framecodec", PROVENANCE)
    second = tiny_task(tmp_path / "pool", start=str(tmp_path / "system")).codec
    assert second.config == TINY
    audio = random_sound()
    assert torch.allclose(second.decode(second.encode(audio)), older.decode(older.encode(audio)), atol=1e-6)


@pytest.mark.torch
def test_an_attack_that_comes_late_is_nearer_than_a_slow_one() -> None:
    """By its steepness alone, wherever it is: by spectra, the slow rise is nearer."""
    noise = 0.1 * torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    time = torch.arange(8192)
    early, late = ((time >= at).float() * noise for at in (4000, 4100))
    slow = ((time - 3800) / 400).clamp(0, 1) * noise
    distances = {
        name: float((attacks(one) - attacks(early)).abs().mean()) for name, one in (("late", late), ("slow", slow))
    }
    assert distances["late"] < 0.5 * distances["slow"]
    spectra = Losses(44100)
    late_part, slow_part = (spectra([one, one], early) for one in (late, slow))
    assert all(slow_part[name] < late_part[name] for name in ("mel", "bins"))


@pytest.mark.torch
def test_another_codec_is_no_start(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"components": {"codec": {"kind": "dac", "config": {}}}}))
    with pytest.raises(RecipeError, match="is of kind dac; only a framecodec can be trained"):
        tiny_task(tmp_path, start=str(tmp_path))


@pytest.mark.torch
def test_noise_is_nearer_to_noise_than_a_smooth_spectrum_is() -> None:
    """The plain distance prefers the smooth one; the energy distance of two draws does not."""
    losses = Losses(44100)
    draws = 0.1 * torch.randn(5, 4, 16384, generator=torch.Generator().manual_seed(0))
    target, noise, more, *_ = draws
    click = torch.zeros(4, 16384)
    click[:, 8::16] = 0.1 * 4  # of the same power, flat at multiples of 2.7 kHz

    def total(*decoded):
        parts = losses(decoded, target)
        return float(15 * parts["mel"] + 5 * parts["bins"])

    quiet = 0.75 * noise
    assert total(noise, more) < total(quiet, 0.75 * more) and total(noise, more) < total(click, click)
    smooth = losses([noise, noise], target)
    assert all(losses([noise, more], target)[name] < 0.6 * smooth[name] for name in smooth)


@pytest.mark.torch
def test_the_adversarys_two_sides_do_not_mix() -> None:
    judges = Discriminators(4)
    audio = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, 4096)).astype(np.float32))
    decoded = (0.5 * audio).requires_grad_()
    losses = judges.losses(decoded, audio)
    losses.discriminator.backward(retain_graph=True)
    assert decoded.grad is None and all(p.grad is not None for p in judges.parameters())
    judges.zero_grad()
    (losses.generator + losses.features).backward()
    assert decoded.grad.abs().sum() > 0 and all(p.grad is None for p in judges.parameters())


@pytest.mark.slow
@pytest.mark.torch
def test_the_real_pool_is_licensed_credited_and_trains(tmp_path: Path) -> None:
    folder = os.environ.get("MASKVAT_SOUNDS")
    if not folder:
        pytest.skip("set MASKVAT_SOUNDS to a folder of recordings with sounds.csv to try it")
    with open(Path(folder) / "sounds.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["licence"] for row in rows} <= {"CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"}
    credited = credits(rows)
    assert all(row["author"] in credited for row in rows)
    small = {"batch": 2, "frames": 16, "fit_crops": 4, "validation_sounds": 2, "bfloat16": False, "threads": 1}
    options = CodecOptions(sounds=folder, judged_frames=8, **small)
    task = CodecTask(options, seed=0, config=TINY)
    assert len(task.pool.names) + len(task.validation.names) == len(rows)
    results = fit(task, LoopConfig(steps=2, warmup_steps=1, validate_every=2), tmp_path)
    assert results["step"] == 2 and math.isfinite(results["validation_mel"])


@pytest.mark.parametrize("has", [False, True])
def test_the_log_of_a_run_says_whether_bfloat16_was_used(tmp_path: Path, monkeypatch, has: bool) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has)
    write_pool(tmp_path / "pool")
    task = tiny_task(tmp_path / "pool", bfloat16=True)
    dtypes = set()
    task.codec.head.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    task.loss(0)
    assert dtypes == {torch.bfloat16 if has else torch.float32}
    fit(task, LoopConfig(steps=1), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows and all(row["bfloat16"] == float(has) for row in rows)
