"""SparseSync (arXiv 2210.07055), for SS: predicts the offset between sound and picture of 5 s, as one of 21 classes.

Parameter names are those of the official state dict; sizes are read from its shapes. S3D is in train.models.s3d.

Axes: B batch, V visual tokens (time, height, width), A audio tokens (frequency, time), Q selectors, D width.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.metrics.resnet import ResNet18, log_spectrogram
from train.models.loading import State, WeightsError, load_strict, read_state, rename
from train.models.s3d import S3D, S3DConfig

RATE = 16000  # Hz
FRAMES = 125  # 5 s at 25 per second, what the official weights were trained on
HOP, FLOOR = 128, 1e-6  # of the spectrogram: hop in samples, added to the power
LAYER = r"transformer\.global_transformer\.blocks\.\d+\.ln1\.bias"  # occurs once per layer
MAX_OFFSET = 2.0  # seconds: classes are spaced evenly from -MAX_OFFSET to MAX_OFFSET


@dataclass(frozen=True)
class SparseSyncConfig:
    """Sizes of the network; the defaults are the published ones."""

    dim: int = 512
    heads: int = 8
    layers: int = 3  # in each of the three transformers
    selectors: int = 16
    visual: tuple[int, int, int] = (16, 7, 7)  # time, height, width
    audio: tuple[int, int] = (9, 20)  # frequency, time
    classes: int = 21
    s3d_width: float = 1.0


class Attention(nn.Module):
    """Multi-head attention of x [B, n, D] to a context [B, m, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("key", "query", "value", "proj"):
            setattr(self, name, nn.Linear(dim, dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.query, x), (self.key, context), (self.value, context))
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def mlp(dim: int) -> nn.Sequential:
    """Feed-forward layers with a hidden width of 4 dim."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


class Block(nn.Module):
    """Pre-norm transformer layer. With `cross`, it also attends to a context, which is not normalised."""

    def __init__(self, dim: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = mlp(dim)
        self.cross = cross
        if cross:
            self.ln3, self.xattn = nn.LayerNorm(dim), Attention(dim, heads)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        normed = self.ln1(x)
        x = x + self.attn(normed, normed)
        if not self.cross:
            return x + self.mlp(self.ln2(x))
        x = x + self.xattn(self.ln2(x), context)
        return x + self.mlp(self.ln3(x))


class Positions(nn.Module):
    """Adds learned positions to x [B, *sizes, D]: one table per axis, each for its own part of the channels.

    `axes` and `sizes` are in the tensor's order, `order` is that of the tables on the channels. The table of time takes
    the channels that remain.
    """

    def __init__(self, axes: tuple[str, ...], sizes: tuple[int, ...], order: tuple[str, ...], dim: int) -> None:
        super().__init__()
        self.axes, self.order = axes, order
        part = dim // len(axes)
        for axis, size in zip(axes, sizes, strict=True):
            setattr(self, f"{axis}_embed", nn.Embedding(size, dim - (len(axes) - 1) * part if axis == "time" else part))

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for axis in self.order:
            table = getattr(self, f"{axis}_embed").weight
            where = self.axes.index(axis)
            shape = [1] * len(self.axes)
            shape[where] = x.shape[1 + where]
            parts.append(table[: shape[where]].view(*shape, -1).expand(*x.shape[1:-1], -1))
        return x + torch.cat(parts, dim=-1)


class Selector(nn.Module):
    """Learned queries that summarise many tokens: context [B, n, D] -> [B, Q, D]."""

    def __init__(self, config: SparseSyncConfig) -> None:
        super().__init__()
        self.selectors = nn.Parameter(torch.randn(config.selectors, config.dim))
        self.selectors_pos_emb = Positions(("time",), (config.selectors,), ("time",), config.dim)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, cross=True) for _ in range(config.layers))

    def forward(self, context: Tensor) -> Tensor:
        x = self.selectors_pos_emb(self.selectors.expand(len(context), -1, -1))
        for block in self.blocks:
            x = block(x, context)
        return x


class GlobalTransformer(nn.Module):
    """Joins both sets of selectors, with a learned token before each; returns the first token's output [B, D]."""

    def __init__(self, config: SparseSyncConfig) -> None:
        super().__init__()
        self.vis_in_lnorm, self.aud_in_lnorm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.OFF_tok = nn.Parameter(torch.randn(1, 1, config.dim))
        self.MOD_tok = nn.Parameter(torch.randn(1, 1, config.dim))
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.dim)

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        off, mod = (token.expand(len(visual), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x = torch.cat([off, self.vis_in_lnorm(visual), mod, self.aud_in_lnorm(audio)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x[:, 0])


class Transformer(nn.Module):
    """Visual maps [B, t, h, w, D] and audio maps [B, f, t, D] -> logits [B, classes] of the offsets."""

    def __init__(self, config: SparseSyncConfig) -> None:
        super().__init__()
        self.pre_lnorm_vis, self.pre_lnorm_aud = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        order = ("time", "width", "height")
        self.vis_pos_emb = Positions(("time", "height", "width"), config.visual, order, config.dim)
        self.aud_pos_emb = Positions(("freq", "time"), config.audio, ("freq", "time"), config.dim)
        self.v_selector, self.a_selector = Selector(config), Selector(config)
        self.global_transformer = GlobalTransformer(config)
        self.off_head = nn.Linear(config.dim, config.classes, bias=False)

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        visual = self.vis_pos_emb(self.pre_lnorm_vis(visual)).flatten(1, 3)  # (B, V, D)
        audio = self.aud_pos_emb(self.pre_lnorm_aud(audio)).flatten(1, 2)  # (B, A, D)
        return self.off_head(self.global_transformer(self.v_selector(visual), self.a_selector(audio)))


class SparseSync(nn.Module):
    """Frames and sound of 5 s -> logits of the offsets. A positive offset means that the sound is early."""

    def __init__(self, config: SparseSyncConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SparseSyncConfig()
        self.vfeat_extractor = S3D(S3DConfig(width=c.s3d_width))
        self.afeat_extractor = ResNet18(c.dim // 8)
        self.transformer = Transformer(c)
        self.resize, self.size = self.vfeat_extractor.resize, self.vfeat_extractor.size

    @property
    def offsets(self) -> Tensor:
        """The offset of each class in seconds, [classes]."""
        return torch.linspace(-MAX_OFFSET, MAX_OFFSET, self.config.classes)

    def visual(self, frames: Tensor) -> Tensor:
        """Frames uint8 [B, Y, size, size, 3] at 25 fps -> maps [B, t, h, w, D]."""
        s3d = self.vfeat_extractor
        return s3d.maps(s3d.normalise(frames)).permute(0, 2, 3, 4, 1)

    def audio(self, audio: Tensor) -> Tensor:
        """Audio [B, L] at 16 kHz -> maps [B, f, t, D]. Each frequency is standardised over time."""
        x = log_spectrogram(audio, HOP, FLOOR)
        x = (x - x.mean(dim=2, keepdim=True)) / (x.std(dim=2, keepdim=True) + 1e-6)
        return self.afeat_extractor(x[:, None]).permute(0, 2, 3, 1)

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        return self.transformer(self.visual(frames), self.audio(audio))

    @classmethod
    def load(cls, path: str | Path, sha256: str | None = None) -> "SparseSync":
        """Load an official file, for example `23-02-26T22-31-22.pt` (MIT), in eval mode. Raises WeightsError."""
        state = rename(read_state(path, sha256), [(r"^v_bridge\.bridge\.", "vfeat_extractor.bridge.")])
        network = cls(config_of(state, path))
        load_strict(network, state, path)
        return network.eval()


def config_of(state: State, path: str | Path) -> SparseSyncConfig:
    """Read the sizes from the tensors' shapes. Raises WeightsError if the file is not SparseSync's."""
    try:
        time, height, width = (
            len(state[f"transformer.vis_pos_emb.{axis}_embed.weight"]) for axis in ("time", "height", "width")
        )
        classes, dim = state["transformer.off_head.weight"].shape
        return SparseSyncConfig(
            dim=dim,
            layers=sum(re.fullmatch(LAYER, name) is not None for name in state),
            selectors=len(state["transformer.v_selector.selectors"]),
            visual=(time, height, width),
            audio=(
                len(state["transformer.aud_pos_emb.freq_embed.weight"]),
                len(state["transformer.aud_pos_emb.time_embed.weight"]),
            ),
            classes=classes,
            s3d_width=len(state["vfeat_extractor.base.0.conv_s.weight"]) / 64,
        )
    except KeyError as error:
        raise WeightsError(f"{path} has no {error}; give an official file of SparseSync") from error
