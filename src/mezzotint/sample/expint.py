"""The integrals of exponential integrators in half-log-SNR, accurate for every step length.

psi0 = int_0^h e^(u-h) du, psi1 = int_0^h e^(u-h) u du, psi2 = int_0^h e^(u-h) u^2/2 du (arXiv 2211.01095, appendix A).
"""

from __future__ import annotations

import math

__all__ = ["psi0", "psi1", "psi2"]

# Below this the closed forms lose digits to cancellation and the series (relative error < 1e-18 with 15 terms) is used.
_SMALL = 0.5
# 1/n!, 1/(n + 1)!, ... with alternating signs, highest power first, for n = 2 and 3
_SERIES = {n: tuple((-1) ** j / math.factorial(n + j) for j in reversed(range(15))) for n in (2, 3)}


def _tail(h: float, first: int) -> float:
    """h^first/first! - h^(first+1)/(first+1)! + ..."""
    total = 0.0
    for weight in _SERIES[first]:
        total = total * h + weight
    return total * h**first


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
