"""The MaskGIT loop on plain functions: exact counts, fixed tokens, independent rows, and the NumPy sampler."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.decode import SCHEDULES, DecodeState, UnmaskSchedule, advance, decode, guide, sample, step_from_logits
from runtime.rng import uniforms

V = 16  # codebook of these tests; MASK is V
COUNTS = (  # worked out by hand: tokens still masked after each of 32 steps, from 7758 (862 frames x 9 codebooks)
    *(7748, 7720, 7674, 7608, 7525, 7423, 7304, 7167, 7013, 6841, 6654, 6450, 6231, 5997, 5748, 5485),
    *(5209, 4921, 4621, 4310, 3988, 3657, 3316, 2968, 2613, 2252, 1885, 1513, 1138, 760, 380, 0),
)
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Case:
    """One call of the loop: each row has its own seed and its own share of known tokens."""

    seeds: tuple[int, ...]
    known: tuple[float, ...]
    K: int
    T: int
    steps: int
    diversity: float

    def codes(self) -> Codes:
        rows = [self._row(seed, share) for seed, share in zip(self.seeds, self.known, strict=True)]
        return np.stack(rows)

    def _row(self, seed: int, share: float) -> Codes:
        rng = np.random.default_rng(seed)
        shape = (self.K, self.T)
        return np.where(rng.random(shape) < share, rng.integers(0, V, shape), V).astype(np.int32)

    def noise(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.K, self.T)
        both = (np.stack([uniforms(s, 0, 0, n, stream, shape) for s in self.seeds]) for stream in (0, 1))
        return next(both), next(both)

    def run(self, **changes: object) -> Codes:
        options: dict = {"steps": self.steps, "diversity": self.diversity} | changes
        step = options.pop("step", network)
        return decode(
            step, options.pop("codes", self.codes()), options.pop("noise", self.noise), mask_token=V, **options
        )


def network(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
    """A stand-in for a network: tokens and confidence depend on u and on all codes of the row, masked or not."""
    context = (codes.sum(axis=(1, 2), keepdims=True) % 7 / 7).astype(np.float32)
    x = (u + context) % 1
    return np.floor(x * V).astype(np.int32), np.log(x * 0.99 + 0.01).astype(np.float32)


@st.composite
def cases(draw: Callable) -> Case:
    rows = draw(st.integers(1, 3))
    return Case(
        seeds=tuple(draw(st.lists(st.integers(0, 2**32), min_size=rows, max_size=rows))),
        known=tuple(draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]), min_size=rows, max_size=rows))),
        K=draw(st.integers(1, 4)),
        T=draw(st.integers(1, 12)),
        steps=draw(st.integers(1, 60)),
        diversity=draw(st.sampled_from([0.0, 0.5, 8.0, 1000.0])),
    )


def masked_after(step: int, steps: int, at_start: int, now: int) -> int:
    return UnmaskSchedule(V, steps, 0.0).masked_after(step, at_start, now)


CASE = Case(seeds=(1, 2), known=(0.0, 0.3), K=3, T=20, steps=8, diversity=2.0)
bounded = settings(max_examples=40, deadline=None)


# ---------------------------------------------------------------- the schedule
def test_the_papers_counts() -> None:
    now, counts = 9 * 862, []
    for n in range(32):
        now = masked_after(n, 32, 9 * 862, now)
        counts.append(now)
    assert tuple(counts) == COUNTS


def test_few_tokens_are_spread_over_the_steps() -> None:
    """If the cosine rounds to 0 too early, one token stays for the last step."""
    assert masked_after(6, 8, 3, 3) == 1
    assert masked_after(6, 8, 3, 2) == 1
    assert masked_after(6, 8, 3, 1) == 0
    assert masked_after(7, 8, 3, 3) == 0


@given(st.integers(1, 200), st.integers(0, 300))
@bounded
def test_every_step_reveals_something_and_the_last_one_all(steps: int, at_start: int) -> None:
    now = at_start
    for n in range(steps):
        after = masked_after(n, steps, at_start, now)
        assert 0 <= after < now or after == now == 0
        now = after
    assert now == 0


# ---------------------------------------------------------------- the loop
@given(cases())
@bounded
def test_no_mask_is_left_and_known_tokens_stay(case: Case) -> None:
    before = case.codes()
    after = case.run(codes=before)
    known = before != V
    assert np.all((after >= 0) & (after < V))
    assert np.array_equal(after[known], before[known])
    assert np.array_equal(before, case.codes())  # the argument is not written to
    assert after.dtype == np.int32 and after.shape == before.shape


@given(cases())
@bounded
def test_counts_are_exact_and_decided_tokens_stay(case: Case) -> None:
    seen: list[Codes] = []

    def step(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
        seen.append(codes.copy())
        return network(codes, u)

    seen.append(case.run(step=step))
    start = (seen[0] == V).sum(axis=(1, 2))
    assert len(seen) - 1 <= case.steps
    now = start.copy()
    for n, (before, after) in enumerate(pairwise(seen)):
        decided = before != V
        assert np.array_equal(after[decided], before[decided])
        for row in range(len(now)):
            now[row] = masked_after(n, case.steps, int(start[row]), int(now[row]))
        assert np.array_equal((after == V).sum(axis=(1, 2)), now)
    assert not now.any()


@given(cases())
@bounded
def test_a_rows_result_does_not_depend_on_its_batch(case: Case) -> None:
    together = case.run()
    for row, (seed, known) in enumerate(zip(case.seeds, case.known, strict=True)):
        alone = replace(case, seeds=(seed,), known=(known,)).run()
        assert np.array_equal(alone[0], together[row])


def test_one_step_is_one_draw() -> None:
    case = replace(CASE, steps=1, known=(0.0, 0.0))
    assert np.array_equal(case.run(), network(case.codes(), case.noise(0)[0])[0])


def test_more_steps_than_tokens() -> None:
    case = Case(seeds=(5,), known=(0.0,), K=1, T=3, steps=50, diversity=8.0)
    calls = []
    after = case.run(on_step=calls.append)
    assert V not in after
    assert calls == [0, 1, 2]  # one token per step, then nothing is left to pay for


def test_all_known_comes_back_as_it_was_and_costs_nothing() -> None:
    case = replace(CASE, known=(1.0, 1.0))
    assert np.array_equal(case.run(step=None), case.codes())


def test_most_confident_first_and_ties_by_position() -> None:
    def step(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
        order.append(np.flatnonzero(codes[0, 0] == V).tolist())
        return np.zeros_like(codes), scores

    order: list[list[int]] = []
    scores = np.array([[[-3, -1, -2, -1, -9, -1]]], np.float32)
    masked = np.full((1, 1, 6), V, np.int32)
    decode(step, masked, lambda n: (np.zeros((1, 1, 6), np.float32),) * 2, mask_token=V, steps=6, diversity=0)
    revealed = [sorted(set(a) - set(b)) for a, b in zip(order, [*order[1:], []], strict=True)]
    assert [position for group in revealed for position in group] == [1, 3, 5, 2, 0, 4]


def test_ties_go_by_position_in_long_rows_too() -> None:
    """Three levels of confidence, a third of the tokens each: the best first, each level from left to right."""

    def step(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
        decided = np.flatnonzero(codes != V)
        assert sorted(decided) == sorted(order[: len(decided)])
        return np.zeros_like(codes), -level.reshape(codes.shape)

    level = (np.arange(1000) % 3).astype(np.float32)
    order = [*range(0, 1000, 3), *range(1, 1000, 3), *range(2, 1000, 3)]
    masked, noise = np.full((1, 1, 1000), V, np.int32), np.zeros((1, 1, 1000), np.float32)
    decode(step, masked, lambda n: (noise, noise), mask_token=V, steps=20, diversity=0)


# ---------------------------------------------------------------- in parts
@given(cases(), st.integers(0, 60), st.sampled_from(list(SCHEDULES)))
@bounded
def test_spans_in_turn_are_the_whole_loop(case: Case, cut: int, schedule: str) -> None:
    plan, cut = UnmaskSchedule(V, case.steps, case.diversity, schedule), min(cut, case.steps)
    whole, parts = DecodeState.begin(case.codes(), V), DecodeState.begin(case.codes(), V)
    advance(whole, network, case.noise, plan, range(case.steps))
    advance(parts, network, case.noise, plan, range(cut))
    parts = DecodeState.join([parts[row] for row in range(len(case.seeds))])  # as candidates go from batch to batch
    advance(parts, network, case.noise, plan, range(cut, case.steps))
    assert V not in whole.codes and np.array_equal(parts.codes, whole.codes)
    assert schedule != "cosine" or np.array_equal(whole.codes, case.run())


def test_a_preview_ends_with_the_last_steps_tokens() -> None:
    shown: list[Codes] = []

    def step(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
        out = network(codes, u)
        shown.append(out[0].copy())
        return out

    rows, plan = DecodeState.begin(CASE.codes(), V), UnmaskSchedule(V, CASE.steps, CASE.diversity)
    advance(rows, step, CASE.noise, plan, range(3))
    masked, preview = rows.codes == V, rows.preview(V)
    assert len(shown) == 3 and masked.any() and not masked.all()
    assert np.array_equal(preview[~masked], rows.codes[~masked]) and np.array_equal(preview[masked], shown[2][masked])
    advance(rows, step, CASE.noise, plan, range(3, CASE.steps))
    assert np.array_equal(rows.preview(V), rows.codes) and np.array_equal(rows.codes, CASE.run())


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_all_to_none(name: str) -> None:
    ratios = [SCHEDULES[name](u) for u in np.linspace(0, 1, 33)]
    assert ratios[0] == 1 and ratios[-1] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(ratios))


def test_the_linear_schedules_counts() -> None:
    plan, now = UnmaskSchedule(V, 4, 0.0, "linear"), 100
    assert [now := plan.masked_after(n, 100, now) for n in range(4)] == [75, 50, 25, 0]


# ---------------------------------------------------------------- options
def test_every_option_changes_the_output() -> None:
    base = CASE.run()
    assert np.array_equal(base, CASE.run())
    for change in ({"steps": 9}, {"diversity": 30.0}, {"diversity": 0.0}):
        assert not np.array_equal(base, CASE.run(**change)), change
    assert not np.array_equal(base[0], replace(CASE, seeds=(3, 2)).run()[0])


def test_without_diversity_the_order_has_no_noise() -> None:
    def other_gumbel(n: int) -> tuple[np.ndarray, np.ndarray]:
        tokens, confidence = CASE.noise(n)
        return tokens, 1 - confidence

    assert np.array_equal(CASE.run(diversity=0.0), CASE.run(diversity=0.0, noise=other_gumbel))
    assert not np.array_equal(CASE.run(), CASE.run(noise=other_gumbel))


@pytest.mark.parametrize(("distance", "first"), [(0.90, 1), (0.98, 0)])
def test_noise_is_annealed(distance: float, first: int) -> None:
    """In the first of two steps the scale is diversity / 2: the noises -ln(-ln .5) and -ln(-ln .9) are 1.884 apart."""

    def step(codes: Codes, u: np.ndarray) -> tuple[Codes, np.ndarray]:
        seen.append(codes.copy())
        return np.zeros_like(codes), np.array([[[0, -distance]]], np.float32)

    seen: list[Codes] = []
    noise = np.array([[[0.5, 0.9]]], np.float32)
    decode(step, np.full((1, 1, 2), V, np.int32), lambda n: (noise, noise), mask_token=V, steps=2, diversity=1)
    assert np.flatnonzero(seen[1] != V).tolist() == [first]


def test_on_step_may_stop_the_loop() -> None:
    calls = []

    def on_step(n: int) -> None:
        calls.append(n)
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CASE.run(on_step=on_step)
    assert calls == [0, 1, 2]


# ---------------------------------------------------------------- the reference step
def test_guidance() -> None:
    conditional, null = np.float32([1, 2]), np.float32([3, 1])
    np.testing.assert_allclose(guide(conditional, null, 3), 4 * conditional - 3 * null)
    assert guide(conditional, None, 3) is conditional


def test_guidance_zero_pays_for_no_null_rows_and_equals_conditional() -> None:
    rng = np.random.default_rng(0)
    both = rng.standard_normal((4, 3, 4, V)).astype(np.float32)  # conditional rows, then null rows
    codes, u = np.full((2, 3, 4), V, np.int32), rng.random((2, 3, 4), dtype=np.float32)
    rows: list[int] = []

    def logits(codes: Codes, with_null: bool) -> tuple[np.ndarray, np.ndarray | None]:
        computed = both[: 2 * len(codes) if with_null else len(codes)]
        rows.append(len(computed))
        return computed[:2], computed[2:] if with_null else None

    without, guided = (step_from_logits(logits, guidance)(codes, u) for guidance in (0.0, 3.0))
    assert rows == [2, 4]
    for got, expected in ((without, both[:2]), (guided, 4 * both[:2] - 3 * both[2:])):
        assert all(np.array_equal(a, b) for a, b in zip(got, sample(expected, u), strict=True))
    assert not np.array_equal(without[0], guided[0])


def test_sample_follows_softmax() -> None:
    rng = np.random.Generator(np.random.Philox(1))
    logits = (2 * rng.standard_normal(V)).astype(np.float32)
    probabilities = np.exp(logits - logits.max(), dtype=np.float64)
    probabilities /= probabilities.sum()
    n = 20_000
    tokens, logp = sample(np.broadcast_to(logits, (n, V)), rng.random(n, dtype=np.float32))
    counts = np.bincount(tokens, minlength=V)
    chi_square = ((counts - n * probabilities) ** 2 / (n * probabilities)).sum()
    assert chi_square < 44.3  # 15 degrees of freedom: p = 1e-4
    np.testing.assert_allclose(logp, np.log(probabilities)[tokens], rtol=1e-5)


@given(st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=V), st.floats(0, 1, exclude_max=True, width=32))
@bounded
def test_sample_inverts_the_distribution(logits: list[float], u: float) -> None:
    values = np.array(logits, np.float32)
    (token,), (logp,) = sample(values[None], np.array([u], np.float32))
    probabilities = np.exp(values.astype(np.float64) - values.max())
    cdf = probabilities.cumsum() / probabilities.sum()
    before = cdf[token - 1] if token else 0.0
    assert before - 1e-9 <= u <= cdf[token] + 1e-9
    assert probabilities[token] > 0
    assert logp <= 0


def test_sample_at_the_ends() -> None:
    certain = np.array([[0, 800, 0]], np.float32)  # exp(-800) is 0: never drawn, not even by u = 0
    for u in (0.0, 0.5, 1 - 2**-24):
        assert sample(certain, np.array([u], np.float32))[0][0] == 1
    even = np.zeros((3, 4), np.float32)
    assert sample(even, np.array([0, 0.25, 1 - 2**-24], np.float32))[0].tolist() == [0, 1, 3]
