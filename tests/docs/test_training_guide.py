"""The commands of docs/PAPER_SCALE.md, as they stand there, on two processes and a tiny corpus."""

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.distributed.run import parse_args

from tests.support.prepared import arrays, together, write_prepared, write_shards
from tests.support.tiny_system import tiny_components
from train.checkpoint import read_meta

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
GUIDE = (ROOT / "docs" / "PAPER_SCALE.md").read_text(encoding="utf-8")
COMMANDS = [line for line in GUIDE.splitlines() if line.startswith("torchrun")]
LOOP = {"steps": 2, "warmup_steps": 1, "save_every": 1}
MASKVAT = {
    "size": '"tiny"',
    "batch": 4,
    "device_batch": 1,
    "generate_count": 2,
    "generate_steps": 2,
    "compile": "false",
}
SCAV = {"batch": 4, "device_batch": 1, "dim": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shards, the systems and the recipes that the guide names."""
    folder = write_prepared(tmp_path_factory.mktemp("guide"), examples=1)
    config = tiny_components()["maskvat"].config
    for split, first in (("train", 0), ("validation", 10)):
        write_shards(folder / "shards", [arrays(config, first + n) for n in range(4)], split)
    for design in ("seq2seq", "adaln_a", "adaln_b"):
        shutil.copytree(folder / "system", folder / f"system-{design}")
    shutil.copytree(ROOT / "train" / "recipes", folder / "train" / "recipes")
    (folder / "runs").mkdir()
    return folder


def tiny(command: str) -> list[str]:
    """The same command with two processes and small sizes."""
    words = shlex.split(command)
    words[words.index("--nproc-per-node") + 1] = "2"
    task = SCAV if "scav.toml" in command else MASKVAT
    for table, changes in (("task", task), ("loop", LOOP)):
        for key, value in changes.items():
            words += ["--set", f"{table}.{key}={value}"]
    if "benchmarks.fit" in command:
        words += ["--steps", "1", "--warm", "1"]
    return words[1:]


def by_torchrun(words: list[str], folder: Path) -> str:
    """Run the words of torchrun as a person does; returns what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_fork(words: list[str], folder: Path) -> str:
    """The same without new interpreters, which import PyTorch for ten seconds: torchrun's parser, then two forks."""
    options = parse_args(words)
    assert options.module and options.standalone and options.nproc_per_node == "2"
    main = importlib.import_module(options.training_script).main
    importlib.import_module("torch.utils.tensorboard")  # once, before the forks

    def work(rank: int) -> int:
        os.chdir(folder)
        return int(main(options.training_script_args))

    assert together(2, work) == [0, 0]
    return ""  # the processes print to this one's stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.split("--out ")[1].split()[0])
def test_the_guides_command_runs(corpus: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = by_torchrun if command == COMMANDS[0] else by_fork
    printed = run(tiny(command), corpus) or capfd.readouterr().out
    values = json.loads(printed.splitlines()[-1])
    if "benchmarks.fit" in command:
        assert values["processes"] == 2 and json.loads((corpus / "fit.json").read_text()) == values
        return
    out = corpus / command.split("--out ")[1].split()[0]
    assert values["finished"] and (out / "recipe.json").exists() and list((out / "tensorboard").iterdir())
    if "scav" not in command:
        assert values["validation_aggregate"] > 0 and "FAD" not in values
        system = command.partition("task.system=")[2] or "system"
        assert read_meta(corpus / system)["components"]["maskvat"]["config"]["design"] == out.name


def test_the_guide_has_all_designs() -> None:
    assert len(COMMANDS) == 6 and sum("maskvat.toml" in c and "train.fit" in c for c in COMMANDS) == 4
