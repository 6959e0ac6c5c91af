"""Measure how fast a recipe trains on this machine.

    python -m benchmarks.fit RECIPE.toml [--set table.key=value]      also under torchrun

Runs the real training steps of train.fit on the recipe's data, with reading and optimiser. Saves nothing. The first
steps (compilation, warm-up) and validation are not timed.

--random needs no data: it uses noise as codes and features, and random weights of the recipe's size. The speed is the
same, because it does not depend on the weights.

The table shows the median step. `mfu` (model FLOPs utilisation) is the rate of the step's operations over the rate of
the fastest matrix product, measured in the same run before and after the steps. Hours for an epoch of VGGSound are
extrapolated from clips per second; hours of the recipe from the steps and the batch size in its file. The last line is
one JSON object.
"""

import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command, table
from engines.contract import ModelConfig
from runtime.errors import OptionError
from train.evaluate.bootstrap import interval
from train.extras import requires_extra

with requires_extra("train", __name__):
    import torch

    from benchmarks.common.random_system import RANDOM, write_random
    from train.checkpoint import read_meta
    from train.distributed import max_over_processes, processes, rank, world_size
    from train.fit import EXPECTED, make_task, read_recipe
    from train.loop.flops import Cost, gemm_peak
    from train.loop.run_state import Run
    from train.loop.trainer import LoopConfig, PartsTask, one_step
    from train.recipe import options_from

VGGSOUND = 155_000  # training clips in the paper
NOISE_EXAMPLES = 8
Recipe = dict[str, dict[str, Any]]


def measure(recipe: dict[str, Any], steps: int, warm: int) -> dict[str, Any]:
    """Time `steps` training steps after `warm` untimed ones. Raises OptionError if the task has no `cost`."""
    config = options_from(LoopConfig, recipe["loop"], "loop")
    task = make_task(recipe, config)
    cost = getattr(task, "cost", None)
    if cost is None or not isinstance(task, PartsTask):
        raise OptionError(
            f"the task {recipe['task']['name']} does not report its operations; give a recipe of the task maskvat"
        )
    optimizer = torch.optim.AdamW(task.module.parameters(), config.learning_rate, config.betas)
    run, seconds = Run(), []
    peak = gemm_peak(cost.device, cost.dtype)
    for n in range(warm + steps):
        begin = time.perf_counter()
        one_step(task, config, run, optimizer)  # ends by reading the loss, so the device has finished
        if n >= warm:
            seconds.append(time.perf_counter() - begin)
    peak = max(peak, gemm_peak(cost.device, cost.dtype))
    slowest = max_over_processes(torch.tensor(seconds, dtype=torch.float64)).numpy()
    return step_figures(cost, slowest, peak * world_size()) | {
        "batch": task.options.batch,
        "parameters": parameters(task.module),
    }


def step_figures(cost: Cost, seconds: Any, peak: float) -> dict[str, Any]:
    """Figures of the median step."""
    median = float(np.median(seconds))
    return {
        "device": torch.cuda.get_device_name() if cost.device.type == "cuda" else "cpu",
        "processes": world_size(),
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


# ---------------------------------------------------------------- data for speed
def random_example(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Random arrays of an example of one window (docs/DATA.md)."""
    rng, tokens = np.random.default_rng(seed), config.window_tokens
    n_audio = config.window_seconds * config.audio_rate // config.audio_stride
    shapes = {"clip_features": (config.n_clip(tokens), config.clip_dim)}
    shapes["sync_features"] = (config.n_sync(tokens), config.sync_dim)
    codes = rng.integers(0, config.codebook_size, (config.n_codebooks, tokens)).astype(np.uint16)
    audio = rng.standard_normal((n_audio, config.audio_bands, config.audio_dim)).astype(np.float16)
    features = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    return {"codes": codes, "audio_features": audio} | features


def with_random_data(recipe: Recipe, folder: Path) -> Recipe:
    """Write random data and a system with random weights to `folder`; return the recipe that uses them.

    Raises OptionError for a size that cannot be made.
    """
    size = recipe["task"].get("size", "mini")
    if size not in RANDOM:
        raise OptionError(f"--random makes systems of size {', '.join(RANDOM)}; the recipe has size {size!r}")
    system, data = folder / "system", folder / "prepared"
    write_random(size, system)
    config = ModelConfig.from_dict(read_meta(system)["components"]["maskvat"]["config"])
    data.mkdir()
    for n in range(NOISE_EXAMPLES):
        np.savez(data / f"{n}.npz", **random_example(config, n))
    places = {"system": str(system), "data": str(data), "validation": str(data), "generate_count": 0}
    return recipe | {"task": recipe["task"] | places}


# ---------------------------------------------------------------- the command
def extrapolate(values: dict[str, Any], recipe: Recipe, tflops: float | None) -> dict[str, Any]:
    """Hours of an epoch of VGGSound and of the whole recipe at the measured clips per second.

    `recipe` is the recipe as its file states it; the measured batch may be smaller. With `tflops`, the peak of another
    device, also the hours on that device at the same MFU.
    """
    steps = recipe["loop"].get("steps", LoopConfig.steps)
    examples = steps * recipe["task"].get("batch", values["batch"])
    per_example = values["flops_per_step"] / values["batch"]
    hours = {"vggsound_clips": VGGSOUND, "hours_per_epoch_of_vggsound": VGGSOUND / values["clips_per_second"] / 3600}
    hours |= {"clips_of_the_recipe": examples, "hours_of_the_recipe": examples / values["clips_per_second"] / 3600}
    hours |= {"flops_per_clip": per_example, "flops_of_the_recipe": per_example * examples}
    if tflops is not None:
        device_hours = per_example / (tflops * 1e12 * values["mfu"]) / 3600
        hours |= {"device_tflops": tflops, "device_hours_of_the_recipe": device_hours * examples}
        hours["device_hours_per_epoch_of_vggsound"] = device_hours * VGGSOUND
    return hours


def run(args: Namespace) -> None:
    for name in ("steps", "warm"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} is {getattr(args, name)}; it must be 1 or more")
    recipe, recipe_in_file = (read_recipe(args.recipe, changes) for changes in (args.set, []))
    with processes(), tempfile.TemporaryDirectory() as scratch:
        values = measure(with_random_data(recipe, Path(scratch)) if args.random else recipe, args.steps, args.warm)
        if rank() > 0:
            return
    values["clips_per_second"] = values["batch"] / values["seconds_per_step"]
    values |= extrapolate(values, recipe_in_file, args.tflops) | {"random_data": args.random}
    rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value)] for name, value in values.items()]
    print(table(("", "value"), rows))
    settings = {key: value for key, value in recipe["task"].items() if not isinstance(value, str)}
    names = {key: recipe["task"][key] for key in ("design", "size") if key in recipe["task"]}
    finish(make_result("fit", values | {"recipe": args.recipe.name, "task": settings | names}), args.out)


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser("benchmarks.fit", __doc__)
    parser.add_argument("recipe", type=Path, help="recipe file, see train/recipes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change a value of the recipe"
    )
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    parser.add_argument("--warm", type=int, default=3, help="untimed steps before them (default: 3)")
    parser.add_argument("--random", action="store_true", help="use random data and random weights")
    parser.add_argument(
        "--tflops", type=float, help="peak of another device in TFLOP/s: also estimate the hours on it, at the same MFU"
    )
    add_output_options(parser)
    return run_command(run, parser.parse_args(arguments), *EXPECTED)


if __name__ == "__main__":
    sys.exit(main())
