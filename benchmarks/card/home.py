"""What travels home from a run: results and the states of trainings; and where it goes there."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.card.pieces import join_all, size_of
from benchmarks.card.store import CARD, Store
from runtime.errors import OptionError

STATE, TENSORS = "state", "tensors.safetensors"
PREFIX = "train-"  # of the files of a training


def newest_state(run: Path) -> Path | None:
    """The folder of a run's newest state; None without one."""
    states = sorted(p for p in (run / STATE).glob("[0-9]*") if (p / "state.json").is_file())
    return states[-1] if states else None


def step_of(run: Path) -> int:
    """Steps done; 0 before the first state."""
    state = newest_state(run)
    return 0 if state is None else int(json.loads((state / "state.json").read_text(encoding="utf-8"))["step"])


def home_state(run: Path, target: Path, room: int) -> str | None:
    """Copy the newest state to target/state/STEP if it has at most `room` bytes, else without the optimiser's numbers.

    Returns what was left behind, in words; None if nothing was.
    """
    state = newest_state(run)
    shutil.rmtree(target, ignore_errors=True)
    if state is None:
        return None
    copy = target / STATE / state.name
    copy.mkdir(parents=True)
    shutil.copy(run / "recipe.json", target / "recipe.json")
    shutil.copy(state / "state.json", copy / "state.json")
    if size_of(state) <= room:
        shutil.copy(state / TENSORS, copy / TENSORS)
        return None
    from safetensors.numpy import load_file, save_file  # the rest of this command runs without packages

    tensors = {k: v for k, v in load_file(state / TENSORS).items() if not k.startswith("optimizer.")}
    save_file(tensors, copy / TENSORS)
    return "the optimiser's numbers stay behind: the next run goes on with the weights, and its averages begin anew"


def carry_states(store: Store, trainings: list[dict[str, Any]]) -> list[str]:
    """Write the states of all runs into the output folder; returns what does not fit, one line each."""
    folders, notes = {}, []
    room = (store.limit.files - 2 - 2 * len(trainings)) * store.limit.bytes_each // max(1, len(trainings))
    for training in trainings:
        name = training["name"]
        run, target = store.work / "runs" / name, store.work / "home" / name
        if newest_state(run) is not None:
            note = home_state(run, target, room)
            notes += [f"{PREFIX}{name}: {note}"] if note else []
            folders[f"{PREFIX}{name}"] = target
    return notes + store.carry_home(folders)


def unpack(results: Path, folder: Path) -> tuple[Path, dict[str, Path]]:
    """The card.json and, by name, the run folders of an --out folder, joined in the new folder `folder`.

    Raises OptionError if it is not one, or if a state is damaged or incomplete.
    """
    if not (results / CARD).is_file():
        raise OptionError(f"{results} has no {CARD}; give the --out folder of an earlier run")
    try:
        dict(json.loads((results / CARD).read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{results / CARD} is not a result of benchmarks.card ({error!r}); take it home again"
        ) from error
    if folder.exists():
        raise OptionError(f"{folder} exists; give a new folder")
    shutil.copytree(results, folder)
    if problems := join_all(folder):
        raise OptionError(f"{results} is not complete: {'; '.join(problems)}")
    runs: dict[str, Path] = {}
    for file in sorted(folder.glob(f"{PREFIX}*.*")):
        name, _, rest = file.name.removeprefix(PREFIX).partition(".")
        runs[name] = folder / "runs" / name
        parts = rest.split(".", 2) if rest.startswith(f"{STATE}.") else [rest]
        target = runs[name].joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    return folder / CARD, runs
