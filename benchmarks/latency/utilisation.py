"""What share of the machine's rate of matrix products each stage of a point reaches."""

from typing import Any

from benchmarks.latency import roofline
from engines.contract import ModelConfig

Values = dict[str, Any]


def add_shares(values: Values, size: str, config: ModelConfig, gflop: Values) -> None:
    """`shares` of a size's points of whole windows and one candidate; `gflop` of one window is by stage."""
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
    """Whether a backend is a card, and what a step of this precision is computed in there.

    ONNX Runtime computes weights that are stored as fp16 in fp32, on CPUs and on cards.
    """
    card = backend != "cpu" and not backend.startswith("torch cpu")
    stored = backend in ("cpu", "cuda") and precision != "int8"
    return card, "fp32" if stored else precision


def stage_shares(
    point: Values, config: ModelConfig, rows: list[Values] | None, gflop: Values, peak: float | None
) -> dict[str, float]:
    """Least seconds of a stage's products over its seconds: the step's at their own shapes and precision, others' at
    the rate of square fp32 products. `blocks` of a window counts where it is computed: in PyTorch's every step."""
    stages, count, found = point["stages"], point["windows"], {}
    again = gflop.get("blocks", 0.0) if point["backend"].startswith("torch") else 0.0
    if rows and stages["step"]:
        least = roofline.clip_floor(rows, config, point["steps"])["seconds"]
        found["step"] = (least + (again * point["steps"] / peak if peak else 0.0)) * count / stages["step"]
    for stage, work in gflop.items():
        if peak and stages.get(stage):
            found[stage] = (work - (again if stage == "condition" else 0.0)) * count / peak / stages[stage]
    return found
