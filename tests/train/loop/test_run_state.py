"""Failures in hours of training: kill -9 at any moment, unreadable states, an exploding loss; averaged weights."""

import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from torch import Tensor, nn

from train import (
    checkpoint,
    fit,
)
from train.errors import TrainingError
from train.loop import run_state
from train.loop.ema import WARM
from train.loop.trainer import LoopConfig, load_state
from train.loop.trainer import fit as run_loop
from train.models.codec import FrameCodec, FrameCodecConfig

TINY = FrameCodecConfig(n_codebooks=2, codebook_size=16, latent=16, decoder_mlp=16, decoder_blocks=1)
STEPS, SAVE_EVERY = 14, 4
Factor = Callable[[], float]


class Line:
    """A network with dropout that learns a line; `factors` scale the losses of their steps."""

    def __init__(self, factors: dict[int, Factor] | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1))
        self.factors, self.steps = factors or {}, 0
        self.before: list[list[Tensor]] = []  # the weights before every step
        self.validated: list[Tensor] = []
        self.result: list[Tensor] = []

    def weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.module.parameters()]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        self.before.append(self.weights())
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        factor = self.factors.get(step, lambda: 1.0)()
        return (self.module(x) - x.sum(1, keepdim=True)).square().mean() * factor, {}

    def validate(self) -> dict[str, float]:
        self.validated = self.weights()
        return {}

    def finish(self, out: Path) -> None:
        self.result = self.weights()
        codec = FrameCodec(TINY)  # any component: its provenance and files are compared
        with torch.no_grad():
            for p in codec.parameters():
                p.fill_(self.result[0][0, 0])
        facts = {"name": "-", "code_licence": "-", "data_licence": "-", "origin": "-", "trained": True}
        checkpoint.save(out / "system", "codec", codec, "framecodec", facts | {"steps": self.steps})


def config(**changes: object) -> LoopConfig:
    rare = {"log_every": 10**6, "validate_every": 10**6}
    return LoopConfig(**rare | {"steps": STEPS, "warmup_steps": 3, "save_every": SAVE_EVERY} | changes)


def stored(out: Path) -> tuple[int, Line]:
    """The step of the newest state, and a task with its weights."""
    fresh = Line()
    return load_state(out, fresh.module, torch.optim.AdamW(fresh.module.parameters())).step, fresh


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- divergence
def times(factor: float) -> dict[int, Factor]:
    return {step: lambda: factor for step in range(150, 1000)}


def test_a_loss_that_explodes_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    task, long = Line(times(1e5)), config(steps=300, save_every=10)
    with pytest.raises(TrainingError, match=r"of step 200 is the 50th in a row.*loop\.learning_rate"):
        run_loop(task, long, tmp_path)
    step, kept = stored(tmp_path)
    assert step == 150 and same(kept.weights(), task.before[150])  # none of the exploded steps
    again = Line()
    assert run_loop(again, long, tmp_path)["finished"] and len(again.before) == 150


def test_a_loss_that_grows_less_or_not_for_long_is_accepted(tmp_path: Path) -> None:
    assert run_loop(Line(times(20.0)), config(steps=300, save_every=100), tmp_path / "a")["finished"]
    short = {step: factor for step, factor in times(1e5).items() if step < 199}
    assert run_loop(Line(short), config(steps=300, save_every=100), tmp_path / "b")["finished"]


def test_advice_of_divergence_can_be_followed(tmp_path: Path) -> None:
    fit.keep_recipe(tmp_path, {"task": {"name": "codec"}, "loop": {"learning_rate": 1.0, "clip_norm": 9.0}})
    fit.keep_recipe(tmp_path, {"task": {"name": "codec"}, "loop": {"learning_rate": 0.1, "clip_norm": 1.0}})


# ---------------------------------------------------------------- states
def test_an_unreadable_state_is_named_and_the_one_before_used(tmp_path: Path, capsys) -> None:
    whole, again = Line(), Line()
    run_loop(whole, config(), tmp_path)
    newest = tmp_path / "state" / f"{STEPS:09d}" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-50])
    run_loop(again, config(), tmp_path)
    assert f"skipped {newest.parent}" in capsys.readouterr().err
    assert len(again.before) == STEPS - 12 and same(again.weights(), whole.weights())


def full_disk(out: Path) -> int:
    """Files stop growing at 1,000 bytes after step 6, as on a disk without room; returns 0 if the message was right."""
    torch.set_num_threads(1)

    def fill() -> float:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return 1.0

    try:
        run_loop(Line({6: fill}), config(), out)
    except TrainingError as error:
        message = str(error)
        return (
            0
            if re.search(r"cannot write .*000000008 .*the state of step 4 is complete; free disk space", message)
            else 2
        )
    return 3


def test_a_full_disk_is_reported_and_the_last_state_stays(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(full_disk(tmp_path / "a")))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == 0
    assert [p.name for p in (tmp_path / "a" / "state").iterdir()] == ["000000004"]  # nothing half-written
    whole, again = Line(), Line()
    run_loop(whole, config(), tmp_path / "b")
    assert run_loop(again, config(), tmp_path / "a")["finished"] and same(again.result, whole.result)


def test_so_many_states_are_kept(tmp_path: Path) -> None:
    run_loop(Line(), config(keep_states=3, save_every=2), tmp_path)
    assert sorted(int(p.name) for p in (tmp_path / "state").iterdir()) == [10, 12, 14]


