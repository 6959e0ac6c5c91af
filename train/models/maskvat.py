"""MaskVAT: a transformer that fills a masked codegram [K codebooks x T frames], driven by video features.

The four designs of the paper (arXiv 2407.10387, section 3.2, figure 1) are one class; they differ in their blocks:
    AdaLN-A   AdaLN blocks, modulated by CLIP
    AdaLN-B   AdaLN blocks, modulated by CLIP and S3D
    Seq2Seq   self-attention, cross-attention to an encoder over [CLS] and [CLIP ; S3D], MLP
    Hybrid    the Seq2Seq encoder and cross-attention, with self-attention and MLP modulated by S3D

The paper leaves some details open. The choices here: rotary positions measured in token frames, so that cross-attention
knows about time; pre-norm blocks with tanh-GELU; zero-initialised modulation as in DiT; one learned [NULL] vector per
stream at the input of its MLP; encoder input [CLIP ; S3D] projected from 2H to H.

`condition` does not depend on codes and runs once per window; `hidden` runs at every step. They are separate methods,
because they are exported as separate graphs. Both accept any number of leading axes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import ModelConfig

HEAD_SPREAD = 0.3  # standard deviation of the initial logits
WORD_GAIN = 3.0  # value of a word's unit if a picture shows one class of the word with certainty, and it has no other


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def rotary_angles(positions: Tensor, half: int) -> Tensor:
    """Angles (T, D / 2) of the rotary position embedding at positions [T] (float, in token frames)."""
    frequency = 10000.0 ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    return positions.to(torch.float32)[:, None] * frequency


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Apply the rotary position embedding to x [..., heads, T, D] at positions [T] (float, in token frames)."""
    half = x.shape[-1] // 2
    angle = rotary_angles(positions, half)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v over [..., heads, T, D]."""
    if not torch.compiler.is_exporting():
        return F.scaled_dot_product_attention(q, k, v)
    # written out for export: leading axes stay symbolic, and every backend supports these three operators
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head attention; self-attention if no memory is given."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3)  # (..., T, H) -> (..., heads, T, D)

    def keys_values(self, source: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(..., N, H) at positions (N,) -> rotated keys, and values, each (..., heads, N, D)."""
        key, value = self.kv(source).chunk(2, dim=-1)
        return rotate(self.heads(key), positions), self.heads(value)

    def forward(
        self, x: Tensor, positions: Tensor, memory: Tensor | None = None, memory_positions: Tensor | None = None
    ) -> Tensor:
        q = rotate(self.heads(self.q(x)), positions)
        if memory is None:
            memory, memory_positions = x, positions
        k, v = self.keys_values(memory, memory_positions)
        y = attend(q, k, v)  # (..., heads, T, D)
        return self.out(y.transpose(-2, -3).flatten(-2))  # (..., T, H)


class MLP(nn.Sequential):
    """Linear, GELU, Linear."""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width_out))


class Block(nn.Module):
    """Self-attention, cross-attention (if `cross`), MLP; `adaln` modulates the first and the last."""

    def __init__(self, config: ModelConfig, adaln: bool, cross: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=not adaln)
        self.attention = Attention(width, config.n_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=not adaln)
        self.mlp = MLP(width, config.mlp_ratio * width, width)
        self.modulation = nn.Linear(width, 6 * width) if adaln else None
        self.cross_norm = nn.LayerNorm(width, eps=1e-6) if cross else None
        self.cross_attention = Attention(width, config.n_heads) if cross else None

    def forward(self, x: Tensor, positions: Tensor, condition: "Condition | None" = None) -> Tensor:
        if self.modulation is not None and condition is not None and condition.adaln is not None:
            # Linear(SiLU(.)) works frame by frame, so running it at the video's rate before the gather is exact
            frames = self.modulation(F.silu(condition.adaln))  # (B, F, 6H)
            modulation = frames.index_select(-2, condition.frame_index)  # (B, T, 6H)
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        else:
            shift1 = scale1 = shift2 = scale2 = x.new_zeros(())
            gate1 = gate2 = x.new_ones(())
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1), positions)  # (B, T, H)
        if self.cross_attention is not None and condition is not None:
            x = x + self.cross_attention(self.cross_norm(x), positions, condition.memory, condition.memory_positions)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))  # (B, T, H)


