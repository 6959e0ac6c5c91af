"""What training hides: tokens in spans of time, and each condition alone or both together."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from train.data.batch import SPAN_FRACTIONS, SPANS, Hiding, span_mask

pytestmark = pytest.mark.torch


def spans_of(mask: np.ndarray) -> int:
    """Runs of masked time frames."""
    return int((np.diff(mask.any(axis=0).astype(int), prepend=0) == 1).sum())


def test_spans_cover_whole_ranges_or_parts_of_them() -> None:
    rng = np.random.default_rng(0)
    masks = [span_mask(rng, (9, 200)) for _ in range(600)]
    whole = [m for m in masks if (m.any(axis=0) == m.all(axis=0)).all()]
    assert 0.4 < len(whole) / len(masks) < 0.6
    assert {spans_of(m) for m in whole} == set(range(1, SPANS + 2))
    covered = np.array([m.all(axis=0).mean() for m in whole])
    assert covered.min() >= SPAN_FRACTIONS[0] - 0.01 and covered.max() <= SPAN_FRACTIONS[1] + 0.01
    assert 0.3 < covered.mean() < 0.55
    places = np.mean([m.any(axis=0) for m in whole], axis=0)
    assert places.min() > 0.3 and places.max() < 0.55  # no moment is left out, also not the first and the last


def test_partly_masked_spans_leave_the_rest_alone() -> None:
    rng = np.random.default_rng(1)
    masks = [m for m in (span_mask(rng, (9, 100)) for _ in range(300)) if not m.all(axis=0).any()]
    assert masks and all(m.any() for m in masks)
    assert all(m.any(axis=0).mean() <= SPAN_FRACTIONS[1] + 0.01 for m in masks)


@pytest.mark.parametrize("shape", [(1, 1), (9, 1), (1, 2), (9, 3)])
def test_short_examples_have_masks_too(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    assert all(span_mask(rng, shape).any() for _ in range(200))


def test_conditions_are_dropped_alone_and_together() -> None:
    rng, hiding = np.random.default_rng(3), Hiding(both=0.1, frame=0.2, sync=0.3)
    drops = np.array([hiding.drop(rng) for _ in range(20_000)])
    shares = {pair: float((drops == pair).all(axis=1).mean()) for pair in [(1, 1), (1, 0), (0, 1), (0, 0)]}
    expected = {(1, 1): 0.1, (1, 0): 0.2, (0, 1): 0.3, (0, 0): 0.4}
    assert all(abs(shares[pair] - share) < 0.015 for pair, share in expected.items())


def test_a_share_of_masks_has_spans() -> None:
    rng, hiding = np.random.default_rng(4), Hiding(spans=0.25)
    masks = [hiding.mask(rng, (9, 400)) for _ in range(800)]
    known = [
        m for m in masks if not m.any(axis=0).all() and (~m.any(axis=0)).mean() > 0.15 and spans_of(m) <= SPANS + 1
    ]
    assert 0.1 < len(known) / len(masks) < 0.3
    assert not any((~m.any(axis=0)).all() for m in masks)


def test_dropouts_must_fit_together() -> None:
    with pytest.raises(ValueError, match=r"add up to 1\.2; the most is 1"):
        Hiding(both=0.5, frame=0.5, sync=0.2)
