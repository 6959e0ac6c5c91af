"""Several processes learn what one process learns, with DDP and FSDP, and after they were stopped and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.support.prepared import together, write_prepared
from train import fit
from train.checkpoint import load
from train.distributed import gather_rows, sum_over_processes
from train.tasks.maskvat import MaskVATTask

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
STEPS = 20
RECIPE = """
[task]
name = "{task}"
data = "{root}/prepared"
validation = "{root}/prepared"
system = "{root}/system"
device = "cpu"
batch = 8
{more}
[loop]
steps = 20
learning_rate = 3e-3
warmup_steps = 3
save_every = 5
keep_states = 4
log_every = 1
validate_every = 1000
ema = 0.9
"""
MASKVAT = """
design = "{design}"
size = "tiny"
crop_seconds = 0.5
model = {{ hidden_size = 32, n_blocks = 1, n_heads = 2, encoder_blocks = 1 }}
"""
SCAV = "dim = 16\nlayers = 1\nheads = 2\ndevice_batch = 2"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("distributed"), examples=12)


def recipe(root: Path, design: str) -> Path:
    """A recipe for a design of MaskVAT, or for SCAV."""
    path = root / f"{design}.toml"
    task = "scav-prepared" if design == "scav" else "maskvat"
    more = SCAV if design == "scav" else MASKVAT.format(design=design)
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_text(RECIPE.format(root=root, task=task, more=more))
    return own.replace(path)  # at once: both processes of a test write it, and none may read half of it


def arguments(root: Path, design: str, out: str, *changes: str) -> list[str]:
    sets = [word for change in changes for word in ("--set", change)]
    return [str(recipe(root, design)), "--out", str(root / out), *sets]


def losses(root: Path, out: str) -> dict[int, dict[str, float]]:
    """The last line of the log for every step."""
    rows = [json.loads(line) for line in (root / out / "log.jsonl").read_text().splitlines()]
    keys = ("loss", "gradient", "mse", "contrastive")
    return {row["step"]: {key: row[key] for key in keys if key in row} for row in rows}


def same(found: dict[int, dict[str, float]], expected: dict[int, dict[str, float]]) -> None:
    assert found.keys() == expected.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], abs=1e-5, rel=1e-5), step


@pytest.fixture(scope="module")
def alone(root: Path) -> dict[int, dict[str, float]]:
    """Losses of Hybrid in one process, in one part."""
    assert fit.main(arguments(root, "hybrid", "alone")) == 0
    found = losses(root, "alone")
    assert len(found) == STEPS and found[STEPS]["loss"] < found[1]["loss"]
    kept = json.loads((root / "alone" / "recipe.json").read_text())
    assert kept["task"]["mse_weight"] == 1.0 and kept["loop"]["betas"] == [0.9, 0.96]  # as resolved
    return found


# ---------------------------------------------------------------- one process, several parts
@pytest.mark.parametrize("part", [2, 4])
def test_parts_have_the_gradient_of_the_whole_batch(root: Path, part: int) -> None:
    folders = {"data": f"{root}/prepared", "validation": f"{root}/prepared", "system": f"{root}/system"}
    small = {"size": "tiny", "crop_seconds": 0.5, "batch": 8, "device": "cpu", "condition_dropout": 0.5}
    whole, split = (MaskVATTask.from_options(folders | small | {"device_batch": b}, seed=0) for b in (0, part))
    found, expected = split.backward(2), whole.backward(2)
    for key in ("loss", "tokens", "mse", "contrastive"):  # target_std is the mean of the parts'
        assert found[key] == pytest.approx(expected[key], rel=1e-5), key
    for (name, a), b in zip(whole.module.named_parameters(), split.module.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023


def test_a_batch_that_cannot_be_split_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit.main(arguments(root, "hybrid", "refused", "task.device_batch=3")) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith("error: task.batch 8 cannot be split over 1 processes in parts of 3")
        and "\n" not in error[:-1]
    )


# ---------------------------------------------------------------- several processes
def test_two_processes_equal_one(root: Path, alone: dict[int, dict[str, float]]) -> None:
    assert together(2, lambda _: fit.main(arguments(root, "hybrid", "two", "task.device_batch=2"))) == [0, 0]
    same(losses(root, "two"), alone)


@pytest.mark.slow
def test_fsdp_equals_ddp_and_is_resumed_in_one_process(root: Path, alone: dict[int, dict[str, float]]) -> None:
    assert together(2, lambda _: fit.main(arguments(root, "hybrid", "fsdp", "task.strategy=fsdp"))) == [0, 0]
    same(losses(root, "fsdp"), alone)
    assert load(root / "system", "maskvat").config.hidden_size == 32  # saved whole
    states = sorted((root / "fsdp" / "state").iterdir())
    assert [int(state.name) for state in states] == [5, 10, 15, 20]
    for late in states[2:]:
        shutil.rmtree(late)
    assert fit.main(arguments(root, "hybrid", "fsdp")) == 0
    same(losses(root, "fsdp"), alone)


@pytest.mark.slow
def test_sigterm_of_one_process_stops_all_and_the_run_is_resumed(
    root: Path, alone: dict[int, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MaskVATTask.backward

    def backward(task: MaskVATTask, step: int) -> dict[str, float]:
        if step == 7 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return real(task, step)

    monkeypatch.setattr(MaskVATTask, "backward", backward)
    assert together(2, lambda _: fit.main(arguments(root, "hybrid", "stopped"))) == [75, 75]
    assert max(int(p.name) for p in (root / "stopped" / "state").iterdir()) == 8
    monkeypatch.undo()
    assert together(2, lambda _: fit.main(arguments(root, "hybrid", "stopped", "task.strategy=fsdp"))) == [0, 0]
    same(losses(root, "stopped"), alone)


@pytest.mark.slow
def test_scav_in_two_processes_equals_one_with_dropout(root: Path) -> None:
    assert fit.main(arguments(root, "scav", "scav1")) == 0
    assert together(2, lambda _: fit.main(arguments(root, "scav", "scav2"))) == [0, 0]
    same(losses(root, "scav2"), losses(root, "scav1"))
    assert load(root / "system", "scav").config.dim == 16


def test_a_task_for_one_process_says_so(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = root / "codec.toml"
    path.write_text('[task]\nname = "codec"\n')
    assert together(2, lambda _: fit.main([str(path), "--out", str(root / "codec")])) == [1, 1]
    assert capfd.readouterr().err.count("the task codec trains in one process, not in 2") == 2


def test_sums_and_rows_of_processes(tmp_path: Path) -> None:
    def work(rank: int) -> int:
        from train.distributed import gather_objects, max_over_processes, processes

        with processes():
            mine = torch.tensor([[float(rank)], [10.0 + rank]])
            assert gather_rows(mine).tolist() == [[0.0], [10.0], [1.0], [11.0]]
            assert sum_over_processes(mine).tolist() == [[1.0], [21.0]] and max_over_processes(mine).tolist() == [
                [1.0],
                [11.0],
            ]
            assert gather_objects(f"process {rank}") == ["process 0", "process 1"]
        return 0

    assert together(2, work) == [0, 0]
    alone = torch.ones(2)
    assert gather_rows(alone) is alone and sum_over_processes(alone) is alone


@pytest.mark.slow
def test_torchrun_starts_the_command(root: Path, alone: dict[int, dict[str, float]]) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "train.fit",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments(root, "hybrid", "torchrun")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    same(losses(root, "torchrun"), alone)
    assert json.loads(done.stdout.splitlines()[-1])["finished"] and done.stdout.count("finished") == 1
