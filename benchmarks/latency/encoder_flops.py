"""Operations of the networks around the transformer, counted by PyTorch on networks without memory (device "meta")."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.latency.step_flops import block_products, condition_products, total
from engines.contract import ModelConfig


def window_gflop(system: Path, config: ModelConfig, rows: int = 2) -> dict[str, float]:
    """GFLOP of every stage but the step for one full window, by the stage's name; `blocks` is a part of `condition`."""
    import torch

    tokens = config.window_tokens

    def empty(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    clip, sync = config.clip_size, config.sync_size
    inputs: dict[str, tuple[str, str, Callable[[], Any]]] = {
        "frame_encoder": ("frame_encoder", "forward", lambda: empty(config.n_clip(tokens), clip, clip, 3)),
        "sync_encoder": ("sync_encoder", "forward", lambda: empty(1, config.n_sync_frames(tokens), sync, sync, 3)),
        "codec": ("codec", "decode", lambda: empty(1, config.n_codebooks, tokens, dtype=torch.long)),
    }
    out = {"condition": total(condition_products(config, tokens, rows)) / 1e9}
    out["blocks"] = total(block_products(config, tokens, rows)) / 1e9
    for stage, (role, method, make) in inputs.items():
        if stage != "sync_encoder" or config.uses_sync:
            out[stage] = counted(system, role, method, make) / 1e9
    return out


def counted(system: Path, role: str, method: str, make: Callable[[], Any]) -> float:
    """Operations of one call of a component's `method`."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from train.checkpoint import KINDS, read_meta, resolve

    entry = read_meta(system)["components"][role]
    network = resolve(KINDS[entry["kind"]]).from_config(entry["config"]).eval()
    network.to("meta")  # after it is built: open_clip cannot build there
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        getattr(network, method)(make())
    return float(counter.get_total_flops())
