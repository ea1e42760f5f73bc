from __future__ import annotations

import pytest
import torch

from mezzotint.metric import ranks, retrieval


def test_ranks_by_hand() -> None:
    gallery = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    queries = torch.tensor([[0.0, 5.0], [1.0, 0.1], [0.9, 0.1]])  # lengths do not matter
    assert ranks(queries, gallery).tolist() == [2, 1, 2]
    assert ranks(queries, gallery, torch.tensor([2, 0, 1])).tolist() == [0, 0, 1]
    assert retrieval(queries, gallery, ks=(1, 2, 3)) == {1: 0.0, 2: 1 / 3, 3: 1.0}


def test_features_that_say_nothing_find_nothing() -> None:
    same = torch.ones(50, 8)
    assert retrieval(same, same) == {1: 0.0, 5: 0.0}
    assert retrieval(torch.zeros(50, 8), same) == {1: 0.0, 5: 0.0}


def test_chance_is_k_over_m() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(4000, 6, generator=generator), torch.randn(50, 6, generator=generator)
    found = retrieval(queries, gallery, torch.arange(4000) % 50, ks=(1, 5, 50))
    assert abs(found[1] - 0.02) < 0.01 and abs(found[5] - 0.1) < 0.02 and found[50] == 1


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    a = torch.eye(3)
    for arguments, message in [
        ((a, torch.eye(4)), r"\(3, 3\) and \(4, 4\)"),
        ((a[:2], a), "give `targets`"),
        ((a, a, torch.tensor([0, 1, 3])), "0 to 2"),
        ((a * torch.nan, a), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            ranks(*arguments)
    with pytest.raises(ValueError, match="ks"):
        retrieval(a, a, ks=(0,))
