"""Utilisation: the share of the machine's rate of matrix products that each stage of a point reaches."""

from typing import Any

from benchmarks.latency import roofline
from engines.contract import ModelConfig

Values = dict[str, Any]


def add_shares(values: Values, size: str, config: ModelConfig, gflop: Values) -> None:
    """Add `shares` to the points of a size with full windows and one candidate.

    `gflop` maps each stage to the GFLOP of one window.
    """
    floors = {(f["size"], f["device"], f["precision"]): f["products"] for f in values["floors"]}
    for p in [*values["results"], *values["baselines"]]:
        if p["size"] != size or p["candidates"] != 1 or p["sound_seconds"] < config.window_seconds - 0.1:
            continue
        card, computed = computed_on(p["backend"], p["precision"])
        rows = floors.get((size, "card" if card else "cpu", computed))
        machine = values["machine_floor"]
        peak = machine.get("card_gflops", {}).get("fp32") if card else machine["gflops"]["fp32"]
        p["shares"] = stage_shares(p, config, rows, gflop, peak)


def computed_on(backend: str, precision: str) -> tuple[bool, str]:
    """Whether a backend runs on a GPU, and the precision that it computes a step in.

    ONNX Runtime computes weights stored as fp16 in fp32, on CPUs and GPUs.
    """
    card = backend != "cpu" and not backend.startswith("torch cpu")
    stored = backend in ("cpu", "cuda") and precision != "int8"
    return card, "fp32" if stored else precision


def stage_shares(
    point: Values, config: ModelConfig, rows: list[Values] | None, gflop: Values, peak: float | None
) -> dict[str, float]:
    """For each stage: least seconds of its matrix products over its measured seconds.

    For the step, the least seconds are those of its products at their shapes and precision; for other stages, at the
    rate of square fp32 products. `blocks` counts in `condition`, and for PyTorch in every step.
    """
    stages, count, shares = point["stages"], point["windows"], {}
    blocks_in_step = gflop.get("blocks", 0.0) if point["backend"].startswith("torch") else 0.0
    if rows and stages["step"]:
        least = roofline.video_floor(rows, config, point["steps"])["seconds"]
        shares["step"] = (least + (blocks_in_step * point["steps"] / peak if peak else 0.0)) * count / stages["step"]
    for stage, work in gflop.items():
        if peak and stages.get(stage):
            shares[stage] = (work - (blocks_in_step if stage == "condition" else 0.0)) * count / peak / stages[stage]
    return shares
