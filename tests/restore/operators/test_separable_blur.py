"""A separable blur is the mirrored blur, cut; its closed inverses are those of its matrix."""

from __future__ import annotations

import pytest
import torch

from mezzotint.restore.operators import Crop, ReflectBlur, SeparableBlur, motion_kernel, split_kernel

X = torch.randn(2, 3, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LINES = (torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).double())


@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (1, 0, 2, 3)])
def test_it_is_the_mirrored_blur_cut(margins):
    """With a column that is not symmetric, so that a correlation would differ."""
    top, bottom, left, right = margins
    wanted = ReflectBlur(LINES[0][:, None] * LINES[1])(X)[..., top : 12 - bottom, left : 16 - right]
    torch.testing.assert_close(SeparableBlur(*LINES, margins=margins)(X), wanted, rtol=0, atol=1e-13)


def test_adjoint_and_solve_are_those_of_the_composition():
    own = SeparableBlur(*LINES, margins=(1, 1, 2, 0))
    other = Crop(1, 2, 10, 14, size=(12, 16)) @ ReflectBlur(LINES[0][:, None] * LINES[1])
    y = other(X)
    assert float((own(X) * y).sum()) == pytest.approx(float((X * own.adjoint(y)).sum()), rel=1e-12)
    torch.testing.assert_close(own.adjoint(y), other.adjoint(y), rtol=0, atol=1e-12)
    torch.testing.assert_close(own.solve(y, 2.0, 0.1), other.solve(y, 2.0, 0.1), rtol=0, atol=1e-9)


def test_the_pseudo_inverse_explains_what_was_measured():
    own = SeparableBlur(*LINES, margins=(1, 1, 2, 2))
    y = own(X)
    torch.testing.assert_close(own(own.pinv(y)), y, rtol=0, atol=1e-10)


def test_what_a_strong_blur_hides_is_not_blown_up():
    """Rounding to 8 bits stays within a factor of 1000 in the pseudo-inverse."""
    own = SeparableBlur(*split_kernel(ReflectBlur.gaussian(1.5).kernel), margins=(5, 5, 5, 5))
    x = X[:1].repeat(1, 1, 2, 2)
    rounding = torch.rand(1, 3, 14, 22, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 127.5
    assert float((own.pinv(own(x) + rounding) - own.pinv(own(x))).norm()) <= 1000 * float(rounding.norm())


def test_which_kernels_are_separable():
    column, row = split_kernel(ReflectBlur.gaussian(2.0).kernel)
    torch.testing.assert_close(column[:, None] * row, ReflectBlur.gaussian(2.0).kernel.double(), rtol=0, atol=1e-8)
    assert split_kernel(motion_kernel(9, 30)) is None and split_kernel(motion_kernel(5, 0)) is not None


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match="odd numbers"):
        SeparableBlur(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="each >= 0"):
        SeparableBlur(torch.ones(3), torch.ones(3), margins=(0, -1, 0, 0))
    with pytest.raises(ValueError, match="smaller kernel or a larger image"):
        SeparableBlur(torch.ones(5), torch.ones(3))(torch.zeros(1, 1, 4, 8))
