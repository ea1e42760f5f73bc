"""Measurements that an operator cannot have made."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore import Problem
from mezzotint.restore.fit import check_fit
from mezzotint.restore.operators import JPEG, AveragePool, Clip, Identity, LowLight, Mask, Operator, Quantise, Resize

MASK = Mask(torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1]]).repeat(2, 1))


class Linear(Operator):
    """Not bounded, and not known to be linear."""

    def forward(self, x):
        return x

    def guess(self, y):
        return y


@pytest.mark.parametrize(
    "operator",
    [
        Clip(),
        Clip() @ MASK,
        Clip() @ Linear(),
        Quantise(3) @ AveragePool(2),
        LowLight() @ (MASK @ Identity()),
        JPEG(30),
    ],
    ids=["clip", "clip of mask", "clip of any", "levels of means", "light of masks", "jpeg"],
)
def test_the_range_is_that_of_the_last_operator(operator):
    y = operator(torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    check_fit(Problem.of(operator, y, Noise([0])))
    with pytest.raises(ValueError, match=r"the measurement lies in .* but .* measures in \[-1, 1\]"):
        check_fit(Problem.of(operator, 127.5 * (y + 1) + 10, Noise([0])))


def test_an_operator_over_a_bounded_one_has_no_range_of_its_own():
    operator = MASK @ Clip()
    assert operator.value_range is None
    check_fit(Problem.of(operator, operator(torch.rand(1, 1, 4, 4)), Noise([0])))


def test_a_noise_without_a_square_is_refused():
    for std in (1e200, float("inf"), float("nan"), -1.0):
        with pytest.raises(ValueError, match="expected a number >= 0 and below"):
            Problem.of(MASK, torch.zeros(1, 1, 4, 4), Noise([0]), std)


def test_what_a_factor_asks_of_a_size_can_be_done():
    with pytest.raises(ValueError, match="1/1000"):
        Resize(1e-9)
    with pytest.raises(ValueError, match="height 8, which it does not divide; pad to 16"):
        Resize(16)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="width 8, which it does not divide; crop to 6 or pad to 9"):
        Resize(3)(torch.zeros(1, 1, 9, 8))
