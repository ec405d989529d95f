import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.training.batches import epoch_batches, pieces_of_process

LENGTHS = np.random.default_rng(0).integers(1, 200, 1000)


def test_same_seed_and_epoch_same_batches():
    first, again = (epoch_batches(LENGTHS, 32, seed=3, epoch=2) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(("seed", "epoch"), [(4, 2), (3, 1)])
def test_other_seed_or_epoch_other_batches(seed, epoch):
    first, other = epoch_batches(LENGTHS, 32, seed=3, epoch=2), epoch_batches(LENGTHS, 32, seed, epoch)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.integers(1, 4))
def test_every_row_once(rows, batch_size, seed, pool):
    batches = epoch_batches(np.arange(rows) % 17, batch_size, seed, 0, pool)
    assert sorted(np.concatenate(batches)) == list(range(rows))
    assert len(batches) == -(-rows // batch_size)
    assert max(map(len, batches)) <= batch_size


def test_rows_of_a_batch_are_of_like_length():
    spread = np.mean([np.ptp(LENGTHS[b]) for b in epoch_batches(LENGTHS, 32, 0, 0)])
    order = np.random.default_rng(0).permutation(len(LENGTHS))
    at_random = np.mean([np.ptp(LENGTHS[b]) for b in np.array_split(order, len(LENGTHS) // 32)])
    assert spread < at_random / 10


def test_order_of_batches_is_not_by_length():
    longest = [LENGTHS[b].max() for b in epoch_batches(LENGTHS, 32, 0, 0)]
    assert longest != sorted(longest)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 8), st.integers(1, 5))
def test_pieces_of_all_processes_are_the_batch_and_equally_many(rows, parts, processes):
    batch = np.arange(100, 100 + rows)
    pieces = [pieces_of_process(batch, parts, i, processes) for i in range(processes)]
    assert len({len(p) for p in pieces}) == 1
    assert sorted(np.concatenate([row for p in pieces for row in p])) == batch.tolist()
