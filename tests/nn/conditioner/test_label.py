from __future__ import annotations

import numpy as np
import pytest
import torch

from mezzotint.nn.conditioner import ClassConditioner


def test_labels_pass_and_null_is_the_index_beyond_the_classes() -> None:
    conditioner = ClassConditioner(5)
    c = conditioner(conditioner.prepare([0, np.int64(4), torch.tensor(2), None]))
    assert c["label"].dtype == torch.int64 and c["label"].tolist() == [0, 4, 2, 5]
    assert c.null()["label"].tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("label", [5, -1, 1.0, "cat", True, torch.tensor([1, 2])])
def test_labels_out_of_range_or_of_another_type_are_refused(label) -> None:
    with pytest.raises(ValueError, match="from 0 to 4"):
        ClassConditioner(5).prepare([1, label])


def test_no_labels_and_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ClassConditioner(5).prepare([])
    with pytest.raises(ValueError, match="at least 1"):
        ClassConditioner(0)
