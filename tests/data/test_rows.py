"""What batches of images and of latents have in common: a whole step, some of its rows, and refusals."""

from __future__ import annotations

import pytest

from mezzotint.data import LatentBatches, Loader
from mezzotint.data.order import Shuffled
from mezzotint.data.rows import Rows
from mezzotint.train.share import Sharded, own_rows


class Numbers(Rows):
    """The places themselves, and what was asked for."""

    def __init__(self, count, order) -> None:
        super().__init__(count, order)
        self.asked: list[range] = []

    def rows(self, step, rows):
        self.check(rows)
        self.asked.append(rows)
        return [self.order(0, step)[0].tolist()[i] for i in rows]


def test_a_step_is_all_of_its_rows_in_the_order_given_or_made():
    numbers, same = Numbers(10, 4), Numbers(99, Shuffled(10, 4))
    assert numbers.batch == 4 and numbers.order == same.order
    for step in range(5):
        assert numbers(step) == same(step) == numbers.rows(step, range(3)) + numbers.rows(step, range(3, 4))
    assert sorted(i for step in range(5) for i in numbers(step)) == sorted([*range(10)] * 2)


def test_a_process_asks_for_its_own_rows_alone():
    numbers = Numbers(10, 4)
    assert isinstance(numbers, Sharded) and issubclass(Loader, Rows) and issubclass(LatentBatches, Rows)
    assert own_rows(numbers, 2, 1, 2)[1] == range(2, 4) and numbers.asked == [range(2, 4)]


@pytest.mark.parametrize("rows", [range(5), range(-1, 2), range(2, 2), range(0, 4, 2), range(3, 1)])
def test_other_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"asked for range\(.*\) of a batch of 4; give neighbouring rows inside it"):
        Numbers(10, 4).rows(0, rows)
