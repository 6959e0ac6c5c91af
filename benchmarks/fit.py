"""How fast a recipe trains here: `python -m benchmarks.fit RECIPE.toml [--set table.key=value]`, also under torchrun.

The real steps of train.fit on the recipe's own data, reading and optimiser included; nothing is saved. MFU is the share
of the fastest matrix product, which is measured in the same run, before and after the steps. The first steps, which
compile and warm up, and validation are not counted.
"""

import argparse
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import command, finish, result, table
from runtime.errors import OptionError
from train.extras import extra
from train.statistics import interval

with extra("train", __name__):
    import torch

    from train.cost import Cost, gemm_peak
    from train.distributed import largest, processes, rank, world
    from train.fit import EXPECTED, make_task, read_recipe
    from train.loop import LoopConfig, PartsTask, one_step
    from train.options import options_from
    from train.state import Run

VGGSOUND = 155_000  # training clips of the paper


def measure(recipe: dict[str, Any], steps: int, warm: int) -> dict[str, Any]:
    """Seconds of so many steps, and what they say. Raises OptionError for a task without a cost."""
    config = options_from(LoopConfig, recipe["loop"], "loop")
    task = make_task(recipe, config)
    cost = getattr(task, "cost", None)
    if cost is None or not isinstance(task, PartsTask):
        raise OptionError(f"the task {recipe['task']['name']} does not state its cost; benchmark a maskvat recipe")
    optimizer = torch.optim.AdamW(task.module.parameters(), config.learning_rate, config.betas)
    run, seconds = Run(), []
    peak = gemm_peak(cost.device, cost.dtype)
    for n in range(warm + steps):
        begin = time.perf_counter()
        one_step(task, config, run, optimizer)  # ends in reading the loss: the device is done
        if n >= warm:
            seconds.append(time.perf_counter() - begin)
    peak = max(peak, gemm_peak(cost.device, cost.dtype))
    slowest = largest(torch.tensor(seconds, dtype=torch.float64)).numpy()
    return facts(cost, slowest, peak * world()) | {"batch": task.options.batch, "parameters": parameters(task.module)}


def facts(cost: Cost, seconds: Any, peak: float) -> dict[str, Any]:
    """Numbers of the median step."""
    median = float(np.median(seconds))
    return {
        "device": torch.cuda.get_device_name() if cost.device.type == "cuda" else "cpu",
        "processes": world(),
        "dtype": str(cost.dtype).removeprefix("torch."),
        "steps": len(seconds),
        "seconds_per_step": median,
        "interval": interval(seconds, median=True),
        "tokens_per_second": cost.tokens / median,
        "flops_per_step": cost.flops,
        "gemm_flops_per_second": peak,
        "mfu": cost.flops / median / peak,
    }


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def run(args: Namespace) -> None:
    for name in ("steps", "warm"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} is {getattr(args, name)}; it must be 1 or more")
    recipe = read_recipe(args.recipe, args.set)
    with processes():
        values = measure(recipe, args.steps, args.warm)
        if rank() > 0:
            return
    values["clips_per_second"] = values["batch"] / values["seconds_per_step"]
    values["hours_per_epoch_of_vggsound"] = VGGSOUND / values["clips_per_second"] / 3600
    steps = recipe["loop"].get("steps", LoopConfig.steps)
    values["hours_of_the_recipe"] = steps * values["seconds_per_step"] / 3600
    rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value)] for name, value in values.items()]
    print(table(("", "value"), rows))
    settings = {key: value for key, value in recipe["task"].items() if not isinstance(value, str)}
    finish(result("fit", values | {"recipe": args.recipe.name, "task": settings}), args.out)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path, help="TOML file, see train/recipes")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change a recipe's value")
    parser.add_argument("--steps", type=int, default=20, help="that are timed (default: 20)")
    parser.add_argument("--warm", type=int, default=3, help="that come before (default: 3)")
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    return command(run, parser.parse_args(arguments), *EXPECTED)


if __name__ == "__main__":
    sys.exit(main())
