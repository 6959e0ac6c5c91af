"""Where a run stands, on disk: DIR/state/STEP/, written as a whole or not at all, by the first process for all.

DIR/best/STEP/ are the weights alone that were judged best so far, and their score.

A state holds whole tensors, however many processes the network was split among, so a run may go on with another number
of them.
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
    """What a state holds beside tensors."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent training, over all sittings


def save_state(
    out: Path,
    run: Run,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None = None,
    keep: int = 2,
) -> None:
    """Write out/state/STEP/, then drop all but the `keep` newest ones. All processes must call it.

    Raises TrainingError where it cannot be written (a full disk): older states are then as they were.
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
    """Keep the module's weights in out/best/STEP/, if those that are there have a lower score. All processes call it.

    Raises TrainingError where they cannot be written; older ones are then as they were.
    """
    kept = _states(out, "best")
    better = not kept or score > _score(kept[-1])
    barrier()  # before the first process changes what the others look at
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
    """Of the weights in out/best/STEP/; those that cannot be read are worse than any."""
    try:
        return float(json.loads((folder / "state.json").read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf


def load_best(out: Path, module: nn.Module) -> int | None:
    """Load the best weights of out/ into the module. Returns their step; None, and nothing is loaded, without any."""
    for folder in reversed(_states(out, "best")):
        own = module.state_dict()
        stored = _part(load_file(str(folder / "tensors.safetensors")), "module")
        module.load_state_dict({name: to_sharded(value, own[name]) for name, value in stored.items()}, strict=True)
        return int(folder.name)
    return None


def _write(root: Path, run: Run, tensors: dict[str, Tensor], **numbers: float) -> None:
    temporary, final = root / f".{run.step:09d}", root / f"{run.step:09d}"
    for folder in (final, *root.glob(".[0-9]*")):  # half-written ones of runs that were killed, too
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / "tensors.safetensors", tensors)
        write_json(temporary / "state.json", asdict(run) | numbers)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = _states(root.parent, root.name)
        rest = f"the {root.name} of step {int(kept[-1].name)} is whole" if kept else "there is none before it"
        size = sum(value.nbytes for value in tensors.values()) / 1e9
        advice = f"make room ({size:.2g} GB a state) and run the same command again"
        raise TrainingError(f"cannot write {final} ({error}); {rest}; {advice}") from error
    temporary.rename(final)


def _states(out: Path, name: str = "state") -> list[Path]:
    return sorted(p for p in (out / name).glob("[0-9]*") if (p / "state.json").exists())


def load_state(out: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> Run:
    """The newest readable state of out/, loaded into module, optimizer and average; a fresh run where there is none."""
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
            raise TrainingError(f"{folder} is of another network; choose another output folder ({error})") from error
        _load_optimizer(optimizer, _part(tensors, "optimizer"))
        if average is not None:
            average.load(_part(tensors, "average"), module)
        return run
    return Run()


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Tensors by INDEX.SLOT, the index of the parameter that they belong to."""
    parameters = optimizer.param_groups[0]["params"]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, slot = key.split(".", 1)
        like = parameters[int(index)]
        slots.setdefault(int(index), {})[slot] = to_sharded(value, like) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
