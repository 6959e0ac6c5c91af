"""MaskVAT's sampling loop in NumPy (MaskGIT; paper, section 3.2.3). It calls a function and knows no network.

Where the paper leaves a choice, the loop follows VampNet and Besnier & Chen: steps count from 0; the confidence is the
guided log-probability of the sampled token plus annealed Gumbel noise; exactly as many tokens are revealed as the
schedule says, without a threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import floor
from typing import Self

import numpy as np

from engines.contract import FloatArray, Int32Array, mask_ratio
from runtime.rng import gumbel

StepFn = Callable[[Int32Array, FloatArray], tuple[Int32Array, FloatArray]]
LogitsFn = Callable[[Int32Array, bool], tuple[FloatArray, FloatArray | None]]
NoiseFn = Callable[[int], tuple[FloatArray, FloatArray]]

# share of tokens still masked at progress u in [0, 1]: the paper's, then others from MaskGIT (arXiv 2202.04200)
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": mask_ratio,
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u**2,
    "cubic": lambda u: 1 - u**3,
}


@dataclass(frozen=True)
class UnmaskSchedule:
    """How many tokens each step reveals, and with how much randomness. The same for every row."""

    mask_token: int
    steps: int
    diversity: float  # scale of the Gumbel noise on the confidence, times 1 - (n + 1) / steps
    schedule: str = "cosine"  # a name in SCHEDULES

    def masked_after(self, step: int, at_start: int, now: int) -> int:
        """How many tokens of a row stay masked after `step` (from 0), if `now` are masked and `at_start` were.

        floor(ratio((step + 1) / steps) * at_start), but every step reveals at least one token and the last reveals all.
        """
        if step == self.steps - 1:
            return 0
        target = floor(SCHEDULES[self.schedule]((step + 1) / self.steps) * at_start)
        return min(max(target, 1), max(now - 1, 0))


@dataclass(frozen=True)
class DecodeState:
    """How far the decoding of some rows has come. A step changes it in place."""

    codes: Int32Array  # [B, K, T]
    at_start: Int32Array  # [B], tokens that were masked
    tokens: Int32Array  # [B, K, T], drawn by the last step; before the first step the codes themselves
    logp: FloatArray  # [B, K, T], log-probability of each token when it was decided; nan if it was known or is masked

    @classmethod
    def begin(cls, codes: Int32Array, mask_token: int) -> Self:
        """Start decoding: positions that hold `mask_token` will be filled, all others are known. `codes` is copied."""
        at_start = (codes == mask_token).sum(axis=(1, 2)).astype(np.int32)
        return cls(codes.copy(), at_start, codes.copy(), np.full(codes.shape, np.nan, np.float32))

    @classmethod
    def join(cls, parts: "list[DecodeState]") -> "DecodeState":
        """The rows of all parts, copied."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def __getitem__(self, row: int) -> "DecodeState":
        """One row, as a view."""
        one = slice(row, row + 1)
        return type(self)(*(getattr(self, f.name)[one] for f in fields(self)))

    def preview(self, mask_token: int) -> Int32Array:
        """codes [B, K, T] as if decoding ended here: masked positions take the tokens of the last step, at no cost."""
        return np.where(self.codes == mask_token, self.tokens, self.codes)


def advance(
    rows: DecodeState,
    step_fn: StepFn,
    noise_fn: NoiseFn,
    plan: UnmaskSchedule,
    span: range,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Take the steps of `span`, which follow the steps that `rows` already took.

    step_fn(codes, u) returns tokens and their log-probabilities, each [B, K, T]. noise_fn(step) returns two arrays of
    uniforms [B, K, T], for the tokens and for the Gumbel noise. Each row follows its own schedule, so its result does
    not depend on the batch. `on_step(n)` is called after step n, and may raise to stop. Ends early if nothing is masked
    any more.
    """
    flat = rows.codes.reshape(len(rows.codes), -1)  # a view: [B, K * T]
    decided = rows.logp.reshape(flat.shape)  # a view, too
    for n in span:
        if not (flat == plan.mask_token).any():
            break  # there were more steps than masked tokens
        u, gumbel_u = noise_fn(n)
        tokens, logp = step_fn(rows.codes, u)
        rows.tokens[...] = tokens
        sure = logp.reshape(flat.shape)
        scale = np.float32(plan.diversity * (1 - (n + 1) / plan.steps))
        confidence = logp + scale * gumbel(gumbel_u) if scale else logp
        for row, (token, score) in enumerate(
            zip(tokens.reshape(flat.shape), confidence.reshape(flat.shape), strict=True)
        ):
            masked = np.flatnonzero(flat[row] == plan.mask_token)  # decided tokens are never masked again
            reveal = len(masked) - plan.masked_after(n, int(rows.at_start[row]), len(masked))
            if reveal > 0:
                order = np.argsort(-score[masked], kind="stable")  # ties: the earlier position first
                chosen = masked[order[:reveal]]
                flat[row, chosen] = token[chosen]
                decided[row, chosen] = sure[row, chosen]
        if on_step is not None:
            on_step(n)


def decode(
    step_fn: StepFn,
    codes: Int32Array,
    noise_fn: NoiseFn,
    *,
    mask_token: int,
    steps: int,
    diversity: float,
    on_step: Callable[[int], None] | None = None,
) -> Int32Array:
    """Fill the positions of codes [B, K, T] that hold `mask_token`, by the paper's schedule: see `advance`."""
    rows = DecodeState.begin(codes, mask_token)
    advance(rows, step_fn, noise_fn, UnmaskSchedule(mask_token, steps, diversity), range(steps), on_step)
    return rows.codes


# ---------------------------------------------------------------- plain reference for the fused step
def guide(conditional: FloatArray, null: FloatArray | None, guidance: float) -> FloatArray:
    """(1 + g) * conditional - g * null (classifier-free guidance on logits)."""
    return conditional if null is None else (1 + np.float32(guidance)) * conditional - np.float32(guidance) * null


def sample(logits: FloatArray, u: FloatArray) -> tuple[Int32Array, FloatArray]:
    """Sample softmax(logits [..., V]) by inverse CDF, with one uniform u [...] per row, in float64."""
    logits64 = logits.astype(np.float64)
    shifted = logits64 - logits64.max(axis=-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    cdf = np.exp(logp).cumsum(axis=-1)
    tokens = (cdf <= (u.astype(np.float64) * cdf[..., -1])[..., None]).sum(axis=-1)
    tokens = np.minimum(tokens, logits.shape[-1] - 1)
    return tokens.astype(np.int32), np.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0].astype(np.float32)


def step_from_logits(logits_fn: LogitsFn, guidance: float) -> StepFn:
    """Make a step function from a network that returns logits [B, K, T, V]: the tested reference for the fused step.

    logits_fn(codes, with_null) returns conditional and null logits, from one batch of both. If guidance is 0,
    `with_null` is False and the null logits are None: they must not be computed.
    """

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        conditional, null = logits_fn(codes, guidance != 0)
        return sample(guide(conditional, null, guidance), u)

    return step
