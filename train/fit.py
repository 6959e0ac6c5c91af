"""`python -m train.fit RECIPE.toml [--out DIR] [--set table.key=value]`: train one component as its recipe says.

A recipe is a TOML file with two tables. [task] has `name` and the options of that task; [loop] has the fields of
LoopConfig (train.loop.trainer). To resume an interrupted run, run the same command again. DIR/recipe.json keeps the
recipe with all defaults filled in.

Several devices: `torchrun --nproc-per-node 8 -m train.fit RECIPE.toml ...`, for tasks that can split a batch.
"""

import argparse
import json
import os
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.errors import MediaError, OptionError
from train.errors import RecipeError
from train.extras import requires_extra
from train.recipe import defaults_of, options_from

with requires_extra("train", __name__):
    from train.checkpoint import resolve, write_json
    from train.distributed import barrier, processes, rank, world_size
    from train.errors import CheckpointError, ShardError, TrainingError
    from train.loop.trainer import LoopConfig, PartsTask, Task, describe, fit
    from train.models.loading import WeightsError

TASKS = {  # name -> factory(options: dict, seed: int) -> Task
    "codec": "train.tasks.codec:CodecTask.from_options",
    "sync": "train.tasks.sync:SyncTask.from_options",
    "scav": "train.tasks.scav_joint:ScavTask.from_options",
    "scav-prepared": "train.tasks.scav:ScavPreparedTask.from_options",
    "maskvat": "train.tasks.maskvat:MaskVATTask.from_options",
}
CHANGEABLE = {  # when a run is resumed: length, reports, remedies for divergence, paths, provenance
    *(f"loop.{key}" for key in ("steps", "minutes", "save_every", "log_every", "validate_every", "generate_every")),
    *(f"loop.{key}" for key in ("keep_states", "result", "tensorboard")),
    *(f"loop.{key}" for key in ("learning_rate", "final_learning_rate", "clip_norm")),
    *(f"task.{key}" for key in ("sounds", "class_sounds", "clips", "data", "frames", "system", "start", "device")),
    *(f"task.{key}" for key in ("validation", "validation_data", "validation_clips", "validation_frames")),
    *(f"task.{key}" for key in ("data_licence", "origin")),
    *(
        f"task.{key}" for key in ("device_batch", "strategy", "compile", "readers")
    ),  # these change the speed, not the result
    *("task.validation_count", "task.metric_weights"),
    *(f"task.generate_{key}" for key in ("count", "steps", "guidance", "diversity")),
    # names that stored recipes of earlier versions have for the generate_* options
    *("loop.judge_every", *(f"task.judge_{key}" for key in ("clips", "batch", "steps", "guidance", "diversity"))),
}
# errors that a user can fix: printed in one line
EXPECTED = (
    RecipeError,
    CheckpointError,
    TrainingError,
    ShardError,
    WeightsError,
    MediaError,
    OptionError,
    ImportError,
    OSError,
)
STOPPED = 75  # exit status of an interrupted run; the same command resumes it


def read_recipe(path: Path, changes: list[str]) -> dict[str, dict[str, Any]]:
    """Read {"task": {...}, "loop": {...}} from a TOML file and apply every table.key=value of `changes`.

    Raises RecipeError for a missing or invalid file, an unknown table or task, and a malformed change.
    """
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path}; the project's recipes are in train/recipes") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    for change in changes:
        key, separator, text = change.partition("=")
        table, _, name = key.partition(".")
        if not separator or not name or table not in ("task", "loop"):
            raise RecipeError(f"--set {change}: write task.KEY=VALUE or loop.KEY=VALUE")
        recipe.setdefault(table, {})[name] = _value(text)
    unknown = sorted(set(recipe) - {"task", "loop"})
    if unknown:
        raise RecipeError(f"{path} has unknown tables {', '.join(unknown)}; a recipe has [task] and [loop]")
    name = recipe.get("task", {}).get("name")
    if name not in TASKS:
        raise RecipeError(f"{path}: [task] name is {name!r}; choose from {', '.join(TASKS)}")
    return {"task": recipe["task"], "loop": recipe.get("loop", {})}


def _value(text: str) -> Any:
    """Parse a TOML value; text that is not one, such as a path, is returned as it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def keep_recipe(out: Path, recipe: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    """Store the resolved recipe in out/. Raises RecipeError if out/ holds a run with another recipe.

    Keys in CHANGEABLE may differ; the learning rate then decays over the new length. `defaults` of the task fill in the
    keys that a stored recipe does not have.
    """
    path = out / "recipe.json"
    recipe = json.loads(json.dumps(recipe))  # tuples become lists, as in the stored file
    if path.exists():
        kept = _kept_recipe(path)
        kept["task"] = json.loads(json.dumps(defaults or {})) | kept["task"]
        changed = {
            f"{table}.{key}"
            for table in recipe
            for key in recipe[table].keys() | kept[table].keys()
            if recipe[table].get(key) != kept[table].get(key)
        }
        changed = sorted(changed - CHANGEABLE)
        if changed:
            raise RecipeError(f"{out} holds a run with other values of {', '.join(changed)}; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, recipe)


def _kept_recipe(path: Path) -> dict[str, dict[str, Any]]:
    """Read the recipe that a run was started with. Raises RecipeError if the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {"task": dict(kept["task"]), "loop": dict(kept["loop"])}
    except (ValueError, KeyError, TypeError) as error:
        advice = "delete it to continue with this recipe without a comparison, or choose another --out"
        raise RecipeError(f"{path} is damaged ({error!r}); {advice}") from error


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.fit", description="Train one component of a system.")
    parser.add_argument("recipe", type=Path, help="TOML file, see train/recipes")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME, with the recipe's file name)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="override a value of the recipe; may be repeated",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def make_task(recipe: dict[str, dict[str, Any]], loop: LoopConfig) -> Task:
    """Build the task of a recipe. Raises RecipeError if it cannot split its batch over torchrun's processes."""
    name = recipe["task"]["name"]
    owner, _, factory = TASKS[name].rpartition(".")
    if world_size() > 1 and not issubclass(resolve(owner), PartsTask):
        raise RecipeError(f"the task {name} trains in one process, not in {world_size()}; start it without torchrun")
    options = {key: value for key, value in recipe["task"].items() if key != "name"}
    task: Task = getattr(resolve(owner), factory)(options, loop.seed)
    return task


def run(recipe: dict[str, dict[str, Any]], out: Path) -> dict[str, Any]:
    """Train as the recipe says; return the results of train.loop.trainer.fit."""
    loop = options_from(LoopConfig, recipe["loop"], "loop")
    task = make_task(recipe, loop)
    if rank() == 0:
        stated = recipe["task"] | asdict(task.options)  # with the defaults that the recipe does not state
        keep_recipe(out, {"task": stated, "loop": describe(loop)}, defaults_of(type(task.options)))
    barrier()
    return fit(task, loop, out)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 finished, 75 interrupted, 1 error."""
    options = get_parser().parse_args(arguments)
    out = options.out or Path("runs") / options.recipe.stem
    try:
        recipe = read_recipe(options.recipe, options.set)
        with processes():
            results = run(recipe, out)
    except EXPECTED as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    if int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps(results))
        if not results["finished"]:
            print("stopped; run the same command again to continue", file=sys.stderr)
    return 0 if results["finished"] else STOPPED


if __name__ == "__main__":
    sys.exit(main())
