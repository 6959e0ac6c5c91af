"""The training loop, system folders and recipes: resuming, stopping, refusing, schedules; and one tiny codec run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from torch import nn

from runtime.errors import MediaError, OptionError
from train import (
    checkpoint,
    fit,
)
from train.errors import CheckpointError, TrainingError
from train.loop.trainer import LoopConfig, load_state
from train.loop.trainer import fit as run_loop
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.loading import WeightsError
from train.recipe import options_from
from train.tasks.codec import CodecOptions, CodecTask, log_mel, mel_bank, mel_distance, stft
from train.tasks.codec_data import Crops, Pool
from train.tasks.maskvat import MaskVATOptions

PROVENANCE = {"name": "test", "code_licence": "-", "data_licence": "-", "origin": "-", "trained": False}
TINY = FrameCodecConfig(n_codebooks=2, codebook_size=16, latent=16, decoder_mlp=16, decoder_blocks=1)


class Regression:
    """A network with dropout that learns a line; `at` runs a function before a step's loss."""

    def __init__(self, at=None):
        generator = torch.Generator().manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1))
        with torch.no_grad():
            for p in self.module.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        self.at, self.losses, self.finished = at or {}, [], False

    def loss(self, step):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        loss = (self.module(x) - x.sum(1, keepdim=True)).square().mean() * self.at.get(step, lambda: 1.0)()
        self.losses.append(loss.item())
        return loss, {"answer": 42.0}

    def validate(self):
        assert not self.module.training
        return {"error": 1.0}

    def finish(self, out):
        self.finished = True


def config(**changes):
    return LoopConfig(**dict(steps=12, warmup_steps=3, save_every=5, log_every=4, validate_every=6) | changes)


