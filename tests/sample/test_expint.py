"""The exponential integrals against their definition in exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from mezzotint.sample.expint import psi0, psi1, psi2


def series(h: float, first: int) -> float:
    """sum_{j >= first} (-1)^(j - first) h^j / j!, exactly, then rounded once."""
    x, total = Fraction(h), Fraction(0)
    for j in range(first, 90):
        total += (-1) ** (j - first) * x**j / math.factorial(j)
    return float(total)


@pytest.mark.parametrize("h", [1e-9, 1e-4, 0.02, 0.4999, 0.5, 0.7, 3.0, 12.0, -1e-3, -0.3, -0.6, -4.0])
def test_against_the_series(h: float) -> None:
    for function, first in ((psi0, 1), (psi1, 2), (psi2, 3)):
        assert function(h) == pytest.approx(series(h, first), rel=2e-14)


def test_limits() -> None:
    assert psi0(math.inf) == 1.0 and psi0(0.0) == psi1(0.0) == psi2(0.0) == 0.0
