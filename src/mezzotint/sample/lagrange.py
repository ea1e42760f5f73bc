"""Integrals of the polynomial through any number of predictions against e^(u-h), as one weight a prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["exponential_weights", "lagrange", "scaled_moments"]

_SMALL = 0.5  # below this the recursion loses digits to cancellation and the series is used
_TERMS = 18


def scaled_moments(h: float, count: int) -> tuple[float, ...]:
    """M_n = int_0^h e^(u-h) (u/h)^n du = n! psi_n / h^n, n = 0 .. count - 1, for finite h of either sign.

    M_n = 1 - n M_(n-1) / h, or near h = 0 the series M_n = sum_(j >= 1) (-1)^(j-1) h^j n!/(n+j)!.

    >>> round(scaled_moments(1e-9, 2)[1] / 1e-9, 6)
    0.5
    """
    if abs(h) < _SMALL:
        return tuple(_series(h, n) for n in range(count))
    moments = [-math.expm1(-h)]
    for n in range(1, count):
        moments.append(1.0 - n * moments[-1] / h)
    return tuple(moments)


def _series(h: float, n: int) -> float:
    total = 0.0
    for j in reversed(range(_TERMS)):  # 1/(n+1) (1 - h/(n+2) (1 - h/(n+3) (...)))
        total = (1.0 - h * total) / (n + 1 + j)
    return h * total


def lagrange(moments: Sequence[float], nodes: Sequence[float]) -> tuple[float, ...]:
    """The weights of f at the nodes in sum_n c_n M_n, f ~ sum_n c_n v^n the polynomial through these values.

    Args:
        moments: M_0, M_1, ..., one a node at least.
        nodes: distinct offsets, in units of the step: 0 its start, 1 its end, negative for history.

    >>> lagrange((1.0, 0.5, 1 / 3), (0.0, 1.0))
    (0.5, 0.5)
    """
    weights = []
    for i, own in enumerate(nodes):
        powers, scale = [1.0], 1.0  # the coefficients of prod_j (v - u_j), lowest first
        for j, other in enumerate(nodes):
            if i != j:
                powers = [low - other * high for low, high in zip([0.0, *powers], [*powers, 0.0])]
                scale *= own - other
        weights.append(sum(c * m for c, m in zip(powers, moments)) / scale)
    return tuple(weights)


def exponential_weights(h: float, nodes: Sequence[float]) -> tuple[float, ...]:
    """The weights of f at lambda_s + h v_i in int_0^h e^(u-h) f du (arXiv 2204.13902, equation 15, in lambda)."""
    return lagrange(scaled_moments(h, len(nodes)), nodes)
