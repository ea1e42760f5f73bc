from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition
from mezzotint.objective import Batch
from mezzotint.train.share import own_rows, rows_of


def _whole(step: int) -> Batch:
    x = torch.arange(24.0).view(6, 4) + step
    return Batch(x, Condition({"label": torch.arange(6)}, null={"label": torch.tensor([9])}))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_processes_shares_are_the_whole_batch_in_order(world):
    shares = [own_rows(_whole, 5, rank, world) for rank in range(world)]
    assert [i for _, rows in shares for i in rows] == list(range(6))
    assert torch.equal(torch.cat([part.x for part, _ in shares]), _whole(5).x)
    assert torch.cat([part.c["label"] for part, _ in shares]).tolist() == list(range(6))
    assert all(part.c.null_rows["label"].tolist() == [9] for part, _ in shares)


class _Asked:
    batch = 6

    def __init__(self) -> None:
        self.asked: list[range] = []

    def __call__(self, step: int) -> Batch:
        raise AssertionError("the whole batch was made where a part was enough")

    def rows(self, step: int, rows: range) -> Batch:
        self.asked.append(rows)
        return rows_of(_whole(step), rows)


def test_sharded_batches_make_only_the_rows_asked_for():
    batches = _Asked()
    part, rows = own_rows(batches, 2, 1, 3)
    assert batches.asked == [rows] == [range(2, 4)] and torch.equal(part.x, _whole(2).x[2:4])


def test_an_uneven_share_is_refused_with_a_size_that_fits():
    with pytest.raises(ValueError, match="batch of 6 samples cannot be shared evenly among 4 .* such as 4"):
        own_rows(_whole, 0, 0, 4)


def test_rows_of_takes_nested_values_apart_and_leaves_the_rest():
    nested = {"a": [torch.arange(4), (torch.arange(4), 3)], "b": None, "scalar": torch.tensor(7)}
    part = rows_of(nested, range(1, 3))
    assert part["a"][0].tolist() == part["a"][1][0].tolist() == [1, 2]
    assert part["a"][1][1] == 3 and part["b"] is None and part["scalar"] == 7
