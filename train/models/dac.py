"""DAC 44.1 kHz, the codec of the paper (arXiv 2306.06546), through transformers' DacModel; frozen.

It has the interface of train.models.codec. Sizes are configurable, so that tests can build narrow networks. It loads
the file that the official tool downloads (`weights_44khz_8kbps_0.0.1.pth`, MIT) and the safetensors of
`descript/dac_44khz`.
"""

import json
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.loading import (
    WeightsError,
    fold_weight_norm,
    import_library,
    load_strict,
    read_config,
    read_file,
    read_state,
)

CONTEXT = 12  # token frames; the need of the official rates, rounded up


@dataclass(frozen=True)
class DACConfig:
    """The official 44.1 kHz, 8 kbps network; field names are those of the official file's metadata."""

    sample_rate: int = 44100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int = 1024
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 8

    def __post_init__(self) -> None:
        if any(rate % 2 for rate in self.encoder_rates + self.decoder_rates):
            raise ValueError(
                f"rates {self.encoder_rates}, {self.decoder_rates} must be even, so that lengths are exact"
            )
        if prod(self.encoder_rates) != prod(self.decoder_rates):
            raise ValueError(f"encoder_rates {self.encoder_rates} and decoder_rates {self.decoder_rates} differ in hop")

    @property
    def hop_length(self) -> int:
        return prod(self.encoder_rates)


def reach(config: DACConfig) -> int:
    """Number of token frames on either side that the samples of one token frame depend on."""
    low, high = 0, config.hop_length - 1
    low, high = low - 3, high + 3  # last convolution, 7 taps
    for rate in reversed(config.decoder_rates):
        low, high = low - 3 * (1 + 3 + 9), high + 3 * (1 + 3 + 9)  # three residual units, dilations 1, 3, 9
        pad = rate // 2  # transposed convolution: output o takes inputs (o + pad - k) / rate, k below 2 rate
        low, high = -((2 * rate - 1 - low - pad) // rate), (high + pad) // rate
    return max(3 - low, high + 3)  # first convolution, 7 taps


class DAC(nn.Module):
    """audio [B, L] at 44.1 kHz <-> codes int32 [B, K, ceil(L / 512)]. Always in eval mode and without gradients."""

    def __init__(self, config: DACConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or DACConfig()
        transformers = import_library("transformers")
        theirs = transformers.DacConfig(
            encoder_hidden_size=c.encoder_dim,
            downsampling_ratios=list(c.encoder_rates),
            decoder_hidden_size=c.decoder_dim,
            n_codebooks=c.n_codebooks,
            codebook_size=c.codebook_size,
            codebook_dim=c.codebook_dim,
            sampling_rate=c.sample_rate,
        )
        theirs.hidden_size, theirs.upsampling_ratios = c.latent_dim, list(c.decoder_rates)
        self.model = import_library("transformers.models.dac.modeling_dac").DacModel(theirs)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "DAC":
        return cls(read_config(DACConfig, values))

    def train(self, mode: bool = True) -> "DAC":
        """Stay in eval mode: in training mode the quantiser drops codebooks at random."""
        return super().train(False)

    @property
    def context(self) -> int:
        """Token frames that a chunk needs on each side so that its middle equals decoding the whole."""
        return max(CONTEXT, reach(self.config))

    def embedding_table(self) -> Tensor:
        """[K, V, latent]: E_k[j] = W_out_k codebook_k[j] + b_out_k; the sum of a frame's rows enters the decoder."""
        rows = [q.out_proj(q.codebook.weight.T[None])[0].T for q in self.model.quantizer.quantizers]
        return torch.stack(rows)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio float32 [B, L] in [-1, 1] -> codes int32 [B, K, ceil(L / hop)]; the end is padded with silence.

        Gives 862 frames for 10 s, as the official `preprocess` does; transformers alone drops the rest and gives 861.
        """
        hop = self.config.hop_length
        padded = F.pad(audio, (0, hop - 1))  # pad, then cut: torch.export does not support a length of -L modulo hop
        padded = padded[:, : padded.shape[1] // hop * hop]
        codes: Tensor = self.model.quantizer(self.model.encoder(padded[:, None]))[1]
        return codes.to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes int32 [B, K, T] -> audio [B, T * hop]."""
        latent = self.model.quantizer.from_codes(codes.long())[0]  # (B, latent, T)
        return self.model.decoder(latent)[:, 0]

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes int32 [B, K, T] -> concatenated codebook vectors [B, T, K * codebook_dim], the embedding of FDD."""
        vectors: Tensor = self.model.quantizer.from_codes(codes.long())[1]
        return vectors.transpose(1, 2)

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "DAC":
        """Load the official .pth, or Hugging Face's .safetensors (with config.json beside it, if present)."""
        path = Path(path)
        if path.suffix == ".safetensors":
            codec = cls(_huggingface_config(path.with_name("config.json")))
            state = fold_weight_norm(read_state(path, sha256))
        else:
            content = read_file(path, sha256)
            codec = cls(_official_config(content, path))
            state = convert_official(content["state_dict"], len(codec.config.encoder_rates))
        load_strict(codec.model, state, path)
        return codec


def _official_config(content: dict[str, Any], path: Path) -> DACConfig:
    try:
        found = content["metadata"]["kwargs"]
        content["state_dict"]
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} lacks {error}; the official DAC file holds state_dict and metadata.kwargs "
            "(weights_44khz_8kbps_0.0.1.pth of the release 0.0.1)"
        ) from error
    known = {k: v for k, v in found.items() if k in DACConfig.__dataclass_fields__ and v is not None}
    known.setdefault("latent_dim", known["encoder_dim"] * 2 ** len(known["encoder_rates"]))
    return read_config(DACConfig, known)


