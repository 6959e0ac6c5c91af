"""The measures that need a network: weights loaded, and a function that measures. Used by train.metrics.registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.beats import BEATs, BEATsConfig
from train.dac import DAC
from train.metrics.inputs import Pair, Sound
from train.metrics.sequences import novelty_score
from train.weights import read_config, read_file

Embeddings = NDArray[np.float32]


def embedding(name: str, rate: int, device: str, network: Callable[[Tensor], Tensor]) -> Callable[[Sound], Embeddings]:
    """A sound -> what the network gives for its samples [1, L] at `rate`, remembered by the sound under `name`."""

    def embed(sound: Sound) -> Embeddings:
        with torch.inference_mode():
            return network(torch.from_numpy(sound.at(rate)).to(device)[None]).float().cpu().numpy()

    return lambda sound: sound.once(name, lambda: embed(sound))


def codec_latents(path: Path, device: str) -> Callable[[Sound], Embeddings]:
    """FDD: DAC's codebook vectors after quantisation, [T, 72], of the sound encoded again (fair to every system)."""
    codec = DAC.load(path).to(device)
    return embedding("DAC", codec.config.sample_rate, device, lambda audio: codec.vectors(codec.encode(audio))[0])


def load_beats(path: Path) -> BEATs:
    """An official BEATs file, its sizes read from its own `cfg`."""
    names = {
        "embed_dim": "embed_dim", "encoder_embed_dim": "dim", "encoder_layers": "layers",
        "encoder_attention_heads": "heads", "encoder_ffn_embed_dim": "ffn_dim", "conv_pos": "conv_pos",
        "conv_pos_groups": "conv_pos_groups", "num_buckets": "num_buckets", "max_distance": "max_distance",
    }  # fmt: skip
    cfg: dict[str, Any] = read_file(path).get("cfg", {}) if path.suffix != ".safetensors" else {}
    network = BEATs(read_config(BEATsConfig, {ours: cfg[theirs] for theirs, ours in names.items() if theirs in cfg}))
    network.load_official(path)
    return network.eval()


def novelty(path: Path, device: str) -> Callable[[Pair], dict[str, float]]:
    """NS on BEATs features, the mean over their 8 frequency bands."""
    beats = load_beats(path).to(device)
    embed = embedding("BEATs", beats.rate, device, lambda audio: beats(audio)[0].mean(dim=1))
    return lambda pair: {"NS": novelty_score(embed(pair.generated), embed(pair.reference))}
