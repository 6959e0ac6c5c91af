"""The number of operations in a forward pass of MaskVAT."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from engines.contract import ModelConfig
from engines.length_adapter import condition_indices
from train.models.maskvat import MaskVAT


def forward_flops(config: ModelConfig, n_tokens: int) -> float:
    """Count the operations of one example's forward pass with PyTorch on the device "meta", which needs no memory."""
    n_frames, n_sync = config.n_frames(n_tokens), config.n_sync(n_tokens)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        indices = condition_indices(config, n_tokens, n_frames, n_sync)
        gathers = {name: torch.empty(len(index), dtype=torch.long) for name, index in indices.items()}
        codes = torch.empty(1, config.n_codebooks, n_tokens, dtype=torch.long)
        frame, sync = torch.empty(1, n_frames, config.frame_dim), torch.empty(1, n_sync, config.sync_dim)
        MaskVAT(config)(codes, frame, sync, gathers)
    return float(counter.get_total_flops())
