"""How a step is divided among processes."""

import pytest
from hotlora.engine.gradients import share_out
from toy import ToyBatch


def make_group(*sizes):
    places = iter(range(sum(sizes)))
    return [ToyBatch(tuple(next(places) for _ in range(size))) for size in sizes]


@pytest.mark.parametrize("sizes", [(4,), (4, 4), (4, 4, 4), (5, 1), (1,), (7, 3, 2), (8, 8, 8, 8), (1, 1, 1, 6)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_example_is_somebodys_at_its_own_place_and_shares_are_even(sizes, count):
    shares = share_out(make_group(*sizes), count)
    seen = sorted((first + offset, item) for share in shares for batch, first in share for offset, item in enumerate(batch.items))
    assert seen == [(place, place) for place in range(sum(sizes))]
    lengths = [sum(len(batch) for batch, _ in share) for share in shares]
    assert len(shares) == count and max(lengths) - min(lengths) <= 1


def test_batches_stay_whole_where_they_can():
    group = make_group(4, 4, 4, 4)
    assert share_out(group, 2) == [[(group[0], 0), (group[2], 8)], [(group[1], 4), (group[3], 12)]]
    assert share_out(group, 1) == [[(batch, 4 * place) for place, batch in enumerate(group)]]
    assert [len(batch) for share in share_out(make_group(4), 3) for batch, _ in share] == [2, 1, 1]