class Generating(Regression):
    """A line task whose scores are given, one for each generated validation."""

    def __init__(self, scores, at=None):
        super().__init__(at)
        self.scores, self.scored = list(scores), []
        self.saved = {}

    def validate_generated(self, validated):
        self.scored.append({n: v.clone() for n, v in self.module.state_dict().items()})
        return {"aggregate": self.scores[len(self.scored) - 1]}, []

    def finish(self, out):
        self.saved = {n: v.clone() for n, v in self.module.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


# ---------------------------------------------------------------- loop
def test_schedule():
    c = LoopConfig(steps=103_000)
    assert c.rate(0, 0.0) == pytest.approx(2e-4 / 3000) and c.rate(2999, 0.0) == pytest.approx(2e-4)
    assert c.progress(3000, 0) == 0 and c.progress(53_000, 1e9) == 0.5 and c.progress(103_000, 0) == 1
    assert c.rate(53_000, 0.5) == pytest.approx((2e-4 + 1e-6) / 2) and c.rate(103_000, 1.0) == pytest.approx(1e-6)
    assert LoopConfig(minutes=10).progress(5, 150) == 0.25


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])  # SIGINT is Ctrl-C
def test_resuming_equals_an_uninterrupted_run(tmp_path, number):
    whole, first, second = Regression(), Regression(), Regression()
    before = signal.getsignal(signal.SIGINT)  # ignored if the tests run in the background of a shell
    result = run_loop(whole, config(), tmp_path / "a")
    assert result["finished"] and result["step"] == 12 and result["validation_error"] == 1.0 and whole.finished

    def stop():
        os.kill(os.getpid(), number)
        return 1.0

    first.at = {6: stop}
    result = run_loop(first, config(), tmp_path / "b")
    assert not result["finished"] and result["step"] == 7 and not first.finished
    assert signal.getsignal(signal.SIGINT) is before
    run_loop(second, config(), tmp_path / "b")
    assert first.losses + second.losses == whole.losses
    for a, b in zip(whole.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_kill_between_states_repeats_the_lost_steps(tmp_path):
    def crash():
        raise KeyboardInterrupt

    whole, first, second = Regression(), Regression({8: crash}), Regression()
    run_loop(whole, config(), tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run_loop(first, config(), tmp_path / "b")
    run_loop(second, config(), tmp_path / "b")
    assert second.losses == whole.losses[5:]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(tmp_path, bad):
    task = Regression({7: lambda: bad})
    with pytest.raises(TrainingError, match="loss of step 7"):
        run_loop(task, config(), tmp_path)
    fresh = Regression()
    assert load_state(tmp_path, fresh.module, torch.optim.AdamW(fresh.module.parameters())).step == 5
    assert all(p.isfinite().all() for p in fresh.module.parameters())


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize("result", ["last", "best"])
def test_the_best_weights_are_kept_and_may_be_the_result(tmp_path, result, ema):
    task = Generating([0.3, 0.9, 0.9, 0.1])
    run_loop(task, config(generate_every=3, result=result, ema=ema), tmp_path)
    (best,) = (tmp_path / "best").iterdir()
    assert best.name == "000000006"  # the first of equal scores
    assert json.loads((best / "state.json").read_text())["score"] == 0.9
    assert not equal(task.scored[1], task.scored[3])
    assert equal(task.saved, task.scored[1] if result == "best" else task.scored[3])
    assert task.steps == (6 if result == "best" else 12)


def test_a_resumed_run_keeps_its_best_weights(tmp_path):
    first = Generating([0.8], {4: lambda: float("nan")})
    with pytest.raises(TrainingError):
        run_loop(first, config(generate_every=3, save_every=2), tmp_path)
    (tmp_path / "best" / ".000000003").mkdir()  # as kill -9 leaves it
    second = Generating([0.5, 0.8, 0.7])
    run_loop(second, config(generate_every=3, save_every=2, result="best"), tmp_path)
    assert equal(second.saved, first.scored[0]) and second.steps == 3


def test_without_generated_validation_the_last_weights_are_the_result(tmp_path, capsys):
    task = Regression()
    run_loop(task, config(result="best"), tmp_path)
    assert task.finished and task.steps == 12 and not (tmp_path / "best").exists()
    assert "the last weights are saved" in capsys.readouterr().err
    with pytest.raises(ValueError, match="unknown result 'first'; choose from last, best"):
        config(result="first")


def test_two_states_are_kept_and_the_log_is_json(tmp_path):
    run_loop(Regression(), config(), tmp_path)
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["000000010", "000000012"]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 4, 6, 8, 12]
    assert rows[0]["answer"] == 42.0 and "validation_error" in rows[2] and "validation_error" not in rows[1]


def test_a_half_written_state_is_not_read(tmp_path):
    run_loop(Regression(), config(steps=5), tmp_path)
    (tmp_path / "state" / ".000000007").mkdir()
    (tmp_path / "state" / "000000009").mkdir()
    fresh = Regression()
    assert load_state(tmp_path, fresh.module, torch.optim.AdamW(fresh.module.parameters())).step == 5


def test_the_state_of_another_network_is_refused(tmp_path):
    run_loop(Regression(), config(steps=5), tmp_path)
    other = Regression()
    other.module = nn.Linear(3, 1)
    with pytest.raises(TrainingError, match="another network"):
        run_loop(other, config(), tmp_path)


def test_a_time_budget_ends_the_run_and_survives_a_break(tmp_path):
    task = Regression()
    result = run_loop(task, config(steps=10**6, minutes=0.2 / 60, save_every=10**6), tmp_path)
    assert result["finished"] and result["seconds"] >= 0.2
    again = Regression()
    assert run_loop(again, config(steps=10**6, minutes=0.2 / 60), tmp_path)["step"] == result["step"]
    assert again.losses == [] and again.finished


def test_the_callers_generator_is_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    task = Regression()
    torch.manual_seed(7)
    run_loop(task, config(), tmp_path)
    assert torch.equal(torch.rand(3), expected)


# ---------------------------------------------------------------- system folders
def test_components_round_trip_beside_each_other(tmp_path):
    codec = FrameCodec(TINY)
    checkpoint.save(tmp_path, "codec", codec, "framecodec", PROVENANCE)
    checkpoint.save(tmp_path, "frame_encoder", codec, "framecodec", PROVENANCE | {"trained": True})
    loaded = checkpoint.load(tmp_path, "codec")
    assert loaded.config == TINY and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), loaded.parameters(), strict=True))
    components = checkpoint.read_meta(tmp_path)["components"]
    assert set(components) == {"codec", "frame_encoder"} and components["frame_encoder"]["provenance"]["trained"]
    names = [".lock", "codec.safetensors", "frame_encoder.safetensors", "meta.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no component 'codec', only nothing"):
        checkpoint.load(tmp_path, "codec")
    codec = FrameCodec(TINY)
    for name, kind, provenance in (("x", "framecodec", PROVENANCE), ("codec", "x", PROVENANCE), ("codec", "dac", {})):
        with pytest.raises(CheckpointError, match=r"choose from|lacks"):
            checkpoint.save(tmp_path, name, codec, kind, provenance)
    path = checkpoint.save(tmp_path, "codec", codec, "framecodec", PROVENANCE)
    meta = json.loads((tmp_path / "meta.json").read_text())
    meta["components"]["codec"]["config"]["latent"] = 24
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.load(tmp_path, "codec")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        checkpoint.load(tmp_path, "codec")
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        checkpoint.load(tmp_path, "codec")


