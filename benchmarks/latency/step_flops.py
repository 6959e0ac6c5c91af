"""The matrix products of the transformer, counted from its configuration.

Products that depend on the codes are needed in every step, all others once per window. `block_products` are the AdaLN
projections and the keys and values of cross-attention: our graphs compute them once per window, PyTorch in every step.
Tests compare the sums with PyTorch's counter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engines.contract import ModelConfig
from engines.length_adapter import condition_indices
from runtime.decode import UnmaskSchedule


@dataclass(frozen=True)
class Product:
    """`count` times `batch` products [m, k] x [k, n]. `weight`: the right operand is a weight of the network."""

    name: str
    m: int
    k: int
    n: int
    batch: int = 1
    count: int = 1
    weight: bool = True

    @property
    def flops(self) -> float:
        """Number of additions and multiplications."""
        return 2.0 * self.m * self.k * self.n * self.batch * self.count


def attention(name: str, config: ModelConfig, sizes: tuple[int, int, int], count: int) -> list[Product]:
    """The two products of attention without weights; `sizes` = rows, queries, keys."""
    rows, queries, keys = sizes
    batch, width = rows * config.n_heads, config.hidden_size // config.n_heads
    return [
        Product(f"{name} scores", queries, width, keys, batch, count, weight=False),
        Product(f"{name} values", queries, keys, width, batch, count, weight=False),
    ]


def block_self(config: ModelConfig, rows: int, length: int, count: int) -> list[Product]:
    """Self-attention and MLP of `count` blocks."""
    h, m = config.hidden_size, rows * length
    return [
        Product("q, out", m, h, h, count=2 * count),
        Product("k, v", m, h, 2 * h, count=count),
        *attention("self-attention", config, (rows, length, length), count),
        Product("mlp in", m, h, config.mlp_ratio * h, count=count),
        Product("mlp out", m, config.mlp_ratio * h, h, count=count),
    ]


def memory_length(config: ModelConfig, tokens: int) -> int:
    return config.n_frames(tokens) + int(config.cls_in_memory)


def step_products(config: ModelConfig, tokens: int, rows: int, masked: float = 1.0) -> list[Product]:
    """One step of one candidate. `rows` is 2 with guidance, else 1; `masked` is the share of masked tokens."""
    c, h = config, config.hidden_size
    out = [] if c.codec_latent == h else [Product("tokens in", tokens, c.codec_latent, h)]
    out += block_self(c, rows, tokens, c.n_blocks)
    if c.has_memory:
        out.append(Product("cross q, out", rows * tokens, h, h, count=2 * c.n_blocks))
        out += attention("cross-attention", c, (rows, tokens, memory_length(c, tokens)), c.n_blocks)
    out.append(Product("head", max(1, round(masked * tokens)), h, c.n_codebooks * c.codebook_size))
    return out


def adaln_frames(config: ModelConfig, tokens: int) -> int:
    """Number of frames of the AdaLN condition."""
    n, s = config.n_frames(tokens), config.n_sync(tokens) if config.uses_sync else 0
    if config.design == "adaln_b":
        return len(condition_indices(config, tokens, n, s)["frame_features_index"])
    return {"adaln_a": n, "hybrid": s}.get(config.design, 0)


def condition_products(config: ModelConfig, tokens: int, rows: int) -> list[Product]:
    """Products needed once per window."""
    c, h = config, config.hidden_size
    n, s = c.n_frames(tokens), c.n_sync(tokens) if c.uses_sync else 0
    out = [Product("frame mlp", rows * n, c.frame_dim, h), Product("frame mlp", rows * n, h, h)]
    if c.uses_sync:
        out += [Product("sync mlp", rows * s, c.sync_dim, h), Product("sync mlp", rows * s, h, h)]
    if c.has_memory:
        out.append(Product("encoder in", rows * n, 2 * h, h))
        out += block_self(c, rows, n + 1, c.encoder_blocks)
    if c.design == "adaln_b":
        out.append(Product("adaln in", rows * adaln_frames(c, tokens), 2 * h, h))
    return out + block_products(c, tokens, rows)


def block_products(config: ModelConfig, tokens: int, rows: int) -> list[Product]:
    """Products of the blocks that depend only on the condition: once per window here, in every step of PyTorch."""
    c, h, out = config, config.hidden_size, []
    if c.has_memory:
        out.append(Product("cross k, v", rows * memory_length(c, tokens), h, 2 * h, count=c.n_blocks))
    if c.adaln_streams:
        modulated = adaln_frames(c, tokens) + rows - 1  # all frames of [NULL] share one row
        out.append(Product("modulation", modulated, h, 6 * h, count=c.n_blocks))
        out.append(Product("last modulation", modulated, h, 2 * h))
    return out


def total(products: Sequence[Product]) -> float:
    """Number of additions and multiplications."""
    return sum(p.flops for p in products)


def masked_shares(steps: int, tokens: int) -> list[float]:
    """Share of `tokens` that are masked before each step, in the first window of a clip."""
    schedule, shares, masked = UnmaskSchedule(0, steps, 0.0), [], tokens
    for n in range(steps):
        if not masked:
            break
        shares.append(masked / tokens)
        masked = schedule.masked_after(n, tokens, masked)
    return shares
