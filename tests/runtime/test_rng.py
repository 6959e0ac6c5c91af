"""Every random number has an address: seed, candidate, window, step, stream."""

import numpy as np
import pytest

from runtime.rng import CONFIDENCE, MAX_SEED, TOKENS, gumbel, uniforms

SHAPE = (9, 40)
PINNED_FIRST = [0.034741878509521484, 0.011546730995178223, 0.6119502186775208, 0.24154919385910034]
PINNED_OTHER = [0.6923928260803223, 0.9705752730369568, 0.3959324359893799, 0.0807526707649231]
HOME = {"seed": 7, "candidate": 3, "window": 2, "step": 5, "stream": TOKENS}


def draw(**changes: int) -> np.ndarray:
    return uniforms(**(HOME | changes), shape=SHAPE)


def test_documented_values() -> None:
    """The generator is part of the interface: these values may change only with a note in the changelog."""
    first = uniforms(0, 0, 0, 0, TOKENS, (4,))
    np.testing.assert_array_equal(first, np.array(PINNED_FIRST, np.float32))
    other = uniforms(MAX_SEED, 2, 3, 31, CONFIDENCE, (4,))
    np.testing.assert_array_equal(other, np.array(PINNED_OTHER, np.float32))


def test_the_recipe_of_the_docstring() -> None:
    """Key (seed, candidate), counter (0, stream, step, window): what another implementation must do."""
    philox = np.random.Philox(key=np.array([7, 3], np.uint64), counter=np.array([0, TOKENS, 5, 2], np.uint64))
    np.testing.assert_array_equal(draw(), np.random.Generator(philox).random(SHAPE, dtype=np.float32))


def test_same_address_same_numbers() -> None:
    np.testing.assert_array_equal(draw(), draw())


def test_numbers_do_not_depend_on_what_else_is_drawn() -> None:
    np.random.default_rng(0).random(100)
    np.testing.assert_array_equal(draw(), draw())
    # a shorter window has the beginning of the longer one's stream
    np.testing.assert_array_equal(uniforms(1, 0, 0, 0, TOKENS, (50,)), uniforms(1, 0, 0, 0, TOKENS, (500,))[:50])


@pytest.mark.parametrize("part", HOME)
def test_each_part_of_the_address_counts(part: str) -> None:
    values = [1 - HOME[part]] if part == "stream" else [0, 1, HOME[part] + 1, 2**20]
    for value in values:
        correlation = np.corrcoef(draw().ravel(), draw(**{part: value}).ravel())[0, 1]
        assert abs(correlation) < 0.25  # 360 independent numbers: five standard deviations


def test_addresses_do_not_collide() -> None:
    """No block of one address appears under another: neighbours in every direction are all distinct."""
    seen = {
        uniforms(seed, candidate, window, step, stream, (4,)).tobytes()
        for seed in (0, 1, MAX_SEED)
        for candidate in range(3)
        for window in range(3)
        for step in range(4)
        for stream in (TOKENS, CONFIDENCE)
    }
    assert len(seen) == 3 * 3 * 3 * 4 * 2


def test_uniforms_are_uniform() -> None:
    values = uniforms(11, 0, 0, 0, TOKENS, (100_000,))
    assert values.dtype == np.float32
    assert 0 <= values.min() and values.max() < 1
    counts = np.histogram(values, 50, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 100  # chi-square with 49 degrees of freedom: p = 2e-5


def test_gumbel_is_standard_and_finite() -> None:
    assert np.isfinite(gumbel(np.array([0, 1 - 2**-24, 0.5], np.float32))).all()
    noise = gumbel(uniforms(3, 0, 0, 0, CONFIDENCE, (100_000,)))
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.std() == pytest.approx(np.pi / 6**0.5, abs=0.02)
