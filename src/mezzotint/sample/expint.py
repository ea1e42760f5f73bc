"""The integrals of exponential integrators in half-log-SNR, accurate for every step length.

psi0 = int_0^h e^(u-h) du, psi1 = int_0^h e^(u-h) u du, psi2 = int_0^h e^(u-h) u^2/2 du (arXiv 2211.01095, appendix A).
"""

from __future__ import annotations

import math

__all__ = ["psi0", "psi1", "psi2"]

# Below this the closed forms lose digits to cancellation and the series (error < 1e-22 with 18 terms) is used.
_SMALL = 0.5
_TERMS = 18


def _tail(h: float, first: int) -> float:
    """h^first/first! - h^(first+1)/(first+1)! + ..."""
    term = h**first / math.factorial(first)
    total = 0.0
    for j in range(first + 1, first + 1 + _TERMS):
        total += term
        term *= -h / j
    return total


def psi0(h: float) -> float:
    """1 - e^-h; 1 at h = inf.

    >>> psi0(math.inf)
    1.0
    """
    return -math.expm1(-h)


def psi1(h: float) -> float:
    """h - psi0(h)."""
    return _tail(h, 2) if abs(h) < _SMALL else h - psi0(h)


def psi2(h: float) -> float:
    """h^2/2 - psi1(h)."""
    return _tail(h, 3) if abs(h) < _SMALL else 0.5 * h * h - psi1(h)