def test_every_task_and_kind_names_a_module_of_train():
    for reference in (*checkpoint.KINDS.values(), *fit.TASKS.values()):
        assert reference.startswith("train.") and reference.count(":") == 1


# ---------------------------------------------------------------- recipes
def recipe_file(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


def test_a_recipe_and_its_changes(tmp_path):
    path = recipe_file(tmp_path, '[task]\nname = "codec"\n[loop]\nsteps = 3\n')
    recipe = fit.read_recipe(path, ["loop.steps=5", "task.sounds=/a b", "loop.betas=[0.5, 0.6]"])
    assert recipe == {"task": {"name": "codec", "sounds": "/a b"}, "loop": {"steps": 5, "betas": [0.5, 0.6]}}
    fit.keep_recipe(tmp_path / "run", recipe)
    fit.keep_recipe(tmp_path / "run", fit.read_recipe(path, ["loop.betas=[0.5, 0.6]", "loop.minutes=3"]))
    with pytest.raises(fit.RecipeError, match=r"other values of loop\.betas"):
        fit.keep_recipe(tmp_path / "run", fit.read_recipe(path, []))


def test_a_recipe_is_kept_with_its_defaults_and_older_ones_mean_them(tmp_path):
    defaults = {"design": "hybrid", "model": {}}
    fit.keep_recipe(tmp_path, {"task": {"name": "maskvat"}, "loop": {}})  # as it was kept before defaults were stated
    stated = {"task": {"name": "maskvat"} | defaults, "loop": {}}
    other = {"task": stated["task"] | {"design": "seq2seq"}, "loop": {}}
    with pytest.raises(fit.RecipeError, match=r"other values of task\.design"):
        fit.keep_recipe(tmp_path, other, defaults)
    fit.keep_recipe(tmp_path, stated, defaults)
    assert json.loads((tmp_path / "recipe.json").read_text()) == stated


@pytest.mark.parametrize(
    "text, changes, advice",
    [
        ('[task]\nname = "dance"', [], "choose from codec"),
        ('[task]\nname = "codec"\n[lop]\nsteps = 1', [], "unknown tables lop"),
        ('[task]\nname = "codec"', ["steps=1"], "loop.KEY=VALUE"),
        ("task =", [], "not TOML"),
        ('[task]\nname = "codec"\n[loop]\nstep = 1', [], "choose from steps"),
        ('[task]\nname = "codec"\n[loop]\nsteps = 0', [], "at least 1"),
        ('[task]\nname = "codec"\ncolour = 1', [], "unknown keys in .task.: colour"),
        ('[task]\nname = "codec"\nsounds = "nowhere"', [], "sounds.csv is missing"),
    ],
)
def test_bad_recipes_give_advice_and_status_1(tmp_path, capsys, text, changes, advice):
    path = recipe_file(tmp_path, text)
    arguments = [str(path), "--out", str(tmp_path / "run")] + [a for c in changes for a in ("--set", c)]
    assert fit.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(advice, error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MediaError, OptionError, WeightsError, CheckpointError, ImportError])
