"""The MaskGIT loop of MaskVAT in NumPy (paper, section 3.2.3): it takes a function and knows no network.

Read with these readings of the paper (VampNet's and Besnier & Chen's): steps count from 0; the confidence is the guided
log-probability of the sampled token plus annealed Gumbel noise; counts are exact, not by threshold.
"""

from collections.abc import Callable
from math import floor

import numpy as np

from engines.contract import FloatArray, Int32Array, mask_ratio
from runtime.rng import gumbel

StepFn = Callable[[Int32Array, FloatArray], tuple[Int32Array, FloatArray]]
LogitsFn = Callable[[Int32Array, bool], tuple[FloatArray, FloatArray | None]]
NoiseFn = Callable[[int], tuple[FloatArray, FloatArray]]


def masked_after(step: int, steps: int, at_start: int, now: int) -> int:
    """How many of a row's `at_start` masked tokens stay masked after `step` (from 0), when `now` are masked.

    floor(cos(pi/2 (n+1)/N) M0), but every step reveals at least one token and the last reveals all.
    """
    if step == steps - 1:
        return 0
    target = floor(mask_ratio((step + 1) / steps) * at_start)
    return min(max(target, 1), max(now - 1, 0))


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
    """Fill the positions of codes [B, K, T] that hold `mask_token`; all others are known and stay as they are.

    step_fn(codes, u) -> tokens and their log-probabilities, each [B, K, T]; noise_fn(step) -> two uniforms [B, K, T],
    for the tokens and for the Gumbel noise, whose scale is diversity * (1 - (n + 1) / steps). Each row follows its own
    schedule, so a row's result does not depend on its batch. `on_step(n)` is called after step n; raising stops.
    Where nothing is masked any more, it ends early.
    """
    codes = codes.copy()
    rows = codes.reshape(len(codes), -1)  # a view: [B, K * T]
    at_start = (rows == mask_token).sum(axis=1)
    for n in range(steps):
        if not (rows == mask_token).any():
            break  # more steps than masked tokens: the rest has nothing to decide
        u, gumbel_u = noise_fn(n)
        tokens, logp = step_fn(codes, u)
        scale = np.float32(diversity * (1 - (n + 1) / steps))
        confidence = logp + scale * gumbel(gumbel_u) if scale else logp
        for row, (token, score) in enumerate(
            zip(tokens.reshape(rows.shape), confidence.reshape(rows.shape), strict=True)
        ):
            masked = np.flatnonzero(rows[row] == mask_token)  # decided tokens never return: infinite confidence
            reveal = len(masked) - masked_after(n, steps, int(at_start[row]), len(masked))
            if reveal > 0:
                order = np.argsort(-score[masked], kind="stable")  # ties: the earlier position first
                chosen = masked[order[:reveal]]
                rows[row, chosen] = token[chosen]
        if on_step is not None:
            on_step(n)
    return codes


# ---------------------------------------------------------------- the plain reference of the fused step
def guide(conditional: FloatArray, null: FloatArray | None, guidance: float) -> FloatArray:
    """(1 + g) * conditional - g * null (classifier-free guidance on logits)."""
    return conditional if null is None else (1 + np.float32(guidance)) * conditional - np.float32(guidance) * null


def sample(logits: FloatArray, u: FloatArray) -> tuple[Int32Array, FloatArray]:
    """Inverse-CDF sampling of softmax(logits [..., V]) with one uniform u [...] per row, in float64."""
    logits64 = logits.astype(np.float64)
    shifted = logits64 - logits64.max(axis=-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    cdf = np.exp(logp).cumsum(axis=-1)
    tokens = (cdf <= (u.astype(np.float64) * cdf[..., -1])[..., None]).sum(axis=-1)
    tokens = np.minimum(tokens, logits.shape[-1] - 1)
    return tokens.astype(np.int32), np.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0].astype(np.float32)


def step_from_logits(logits_fn: LogitsFn, guidance: float) -> StepFn:
    """A step function from a network that returns logits [B, K, T, V]: the tested reference of the fused step.

    logits_fn(codes, with_null) -> conditional and null logits from one batch of both. `with_null` is False where
    guidance is 0: null is None then, and must not be computed.
    """

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        conditional, null = logits_fn(codes, guidance != 0)
        return sample(guide(conditional, null, guidance), u)

    return step
