"""Total variation: solutions that are known, and the condition that every solution meets."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore import total_variation
from mezzotint.restore.operators import Clip, Fourier, Identity, Matrix, cartesian_mask
from mezzotint.restore.total_variation import _divergence, _slopes

F64 = torch.float64


def test_slopes_and_divergence_are_adjoint():
    x, q = Noise([0])("x", 0, (1, 5, 7), dtype=F64), Noise([0, 1])("q", 0, (1, 1, 5, 7), dtype=F64)
    assert float((_slopes(x) * q).sum()) == pytest.approx(-float((x * _divergence(q)).sum()), abs=1e-12)


def test_a_step_loses_its_known_share():
    """Two plateaus of a and b pixels side by side move towards each other by weight / a and weight / b."""
    x = torch.zeros(1, 1, 1, 10, dtype=F64)
    x[..., 4:] = 1.0
    got = total_variation(Identity(), x, 0.6, steps=4000)
    want = torch.where(x > 0, 1 - 0.6 / 6, torch.full_like(x, 0.6 / 4))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    assert torch.allclose(total_variation(Identity(), x, 0.0, steps=500), x, atol=1e-6)


def test_it_is_the_least_of_its_neighbours():
    x = torch.zeros(1, 1, 16, 16, dtype=F64)
    x[..., 5:11, 4:12] = 1.0
    operator = Fourier(cartesian_mask(16, 2, Noise([0])), real=True)
    y = operator(x) + 0.02 * operator.keep(Noise([1])("n", 0, (2, 16, 16), dtype=F64))

    def cost(z):
        return 0.5 * (operator(z) - y).square().sum() + 0.05 * _slopes(z).square().sum(0).sqrt().sum()

    got = total_variation(operator, y, 0.05, steps=1500)
    for k in range(20):
        assert float(cost(got)) < float(cost(got + 0.02 * Noise([k])("z", 0, (1, 16, 16), dtype=F64)))
    zero_filled = operator.guess(y)
    assert float((got - x).norm()) < 0.5 * float((zero_filled - x).norm())
    assert float(total_variation(operator, y, 0.05, steps=20, low=0.0, high=0.5).max()) <= 0.5


def test_wrong_calls_say_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match="needs a linear operator"):
        total_variation(Clip(), torch.zeros(1, 1, 2, 2), 0.1)
    with pytest.raises(ValueError, match="weight=-1"):
        total_variation(Identity(), torch.zeros(1, 1, 2, 2), -1.0)
    with pytest.raises(ValueError, match="works on images"):
        total_variation(Matrix(torch.eye(2)), torch.zeros(1, 2), 0.1)


def test_a_row_is_the_same_alone_and_beside_others():
    """Steps that are not yet at the end show it: their size is each row's own."""
    x = Noise([3, 4, 5])("x", 0, (1, 8, 8), dtype=F64)
    dense = Matrix(Noise([6])("a", 0, (20, 64), dtype=F64)[0], (1, 8, 8))
    y = dense(x) * torch.tensor([1.0, 10.0, 0.1], dtype=F64)[:, None]
    together = total_variation(dense, y, 0.1, steps=20)
    alone = torch.cat([total_variation(dense, row[None], 0.1, steps=20) for row in y])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
