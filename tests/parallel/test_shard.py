"""Which images are whose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimix.parallel import fewest, shard


def test_a_shard_is_the_same_range_from_both_ends():
    assert shard(10, 0, 2).positions.tolist() == [0, 1, 8, 9]
    assert shard(10, 1, 2).positions.tolist() == [2, 3, 4, 5, 6, 7]
    assert shard(7, 1, 2).positions.tolist() == [2, 3, 4]  # 3 is its own partner
    assert [shard(10, r, 2).weight for r in range(2)] == [0.4, 0.6]


@given(st.integers(1, 300), st.integers(1, 70))
def test_every_image_counts_once(n, size):
    shards = [shard(n, r, size) for r in range(size)]
    counts = np.zeros(n)
    for positions, weight, copies in shards:
        assert weight == pytest.approx(len(positions) / n / copies)
        counts[positions] += 1 / copies
        assert (np.diff(positions) > 0).all()
        assert (positions + positions[::-1] == n - 1).all()  # partners, in reversed order
    np.testing.assert_allclose(counts, 1)
    lengths = [len(s.positions) for s in shards]
    assert max(lengths) - min(lengths) <= 2
    assert min(lengths) >= 1
    if n >= fewest(size):
        assert {s.copies for s in shards} == {1}


def test_a_batch_of_fewer_pairs_than_ranks_is_looked_at_by_all():
    for rank in range(3):
        positions, weight, copies = shard(4, rank, 3)
        assert (positions.tolist(), weight, copies) == ([0, 1, 2, 3], 1 / 3, 3)


def test_one_rank_has_the_whole_batch():
    positions, weight, copies = shard(5, 0, 1)
    assert (positions.tolist(), weight, copies) == ([0, 1, 2, 3, 4], 1.0, 1)
    assert fewest(1) == 1


@pytest.mark.parametrize(("n", "rank", "size"), [(0, 0, 1), (5, 2, 2), (5, -1, 2)])
def test_no_images_or_no_such_rank_is_refused(n, rank, size):
    with pytest.raises(ValueError, match=f"shard: rank {rank} of {size}, {n} images"):
        shard(n, rank, size)
