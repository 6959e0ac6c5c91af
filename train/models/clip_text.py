"""CLIP's text encoder: free text in the space of CLIP's picture features (Radford et al. 2021).

The network is written out here, with the names of open_clip's state dict (open_clip and its CLIP models: MIT), so it
exports and runs without open_clip. Text encoders of another build (SigLIP, CoCa, Hugging Face's) are refused.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.loading import State, WeightsError, import_library, load_strict, read_config, select_prefix

PREFIXES = ("positional_embedding", "text_projection", "transformer.", "token_embedding.", "ln_final.")
# what a text configuration of open_clip may state; other keys change the network or its tokeniser
SIZES = {
    "context_length": "context",
    "vocab_size": "vocabulary",
    "width": "width",
    "heads": "heads",
    "layers": "layers",
}


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes of the network (default: those of ViT-B-32-quickgelu)."""

    dim: int = 512  # of the embedding, frame_dim of the contract
    context: int = 77  # tokens of one text
    vocabulary: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    quick_gelu: bool = True

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Causal self-attention, with the parameters of nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, T, 3W)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, D) each
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
        return self.out_proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        width = config.width
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, config.heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU() if config.quick_gelu else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class CLIPText(nn.Module):
    """tokens int32 [B, context] -> L2-normalised embedding [B, dim]."""

    def __init__(self, config: ClipTextConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or ClipTextConfig()
        self.dim, self.context = c.dim, c.context
        self.token_embedding = nn.Embedding(c.vocabulary, c.width)
        self.positional_embedding = nn.Parameter(torch.randn(c.context, c.width) * 0.01)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.ln_final = nn.LayerNorm(c.width)
        self.text_projection = nn.Parameter(torch.randn(c.width, c.dim) * c.width**-0.5)
        mask = torch.full((c.context, c.context), -1e9).triu(1)  # a token sees itself and the ones before it
        self.register_buffer("mask", mask, persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "CLIPText":
        return cls(read_config(ClipTextConfig, values))

    def encode(self, tokens: Tensor) -> Tensor:
        """[B, context] -> [B, dim], equal to open_clip's encode_text. The end token has the largest id of a text."""
        x = self.token_embedding(tokens) + self.positional_embedding  # (B, T, W)
        for block in self.transformer.resblocks:
            x = block(x, self.mask)
        end = tokens.argmax(dim=-1)[:, None, None].expand(-1, 1, self.config.width)
        return self.ln_final(x.gather(1, end)[:, 0]) @ self.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.encode(tokens), dim=-1)

    @classmethod
    def load(cls, model: str, state: State, source: str) -> "CLIPText":
        """Make the text encoder of an open_clip model from the model's state dict.

        Raises WeightsError if the model's text encoder is of another build; `source` names the weights in it.
        """
        reason = unsupported_text(model)
        if reason:
            raise WeightsError(f"the text encoder of {model} cannot be used: {reason}")
        architecture = import_library("open_clip").get_model_config(model)
        sizes = {SIZES[key]: value for key, value in architecture["text_cfg"].items()}
        module = cls(
            ClipTextConfig(architecture["embed_dim"], quick_gelu=architecture.get("quick_gelu", False), **sizes)
        )
        own = select_prefix(state, {"text.": ""}) if architecture.get("custom_text") else state
        load_strict(module, {k: v for k, v in own.items() if k.startswith(PREFIXES)}, source)
        return module


def unsupported_text(model: str) -> str:
    """Why the text encoder of an open_clip model cannot be used; "" if it can."""
    architecture = import_library("open_clip").get_model_config(model)
    if architecture is None:
        return "open_clip has no such model"
    other = sorted(set(architecture.get("text_cfg", {})) - set(SIZES))
    if other or "multimodal_cfg" in architecture:
        return f"it is not CLIP's ({', '.join(other) or 'multimodal_cfg'}), so its tokeniser or network differs"
    return ""