def _huggingface_config(path: Path) -> DACConfig:
    if not path.is_file():
        return DACConfig()
    values = json.loads(path.read_text(encoding="utf-8"))
    rates = tuple(values.get("downsampling_ratios", DACConfig.encoder_rates))
    width = values.get("encoder_hidden_size", DACConfig.encoder_dim)
    return DACConfig(
        sample_rate=values.get("sampling_rate", DACConfig.sample_rate),
        encoder_dim=width,
        encoder_rates=rates,
        latent_dim=values.get("hidden_size", width * 2 ** len(rates)),
        decoder_dim=values.get("decoder_hidden_size", DACConfig.decoder_dim),
        decoder_rates=tuple(values.get("upsampling_ratios", rates[::-1])),
        n_codebooks=values.get("n_codebooks", DACConfig.n_codebooks),
        codebook_size=values.get("codebook_size", DACConfig.codebook_size),
        codebook_dim=values.get("codebook_dim", DACConfig.codebook_dim),
    )


UNITS = ("snake1", "conv1", "snake2", "conv2")  # layers of a residual unit
ENDS = {"encoder": {3: "snake1", 4: "conv1"}, "decoder": {0: "snake1", 1: "conv_t1"}}  # a block's other layers
OFFICIAL = re.compile(r"(encoder|decoder)\.(?:block|model)\.(\d+)\.(?:block\.(\d+)\.)?(?:block\.(\d+)\.)?(\w+)")


def convert_name(name: str, n_blocks: int) -> str:
    """Convert a tensor's official name to that of transformers; names of the quantiser stay the same."""
    found = OFFICIAL.fullmatch(name)
    if found is None:
        return name
    side, leaf = found[1], found[5]
    i, j, k = (None if g is None else int(g) for g in found.group(2, 3, 4))
    try:
        if j is None:
            return f"{side}.{ {0: 'conv1', n_blocks + 1: 'snake1', n_blocks + 2: 'conv2'}[i] }.{leaf}"
        if k is None:
            return f"{side}.block.{i - 1}.{ENDS[side][j]}.{leaf}"
        return f"{side}.block.{i - 1}.res_unit{j + 1 if side == 'encoder' else j - 1}.{UNITS[k]}.{leaf}"
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"{name} does not fit a DAC of {n_blocks} blocks; use the official file of release 0.0.1"
        ) from error


def convert_official(state: dict[str, Tensor], n_blocks: int) -> dict[str, Tensor]:
    """Convert an official state dict to transformers' names; weight norm is folded over axis 0 for all convolutions."""
    return {convert_name(name, n_blocks): value for name, value in fold_weight_norm(state).items()}
