"""The order of samples and their random numbers depend on seed, epoch, step and sample only."""

import numpy as np
import pytest

from train.data.sample_order import Row, permutation, rows


def test_every_epoch_takes_every_sample_once() -> None:
    seen = [row for step in range(25) for row in rows(seed=3, step=step, batch=4, n=10)]
    for epoch in range(10):
        assert sorted(row.sample for row in seen if row.epoch == epoch) == list(range(10))
    orders = {tuple(permutation(3, epoch, 10)) for epoch in range(10)}
    assert len(orders) == 10 and tuple(permutation(4, 0, 10)) not in orders


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_one_order(processes: int) -> None:
    whole = rows(seed=0, step=7, batch=8, n=5)  # more rows than samples: they repeat in the next epoch
    size = 8 // processes
    parts = [rows(0, 7, 8, 5, slice(r * size, (r + 1) * size)) for r in range(processes)]
    assert [row for part in parts for row in part] == whole
    assert len(set(whole)) == 8


def test_what_is_drawn_depends_on_seed_sample_and_step_only() -> None:
    row = Row(step=7, epoch=1, sample=3)
    numbers = row.rng(0).random(4)
    np.random.random(3)
    assert np.array_equal(numbers, row.rng(0).random(4))
    for other in (Row(8, 1, 3), Row(7, 2, 3), Row(7, 1, 4)):
        assert not np.array_equal(numbers, other.rng(0).random(4))
    assert not np.array_equal(numbers, row.rng(1).random(4))