# ---------------------------------------------------------------- average
def test_the_average_is_validated_and_the_result(tmp_path: Path) -> None:
    task, plain = Line(), Line()
    run_loop(task, config(ema=0.9), tmp_path / "a")
    run_loop(plain, config(), tmp_path / "b")
    assert same(task.weights(), plain.weights())  # the training itself is the same
    expected = task.before[0]
    for n, weights in enumerate([*task.before[1:], task.weights()], start=1):
        stays = min(0.9, (1 + n) / (WARM + n))
        expected = [stays * a + (1 - stays) * w for a, w in zip(expected, weights, strict=True)]
    for a, b in zip(expected, task.result, strict=True):
        torch.testing.assert_close(a, b)
    assert same(task.validated, task.result) and not same(task.result, task.weights())
    assert same(plain.result, plain.weights())


def test_the_average_continues_where_it_stopped(tmp_path: Path) -> None:
    def stop() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    whole, first, second = Line(), Line({6: stop}), Line()
    run_loop(whole, config(ema=0.9), tmp_path / "a")
    assert not run_loop(first, config(ema=0.9), tmp_path / "b")["finished"]
    run_loop(second, config(ema=0.9), tmp_path / "b")
    assert len(second.before) == STEPS - 7 and same(second.result, whole.result)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_decay_outside_of_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        config(ema=share)


# ---------------------------------------------------------------- kill -9
def die() -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def half_written(path: Path, tensors: dict[str, Tensor]) -> None:
    """Dies in the middle of the file, under the name that the real writer has at that moment."""
    checkpoint.save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, str(path) + ".part")
    data = Path(f"{path}.part").read_bytes()
    Path(f"{path}.part").write_bytes(data[: len(data) // 2])
    die()


def a_life(out: Path, moment: str) -> None:
    """Run in a child process: train until the end, or kill itself at `moment`."""
    torch.set_num_threads(1)
    kind, _, number = moment.partition("@")
    task = Line({int(number): die} if kind == "step" else {})
    calls = {"n": 0}

    def at(name: str, module: object, function: Callable) -> None:
        original = getattr(module, name)

        def wrapped(*args: object) -> object:
            calls["n"] += 1
            return function(original, *args) if calls["n"] == int(number) else original(*args)

        setattr(module, name, wrapped)

    if kind == "tensors":
        at("write_tensors", run_state, lambda _, path, tensors: half_written(path, tensors))
    elif kind == "json":
        at("write_json", run_state, lambda *_: die())
    elif kind == "unnamed":  # everything is written, but the folder does not have its name yet
        at("write_json", run_state, lambda original, *args: (original(*args), die()))
    elif kind == "named":  # before older states are dropped
        at("_states", run_state, lambda *_: die())
    elif kind == "meta":  # the weights of the component are written, its description is not
        at("write_json", checkpoint, lambda *_: die())
    run_loop(task, config(ema=0.9), out)


def live(out: Path, moment: str = "never@0") -> int | None:
    """Run `a_life` in a forked process, so that PyTorch is loaded once."""
    process = multiprocessing.get_context("fork").Process(target=a_life, args=(out, moment))
    process.start()
    process.join(timeout=120)
    return process.exitcode


def files(out: Path) -> dict[str, bytes]:
    """All files of a finished run that do not depend on the clock."""
    paths = [*out.glob("system/[!.]*"), *out.glob("state/*/*.safetensors")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_kill_9_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    assert live(tmp_path / "whole") == 0
    moments = ["step@2", "tensors@1", "json@1", "step@5", "unnamed@1", "named@2", "step@11", "tensors@2", "meta@1"]
    expected_step = 0
    for moment in moments:
        assert live(tmp_path / "broken", moment) == -signal.SIGKILL, moment
        step, _ = stored(tmp_path / "broken")
        assert step >= expected_step and step % SAVE_EVERY in (0, STEPS % SAVE_EVERY)
        expected_step = step
    assert live(tmp_path / "broken") == 0
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 4  # component, meta.json and two states
    assert not list((tmp_path / "broken" / "state").glob(".*"))  # nothing half-written stays


def write_pool(folder: Path) -> None:
    from runtime.audio import write_wav

    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"t{i}.wav" for i in range(4)]
    for name in names:
        write_wav(folder / name, (0.2 * rng.standard_normal(22050)).astype(np.float32), 44100)
    rows = "".join(f"{name},x,0.5,CC0-1.0,a,b\n" for name in names)
    (folder / "sounds.csv").write_text("file,label,seconds,licence,author,source\n" + rows)


@pytest.mark.slow
def test_kill_9_of_the_command_from_outside(tmp_path: Path) -> None:
    """The real command on a recipe without a time budget, killed while it trains or saves."""
    write_pool(tmp_path / "sounds")
    sizes = "batch = 1\nframes = 8\nthreads = 1\nvalidation_sounds = 1\n"
    loop_table = "[loop]\nsteps = 24\nsave_every = 2\nvalidate_every = 1000\nlog_every = 1\n"
    recipe = tmp_path / "codec.toml"
    recipe.write_text(f'[task]\nname = "codec"\nsounds = "{tmp_path / "sounds"}"\n{sizes}{loop_table}')

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "train.fit", str(recipe), "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    log = tmp_path / "broken" / "log.jsonl"
    for lines in (3, 12):
        process = start(tmp_path / "broken")
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < lines):
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    for out in ("broken", "whole"):
        assert start(tmp_path / out).wait() == 0
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
