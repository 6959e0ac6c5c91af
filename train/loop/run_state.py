"""The state of a run on disk: DIR/state/STEP/, written by the first process, completely or not at all.

DIR/best/STEP/ holds the weights with the best score so far, without the optimiser.

A state holds full tensors, even if the network is sharded, so a run may be resumed with another number of processes.
"""

import json
import math
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from train.checkpoint import write_json, write_tensors
from train.distributed import barrier, rank, to_full, to_sharded
from train.errors import TrainingError
from train.loop.ema import Average


@dataclass
class Run:
    """The part of a state that is not tensors."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent training, over all sessions


def save_state(
    out: Path,
    run: Run,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None = None,
    keep: int = 2,
) -> None:
    """Write out/state/STEP/, then delete all but the `keep` newest states. All processes must call it.

    Raises TrainingError if it cannot be written, for example on a full disk. Older states are then unchanged.
    """
    tensors = {f"module.{name}": to_full(value) for name, value in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": to_full(torch.as_tensor(value)) for slot, value in slots.items()}
    if average is not None:
        tensors |= {f"average.{name}": to_full(value) for name, value in average.weights.items()}
    if rank() == 0:
        _write(out / "state", run, tensors)
        for old in _states(out)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    barrier()


def save_best(out: Path, run: Run, module: nn.Module, score: float) -> None:
    """Store the module's weights in out/best/STEP/ if their score is the highest so far. All processes must call it.

    Raises TrainingError if they cannot be written. The older ones are then unchanged.
    """
    kept = _states(out, "best")
    better = not kept or score > _score(kept[-1])
    barrier()  # the first process must not change the folder before the others have read it
    if not better:
        return
    tensors = {f"module.{name}": to_full(value) for name, value in module.state_dict().items()}
    if rank() == 0:
        _write(out / "best", run, tensors, score=score)
        for old in kept:
            if int(old.name) != run.step:
                shutil.rmtree(old, ignore_errors=True)
    barrier()


def _score(folder: Path) -> float:
    """The score of the weights in out/best/STEP/; minus infinity if it cannot be read."""
    try:
        return float(json.loads((folder / "state.json").read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf


def load_best(out: Path, module: nn.Module) -> int | None:
    """Load the best weights of out/ into the module and return their step; without any, return None."""
    for folder in reversed(_states(out, "best")):
        own = module.state_dict()
        stored = _part(load_file(str(folder / "tensors.safetensors")), "module")
        module.load_state_dict({name: to_sharded(value, own[name]) for name, value in stored.items()}, strict=True)
        return int(folder.name)
    return None


def _write(root: Path, run: Run, tensors: dict[str, Tensor], **numbers: float) -> None:
    temporary, final = root / f".{run.step:09d}", root / f"{run.step:09d}"
    for folder in (final, *root.glob(".[0-9]*")):  # includes what killed runs left half-written
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / "tensors.safetensors", tensors)
        write_json(temporary / "state.json", asdict(run) | numbers)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = _states(root.parent, root.name)
        rest = f"the {root.name} of step {int(kept[-1].name)} is complete" if kept else "there is none before it"
        size = sum(value.nbytes for value in tensors.values()) / 1e9
        advice = f"free disk space ({size:.2g} GB a state) and run the same command again"
        raise TrainingError(f"cannot write {final} ({error}); {rest}; {advice}") from error
    temporary.rename(final)


def _states(out: Path, name: str = "state") -> list[Path]:
    return sorted(p for p in (out / name).glob("[0-9]*") if (p / "state.json").exists())


def load_state(out: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> Run:
    """Load the newest readable state of out/ into module, optimizer and average; without one, return a fresh Run.

    Raises TrainingError if the state belongs to another network.
    """
    for folder in reversed(_states(out)):
        try:
            tensors = load_file(str(folder / "tensors.safetensors"))
            run = Run(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            print(f"skipped {folder}: not readable ({error}); the state before it is used", file=sys.stderr)
            continue
        try:
            own = module.state_dict()
            stored = {n: to_sharded(v, own[n]) if n in own else v for n, v in _part(tensors, "module").items()}
            module.load_state_dict(stored, strict=True)
        except RuntimeError as error:
            raise TrainingError(
                f"{folder} belongs to another network; choose another output folder ({error})"
            ) from error
        _load_optimizer(optimizer, _part(tensors, "optimizer"))
        if average is not None:
            average.load(_part(tensors, "average"), module)
        return run
    return Run()


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load optimizer tensors, named INDEX.SLOT after the index of their parameter."""
    parameters = optimizer.param_groups[0]["params"]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split(".", 1)
        like = parameters[int(index)]
        slots.setdefault(int(index), {})[slot] = to_sharded(value, like) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