@dataclass
class Condition:
    """Everything that `hidden` needs from the video. Any leading axes are allowed."""

    memory: Tensor | None = None  # (B, N, H) encoder output; one more row if it includes [CLS]
    memory_positions: Tensor | None = None  # (N,) in token frames
    adaln: Tensor | None = None  # (B, F, H)
    frame_index: Tensor | None = None  # (T,) token -> condition frame
    cls: Tensor | None = None  # (B, H) for the contrastive loss


class MaskVAT(nn.Module):
    """codes with [MASK], video features -> logits. Shapes: B batch, K codebooks, T frames, V codebook size, H width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = c = config
        width = c.hidden_size
        # one table per codebook with a row for [MASK]; the sum over codebooks is the codec decoder's input
        self.tokens = nn.Embedding(c.n_codebooks * (c.codebook_size + 1), c.codec_latent)
        self.tokens_in = nn.Identity() if c.codec_latent == width else nn.Linear(c.codec_latent, width)

        self.frame_mlp = MLP(c.frame_dim, width, width)
        self.null_frame = nn.Parameter(torch.zeros(c.frame_dim))
        if c.uses_sync:
            self.sync_mlp = MLP(c.sync_dim, width, width)
            self.null_sync = nn.Parameter(torch.zeros(c.sync_dim))
        if c.has_memory:
            self.cls = nn.Parameter(torch.zeros(width))
            self.encoder_in = nn.Linear(2 * width, width)
            self.encoder = nn.ModuleList(Block(c, adaln=False, cross=False) for _ in range(c.encoder_blocks))
            self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        if len(c.adaln_streams) == 2:
            self.adaln_in = nn.Linear(2 * width, width)

        adaln = bool(c.adaln_streams)
        self.blocks = nn.ModuleList(Block(c, adaln, cross=c.has_memory) for _ in range(c.n_blocks))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=not adaln)
        self.norm_modulation = nn.Linear(width, 2 * width) if adaln else None
        self.head = nn.Linear(width, c.n_codebooks * c.codebook_size)
        self.initialise()

    @classmethod
    def from_config(cls, values: dict) -> "MaskVAT":
        return cls(ModelConfig.from_dict(values))

    def initialise(self) -> None:
        """Xavier-uniform Linears, zero biases, zero modulation as in DiT.

        Zero modulation closes the gates of self-attention and MLP: AdaLN blocks start as the identity. Cross-attention
        has no gate, so a Hybrid block starts as its input plus cross-attention. Seq2Seq blocks have no gates at all.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.tokens.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if "modulation" in name:
                nn.init.zeros_(parameter)
            elif name in ("null_frame", "null_sync", "cls"):
                nn.init.normal_(parameter, std=0.02)

    @torch.no_grad()
    def load_embeddings(self, table: Tensor) -> None:
        """Initialise the token tables from the codec: [K, V, latent] (paper, section 3.2). [MASK] gets the mean row.

        The head is initialised from the same rows, so codes of similar sound have similar logits from the first step.
        Raises ValueError if the sizes do not fit the configuration.
        """
        c = self.config
        if table.shape != (c.n_codebooks, c.codebook_size, c.codec_latent):
            wanted = [c.n_codebooks, c.codebook_size, c.codec_latent]
            raise ValueError(f"codec embeddings are {list(table.shape)}, but the model's configuration needs {wanted}")
        rows = torch.cat([table, table.mean(dim=1, keepdim=True)], dim=1)  # (K, V + 1, latent)
        self.tokens.weight.copy_(rows.flatten(0, 1))
        heads = self.tokens_in(table - table.mean(dim=1, keepdim=True))  # (K, V, H)
        heads = heads * (HEAD_SPREAD / heads.square().sum(dim=-1).mean(dim=1).sqrt())[:, None, None]
        self.head.weight.copy_(heads.flatten(0, 1))

    @torch.no_grad()
    def load_frequencies(self, counts: Tensor) -> None:
        """Initialise the head's bias from the frequencies of codes in the training examples: counts [K, V]."""
        share = (counts + 1) / (counts + 1).sum(dim=1, keepdim=True)
        self.head.bias.copy_(share.log().flatten())

    @torch.no_grad()
    def load_words(self, classes: Tensor) -> None:
        """Begin the layer that reads frame features with a unit per word: classes [W, frame_dim], 1 where it has one.

        For features that are square roots of class probabilities. A word of many classes counts as one of few: its
        vector in the vocabulary has sqrt(1 / n) at each of n classes, and a picture shows one or two. At random,
        the layer did not find out what shows a word (docs/log.md, 2026-11-29).
        """
        weight = self.frame_mlp[0].weight  # (H, frame_dim)
        words = classes[: len(weight)].to(weight)
        count = words.sum(dim=1, keepdim=True).clamp(min=1)
        weight[: len(words)] = WORD_GAIN * words * count**-0.25 / self.config.frame_dim**0.5

    # ------------------------------------------------------------ once per window
    def condition(
        self, frame: Tensor, sync: Tensor | None, indices: dict[str, Tensor], drop: Tensor | None = None
    ) -> Condition:
        """Video features (B, N, Df), (B, S, Ds) -> Condition.

        `drop` (B, 2) bool says which rows get [NULL] in place of their frame features and of their sync features.
        `indices` are the integer gathers of `engines.length_adapter.condition_indices`.
        """
        c = self.config
        if drop is not None:
            frame = torch.where(drop[:, 0, None, None], self.null_frame, frame)
        frame = self.frame_mlp(frame * c.frame_dim**0.5)  # (B, N, H); the factor gives unit features a variance of 1
        if c.uses_sync:
            if drop is not None:
                sync = torch.where(drop[:, 1, None, None], self.null_sync, sync)
            sync = self.sync_mlp(sync)  # (B, S, H)
        out = Condition(frame_index=indices.get("frame_index"))
        if c.has_memory:
            joined = torch.cat([frame, sync.index_select(-2, indices["memory_index"])], dim=-1)  # (B, N, 2H)
            x = self.encoder_in(joined)
            x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], dim=-2)  # (B, 1 + N, H)
            positions = self.memory_positions(x.shape[-2] - 1).to(x.device)
            for block in self.encoder:
                x = block(x, positions)
            x = self.encoder_norm(x)
            out.cls = x[..., 0, :]
            first = 0 if c.cls_in_memory else 1
            out.memory, out.memory_positions = x[..., first:, :], positions[first:]
        if c.design == "adaln_b":
            frame = frame.index_select(-2, indices["frame_features_index"])
            pair = [frame, sync.index_select(-2, indices["sync_features_index"])]
            out.adaln = self.adaln_in(torch.cat(pair, dim=-1))  # (B, F, H)
        elif c.adaln_streams:
            out.adaln = frame if c.adaln_streams == ("frame",) else sync
        return out

    def null_condition(self, n_frames: int, n_sync: int, indices: dict[str, Tensor]) -> Condition:
        """The null condition: one row of [NULL] of these lengths."""
        frame = self.null_frame.expand(1, n_frames, -1)
        sync = self.null_sync.expand(1, n_sync, -1) if self.config.uses_sync else None
        return self.condition(frame, sync, indices)

    def memory_positions(self, n_frames: int) -> Tensor:
        """Positions (1 + N,) in token frames: [CLS] at 0, then the centres of the frames at `frame_fps`."""
        c = self.config
        ratio = c.sample_rate / (c.hop_length * c.frame_fps)
        positions = (torch.arange(n_frames, dtype=torch.float32) + 0.5) * ratio
        return torch.cat([torch.zeros(1), positions])

    # ------------------------------------------------------------ every step
    def hidden(self, codes: Tensor, condition: Condition) -> Tensor:
        """codes (B, K, T) int -> last hidden state (B, T, H). Leading axes of the condition broadcast against B."""
        c = self.config
        offset = torch.arange(c.n_codebooks, device=codes.device, dtype=codes.dtype) * (c.codebook_size + 1)
        x = self.tokens(codes + offset[:, None]).sum(dim=-3)  # (B, K, T, latent) -> (B, T, latent)
        x = self.tokens_in(x)  # (B, T, H)
        positions = torch.arange(codes.shape[-1], device=codes.device, dtype=torch.float32)
        for block in self.blocks:
            x = block(x, positions, condition)  # (B, T, H)
        x = self.norm(x)
        if self.norm_modulation is not None and condition.adaln is not None:
            frames = self.norm_modulation(F.silu(condition.adaln))  # (B, F, 2H)
            shift, scale = frames.index_select(-2, condition.frame_index).chunk(2, dim=-1)
            x = modulate(x, shift, scale)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, K, T, V)."""
        c = self.config
        return self.head(hidden).unflatten(-1, (c.n_codebooks, c.codebook_size)).transpose(-2, -3)

    def forward(
        self, codes: Tensor, frame: Tensor, sync: Tensor | None, indices: dict[str, Tensor], drop: Tensor | None = None
    ) -> tuple[Tensor, Condition]:
        condition = self.condition(frame, sync, indices, drop)
        return self.logits(self.hidden(codes, condition)), condition
