"""Operations of the networks around the transformer, counted by PyTorch on the device "meta", without memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.latency.step_flops import block_products, condition_products, total
from engines.contract import ModelConfig


def window_gflop(system: Path, config: ModelConfig, rows: int = 2) -> dict[str, float]:
    """GFLOP of one full window, by stage, without the step. `blocks` is a part of `condition`."""
    import torch

    tokens = config.window_tokens

    def empty(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    frame, sync = config.frame_size, config.sync_size
    inputs: dict[str, tuple[str, str, Callable[[], Any]]] = {
        "frame_encoder": ("frame_encoder", "forward", lambda: empty(config.n_frames(tokens), frame, frame, 3)),
        "sync_encoder": ("sync_encoder", "forward", lambda: empty(1, config.n_sync_frames(tokens), sync, sync, 3)),
        "codec": ("codec", "decode", lambda: empty(1, config.n_codebooks, tokens, dtype=torch.long)),
    }
    out = {"condition": total(condition_products(config, tokens, rows)) / 1e9}
    out["blocks"] = total(block_products(config, tokens, rows)) / 1e9
    for stage, (role, method, make) in inputs.items():
        if stage != "sync_encoder" or config.uses_sync:
            out[stage] = count_flops(system, role, method, make) / 1e9
    return out


def count_flops(system: Path, role: str, method: str, make: Callable[[], Any]) -> float:
    """Operations of one call of a component's `method` with the arguments of `make`."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from train.checkpoint import KINDS, read_meta, resolve

    entry = read_meta(system)["components"][role]
    network = resolve(KINDS[entry["kind"]]).from_config(entry["config"]).eval()
    network.to("meta")  # after construction, because open_clip cannot build on "meta"
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        getattr(network, method)(make())
    return float(counter.get_total_flops())
