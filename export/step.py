"""One unmasking step for export: network, guidance and sampling.

It computes the same as `train.models.maskvat`, from the same weights. For speed it differs in these points:

- Modulations, and the keys and values of cross-attention, are inputs that `condition` computed.
- q, k and v are separate products, so that no result is split.
- Rotary positions swap halves with one gather; the positions of q include the scale of the scores.
- The head runs only at the positions in `index`.
- The video's condition and [NULL] run together as the two groups of guidance, on the first axis G. This axis appears
  where the condition is first used.
"""

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.models.maskvat import Attention, Block, MaskVAT, rotary_angles

GROUP = 32  # tokens per group of the two-level search: 32 x 32 = 1024


class Sampler(nn.Module):
    """Draw one token per row of logits from one uniform number, by inverting the cumulative distribution.

    The search has two levels: first among groups of tokens, then inside the chosen group. Cumulative sums are products
    with a triangular matrix, which are fast on every backend. The uniform numbers are an input, so a seed means the
    same everywhere. All values are float32.
    """

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.width = gcd(codebook_size, GROUP)
        self.groups = codebook_size // self.width
        self.register_buffer("group_triangle", torch.ones(self.groups, self.groups).triu(), persistent=False)
        self.register_buffer("token_triangle", torch.ones(self.width, self.width).triu(), persistent=False)

    def forward(self, logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """logits [..., V], u [...] in [0, 1) -> tokens int32 [...] and their log-probabilities [...].

        Token v is drawn if cdf[v - 1] <= u < cdf[v], so a token of probability 0 is never drawn. The bounds on `rest`
        and `inner` ensure this although the sums of the two levels round differently.
        """
        p = logits.float().softmax(dim=-1).unflatten(-1, (self.groups, self.width))  # (..., groups, width)
        sums = p.sum(dim=-1)  # (..., groups)
        cdf = sums @ self.group_triangle  # inclusive
        threshold = u.float().unsqueeze(-1) * cdf[..., -1:]  # (..., 1)
        group = (cdf <= threshold).sum(dim=-1, keepdim=True).clamp(max=self.groups - 1)  # (..., 1)
        before = (cdf - sums).gather(-1, group)
        chosen = p.gather(-2, group.unsqueeze(-1).expand(*group.shape, self.width)).squeeze(-2)  # (..., width)
        inner = chosen @ self.token_triangle
        rest = (threshold - before).clamp(min=0)
        token = ((inner <= rest) & (inner < inner[..., -1:])).sum(dim=-1, keepdim=True)
        logp = chosen.gather(-1, token).log()
        return (group * self.width + token).squeeze(-1).to(torch.int32), logp.squeeze(-1)


# ---------------------------------------------------------------- network
def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer from a part of the weights of a larger layer."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
    return layer


class Rotary:
    """`rotate` of the model for T tokens, times `scale`: x cos + (x with swapped halves) sin."""

    def __init__(self, n_tokens: int, width: int, scale: float = 1.0) -> None:
        angle = rotary_angles(torch.arange(n_tokens, dtype=torch.float32), width // 2)  # (T, D / 2)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        self.cos, self.sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)  # (T, D)
        self.other_half = torch.tensor([1, 0])

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., heads, T, D]."""
        swapped = x.unflatten(-1, (2, -1)).index_select(-2, self.other_half).flatten(-2)
        return x * self.cos + swapped * self.sin


class StepAttention(nn.Module):
    """Self-attention (`own`), or attention to given keys and values."""

    def __init__(self, attention: Attention, own: bool) -> None:
        super().__init__()
        self.n_heads, self.q, self.out = attention.n_heads, attention.q, attention.out
        if own:
            weights, biases = attention.kv.weight.chunk(2), attention.kv.bias.chunk(2)
            self.k, self.v = (linear(*pair) for pair in zip(weights, biases, strict=True))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3)  # (..., T, H) -> (..., heads, T, D)

    def forward(
        self, x: Tensor, rotate_q: Rotary, rotate_k: Rotary, memory: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        q = rotate_q(self.heads(self.q(x)))
        k, v = (rotate_k(self.heads(self.k(x))), self.heads(self.v(x))) if memory is None else memory
        y = (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v  # written as three operators that every backend has
        return self.out(y.transpose(-2, -3).flatten(-2))


class StepBlock(nn.Module):
    """`Block` of the model with precomputed modulation and memory: x [G or 1, B, T, H], parts [G, 1, T, H]."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attention = StepAttention(block.attention, own=True)
        self.cross_norm = block.cross_norm
        self.cross_attention = (
            None if block.cross_attention is None else StepAttention(block.cross_attention, own=False)
        )

    def forward(
        self, x: Tensor, rotary: tuple[Rotary, Rotary], parts: list[Tensor], memory: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        y = self.norm1(x)
        y = self.attention(y * parts[1] + parts[0] if parts else y, *rotary)
        x = x + (y * parts[2] if parts else y)
        if self.cross_attention is not None:
            x = x + self.cross_attention(self.cross_norm(x), *rotary, memory)
        y = self.norm2(x)
        y = self.mlp(y * parts[4] + parts[3] if parts else y)
        return x + (y * parts[5] if parts else y)


class Step(nn.Module):
    """Network, guidance and sampling. Each design has a subclass with the inputs that its `condition` gives.

    Guidance is applied to the hidden state before the head. This equals guidance on the logits, because the head is
    linear and its bias keeps the factor (1 + g) - g = 1, and it halves the cost of the head. With one group only,
    guidance has no effect.
    """

    def __init__(self, model: MaskVAT) -> None:
        super().__init__()
        c = model.config
        self.config, self.tokens, self.tokens_in, self.norm = c, model.tokens, model.tokens_in, model.norm
        self.blocks = nn.ModuleList(StepBlock(block) for block in model.blocks)
        weight = model.head.weight.unflatten(0, (c.n_codebooks, -1)).transpose(-1, -2)
        self.head_weight = nn.Parameter(weight.detach().contiguous())  # [K, H, V]
        self.head_bias = nn.Parameter(model.head.bias.detach().reshape(c.n_codebooks, 1, 1, -1))
        self.sampler = Sampler(c.codebook_size)

    def hidden(
        self,
        codes: Tensor,
        modulation: tuple[Tensor, Tensor] | None = None,
        memories: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """codes [B, K, T], (modulation, frame_index), (keys, values) -> last hidden state [G, B, T, H]."""
        c = self.config
        offset = torch.arange(c.n_codebooks, dtype=codes.dtype) * (c.codebook_size + 1)
        x = self.tokens_in(self.tokens(codes + offset[:, None]).sum(dim=-3))[None]  # (1, B, T, H)
        width = c.hidden_size // c.n_heads
        rotary = Rotary(codes.shape[-1], width, width**-0.5), Rotary(codes.shape[-1], width)

        def part(i: int) -> Tensor:
            table, frame_index = modulation
            return F.embedding(frame_index, table[i])[:, None]  # (G, 1, T, H)

        for i, block in enumerate(self.blocks):
            parts = [part(6 * i + j) for j in range(6)] if modulation else []
            memory = tuple(x[:, None, i] for x in memories) if memories else None  # (G, 1, heads, N, D)
            x = block(x, rotary, parts, memory)
        x = self.norm(x)
        return x * part(6 * c.n_blocks + 1) + part(6 * c.n_blocks) if modulation else x

    def draw(self, hidden: Tensor, index: Tensor, u: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden state [G, B, T, H] -> tokens and log-probabilities [B, K, P] at the token frames `index` [B, K, P]."""
        conditional, null = hidden[0], hidden[-1]
        guided = conditional + guidance * (conditional - null)  # (B, T, H)
        batch, n_tokens = guided.shape[:2]
        # row numbers up to B * T without multiplying lengths: a CUDA graph cannot copy such a number to the GPU
        first = torch.arange(batch * n_tokens, dtype=index.dtype).unflatten(0, (batch, n_tokens))[:, :1]  # (B, 1)
        row = index + first[:, None]  # (B, K, P) of B * T
        chosen = F.embedding(row.transpose(0, 1), guided.flatten(0, 1))  # (K, B, P, H)
        logits = (chosen.flatten(1, 2) @ self.head_weight).unflatten(1, (batch, -1)) + self.head_bias  # (K, B, P, V)
        tokens, logp = self.sampler(logits, u.transpose(0, 1))
        return tokens.transpose(0, 1), logp.transpose(0, 1)


class AdaLNStep(Step):
    def forward(
        self, codes: Tensor, index: Tensor, u: Tensor, guidance: Tensor, frame_index: Tensor, modulation: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.draw(self.hidden(codes, (modulation, frame_index)), index, u, guidance)


class Seq2SeqStep(Step):
    def forward(
        self, codes: Tensor, index: Tensor, u: Tensor, guidance: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.draw(self.hidden(codes, None, (keys, values)), index, u, guidance)


class HybridStep(Step):
    def forward(
        self,
        codes: Tensor,
        index: Tensor,
        u: Tensor,
        guidance: Tensor,
        keys: Tensor,
        values: Tensor,
        frame_index: Tensor,
        modulation: Tensor,
    ) -> tuple[Tensor, Tensor]:
        return self.draw(self.hidden(codes, (modulation, frame_index), (keys, values)), index, u, guidance)


STEPS = {"adaln_a": AdaLNStep, "adaln_b": AdaLNStep, "seq2seq": Seq2SeqStep, "hybrid": HybridStep}
