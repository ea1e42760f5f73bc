"""Condition: rows, nulls and what is refused."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Condition

LABEL, IMAGE = torch.tensor([3, 5, 7]), torch.arange(6.0).view(3, 2)
C = Condition({"label": LABEL, "concat": IMAGE}, null={"label": torch.tensor([9])})


def test_null_and_drop_leave_what_has_no_null():
    null, dropped = C.null(), C.drop(torch.tensor([False, True, False]))
    assert null["label"].tolist() == [9, 9, 9] and dropped["label"].tolist() == [3, 9, 7]
    assert torch.equal(null["concat"], IMAGE) and torch.equal(dropped["concat"], IMAGE)
    assert C["label"].tolist() == [3, 5, 7]  # the condition itself is not touched
    assert null.null()["label"].tolist() == [9, 9, 9]


def test_rows_repeat_and_cat_keep_keys_together_and_their_nulls():
    assert C.repeat(2)["label"].tolist() == [3, 3, 5, 5, 7, 7]
    assert C.repeat(2)["concat"][:, 0].tolist() == [0, 0, 2, 2, 4, 4]
    for index in ([2, 0], torch.tensor([2, 0])):
        assert C.rows(index)["label"].tolist() == [7, 3] and C.rows(index)["concat"][:, 0].tolist() == [4, 0]
    assert C.rows(slice(1, 3)).batch == 2
    both = Condition.cat([C.null(), C])
    assert both["label"].tolist() == [9, 9, 9, 3, 5, 7] and both.batch == 6
    for made in (C.repeat(2), C.rows([0]), both):
        assert made.null()["label"].unique().tolist() == [9]


def test_updated_without_and_to():
    new = C.updated({"label": LABEL.float()})
    assert "label" not in new.null_rows and "label" in C.null_rows  # an old null does not fit a new value
    assert list(C.without("label")) == ["concat"] and not C.without("label").null_rows
    moved = C.to(dtype=torch.float64)
    assert (
        moved["concat"].dtype == torch.float64 and moved["label"].dtype == moved.null_rows["label"].dtype == LABEL.dtype
    )
    assert Condition({}).batch == 0 and len(Condition({})) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Condition({"a": torch.zeros(2), "b": torch.zeros(3)}), "batch sizes"),
        (lambda: Condition({"a": torch.tensor(1.0)}), "batch-first"),
        (lambda: Condition({"a": torch.zeros(2)}, {"b": torch.zeros(1)}), "no key"),
        (lambda: Condition({"a": torch.zeros(2, 3)}, {"a": torch.zeros(1, 4)}), r"\(1, 4\)"),
        (lambda: Condition.cat([]), "no condition"),
        (lambda: Condition.cat([C, C.without("label")]), "keys"),
    ],
)
def test_wrong_conditions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mask", [torch.tensor([True]), torch.tensor([0, 1, 0])])
def test_a_mask_is_one_bool_a_row(mask):
    with pytest.raises(ValueError, match="drop got a mask"):
        C.drop(mask)