def test_what_a_task_raises_is_one_line(tmp_path, capsys, monkeypatch, error):
    def fail(*_):
        raise error("the file is broken")

    monkeypatch.setattr(CodecTask, "from_options", fail)
    path = recipe_file(tmp_path, '[task]\nname = "codec"')
    assert fit.main([str(path), "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "error: the file is broken\n"
    with pytest.raises(error):
        fit.main([str(path), "--out", str(tmp_path / "run"), "--debug"])


def test_the_command_reports_a_tasks_error_in_one_line(tmp_path):
    """Run as a process: there the command is not the module that tasks could import."""
    path = recipe_file(tmp_path, '[task]\nname = "maskvat"\ncolour = 1')
    command = [sys.executable, "-m", "train.fit", str(path), "--out", str(tmp_path / "run")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: unknown keys in [task]: colour")


def test_folders_and_provenance_may_change_in_a_run(tmp_path):
    kept = {"task": {"name": "maskvat", "data": "a", "design": "hybrid"}, "loop": {}}
    fit.keep_recipe(tmp_path, kept)
    moved = {"data": "b", "validation": "c", "start": "d", "device": "cpu", "data_licence": "e", "origin": "f"}
    fit.keep_recipe(tmp_path, {"task": kept["task"] | moved, "loop": {}})
    with pytest.raises(fit.RecipeError, match=r"other values of task\.design"):
        fit.keep_recipe(tmp_path, {"task": kept["task"] | {"design": "seq2seq"}, "loop": {}})


@pytest.mark.parametrize("path", sorted((Path(fit.__file__).parent / "recipes").rglob("*.toml")), ids=lambda p: p.stem)
def test_the_projects_recipes_state_licence_and_origin(path):
    task = fit.read_recipe(path, [])["task"]
    assert "this project" in task["origin"] and f"{path.stem}.toml" in task["origin"]
    if path.parent.name == "paper":
        assert "VGGSound" in task["data_licence"]
    else:
        assert ("CREDITS.md" in task["data_licence"]) == (task["name"] != "sync")


@pytest.mark.parametrize("design, batch", [("adaln_a", 200), ("adaln_b", 200), ("seq2seq", 400), ("hybrid", 400)])
def test_the_papers_numbers(design, batch):
    changes = [] if design == "hybrid" else [f"task.design={design}"]
    changes += [] if batch == 400 else [f"task.batch={batch}"]
    recipe = fit.read_recipe(Path(fit.__file__).parent / "recipes" / "paper" / "maskvat.toml", changes)
    task = options_from(MaskVATOptions, {k: v for k, v in recipe["task"].items() if k != "name"})
    loop = options_from(LoopConfig, recipe["loop"], "loop")
    assert (task.design, task.size, task.batch, task.condition_dropout) == (design, "base", batch, 0.1)
    assert loop.rate(2999, 0) == 2e-4 and loop.rate(0, 0) == pytest.approx(2e-4 / 3000) and loop.rate(10**6, 1) == 1e-6
    assert loop.weight_decay == 1e-5 and loop.rate(10**6, 0.5) == pytest.approx((2e-4 + 1e-6) / 2)


# ---------------------------------------------------------------- the codec's task
@pytest.fixture
def sounds(tmp_path):
    """Six half-second recordings with their list; at least one is held out."""
    from runtime.audio import write_wav

    folder, rng = tmp_path / "sounds", np.random.default_rng(0)
    folder.mkdir()
    names = [f"t{i}.wav" for i in range(6)]
    for name in names:
        decay = np.exp(-np.arange(22050) / 3000)
        write_wav(folder / name, (0.3 * rng.standard_normal(22050) * decay).astype(np.float32), 44100)
    rows = "".join(f"{name},x,0.5,CC0-1.0,a,b\n" for name in names)
    (folder / "sounds.csv").write_text("file,label,seconds,licence,author,source\n" + rows)
    return folder


def test_a_tiny_codec_learns_and_is_saved(tmp_path, sounds):
    sizes = {"batch": 2, "frames": 16, "validation_sounds": 1, "bfloat16": False, "threads": 1}
    options = CodecOptions(sounds=str(sounds), data_licence="tests", **sizes)
    task = CodecTask(options, seed=0, config=TINY)
    loop = LoopConfig(steps=30, warmup_steps=2, learning_rate=3e-3, clip_norm=20.0, validate_every=100, save_every=100)
    before = task.loss(1)[0].item()
    results = run_loop(task, loop, tmp_path / "run")
    assert task.loss(1)[0].item() < 0.8 * before
    assert {"validation_mel", "validation_si_sdr", "validation_silence_db", "validation_codes"} <= set(results)
    loaded = checkpoint.load(tmp_path / "run" / "system", "codec")
    assert isinstance(loaded, FrameCodec) and loaded.config == TINY
    provenance = checkpoint.read_meta(tmp_path / "run" / "system")["components"]["codec"]["provenance"]
    assert provenance["data_licence"] == "tests" and provenance["origin"] == "not stated"
    assert provenance["code_licence"] == "Apache-2.0" and provenance["licences"] == ["CC0-1.0"]
    assert provenance["trained"] and provenance["steps"] == 30


def test_licences_not_allowed_are_refused(sounds):
    table = sounds / "sounds.csv"
    table.write_text(table.read_text().replace("CC0-1.0", "CC-BY-NC-4.0"))
    with pytest.raises(OSError, match=r"CC-BY-NC-4\.0"):
        CodecTask(CodecOptions(sounds=str(sounds)), seed=0, config=TINY)


def test_crops_are_a_pure_function_of_seed_and_step():
    rng = np.random.default_rng(0)
    sounds = tuple(rng.uniform(-1, 1, n).astype(np.float32) for n in (50, 3000, 60_000))
    pool = Pool(("a", "b", "c"), sounds, ("CC0-1.0",) * 3)
    one, two = Crops(pool, 44100, 8192, seed=1), Crops(pool, 44100, 8192, seed=1)
    two.batch(3, 4)
    many = [one.batch(step, 4) for step in range(30)]
    assert np.array_equal(many[7], two.batch(7, 4)) and not np.array_equal(many[7], many[8])
    assert not np.array_equal(many[7], Crops(pool, 44100, 8192, seed=2).batch(7, 4))
    crops = np.concatenate(many)
    assert crops.dtype == np.float32 and np.abs(crops).max() <= 1 and np.isfinite(crops).all()
    assert any(not crop.any() for crop in crops), "true silence is part of the training"


def test_mel_distance_counts_decades():
    audio = 0.1 * torch.randn(44100, generator=torch.Generator().manual_seed(0))
    assert mel_distance(audio, audio, 44100) == 0
    assert mel_distance(audio, audio / 10, 44100) == pytest.approx(1.0, abs=1e-3)
    assert mel_bank(44100, 2048, 80).shape == (1025, 80) and (mel_bank(44100, 2048, 80).sum(0) > 0).all()
    silence = log_mel(stft(torch.zeros(1, 4096), 2048, 512).abs(), mel_bank(44100, 2048, 80))
    assert torch.allclose(silence, torch.tensor(-5.0))
