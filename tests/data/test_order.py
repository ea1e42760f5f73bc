from __future__ import annotations

import pytest
import torch

from mezzotint.data import indices


def test_every_epoch_is_a_permutation_and_epochs_differ() -> None:
    n, batch = 10, 4  # batches straddle epochs
    flat = torch.cat([indices(3, step, batch, n) for step in range(10)])
    epochs = flat.view(4, n)
    assert torch.equal(epochs.sort(1).values, torch.arange(n).expand(4, n))
    assert len({tuple(row.tolist()) for row in epochs}) == 4


def test_order_depends_on_seed_and_step_alone() -> None:
    late = indices(0, 1000, 7, 23)
    for step in range(5):
        indices(1, step, 7, 23)  # whatever was asked before changes nothing
    assert torch.equal(indices(0, 1000, 7, 23), late)
    assert not torch.equal(indices(1, 1000, 7, 23), late)
    assert torch.equal(torch.cat([indices(0, k, 3, 23) for k in range(4)]), indices(0, 0, 12, 23))


def test_a_batch_may_be_longer_than_the_source() -> None:
    rows = indices(0, 0, 8, 3)
    assert torch.equal(rows[:3].sort().values, torch.arange(3)) and torch.equal(
        rows[3:6].sort().values, torch.arange(3)
    )


def test_golden_order() -> None:
    assert indices(0, 0, 8, 10).tolist() == [9, 5, 0, 7, 8, 6, 3, 4]
    assert indices(7, 3, 4, 10).tolist() == [5, 4, 7, 1]


def test_answer_may_be_written_to_without_changing_the_order() -> None:
    indices(0, 0, 10, 10).zero_()
    assert indices(0, 0, 8, 10).tolist() == [9, 5, 0, 7, 8, 6, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, -1, 4, 9), "step=-1"), ((0, 0, 0, 9), "batch=0"), ((0, 0, 4, 0), "n=0")]
)
def test_bad_arguments(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        indices(*arguments)
