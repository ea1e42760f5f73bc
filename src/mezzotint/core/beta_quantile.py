"""The quantile function of the beta distribution, so that a time grid needs no statistics library."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["beta_quantile"]

_TINY = 1e-300
_HALVINGS, _FRACTIONS = 60, 200


def beta_quantile(p: np.ndarray, a: float, b: float) -> np.ndarray:
    """x with I_x(a, b) = p, the regularised incomplete beta function, by halving [0, 1/2] from whichever end is near.

    Args:
        p: probabilities in [0, 1].
        a, b: shapes, finite and > 0.

    Raises:
        ValueError: for values outside these.

    Source: DLMF 8.17.22 (continued fraction).

    >>> beta_quantile(np.array([0.0, 0.5, 1.0]), 0.6, 0.6).tolist()
    [0.0, 0.5, 1.0]
    """
    if not (0 < a < math.inf and 0 < b < math.inf):
        raise ValueError(f"the beta distribution got shapes a={a}, b={b}; expected finite numbers > 0")
    p = np.asarray(p, dtype=np.float64)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("the beta distribution got probabilities outside [0, 1]")
    middle = float(_cumulative(np.array([0.5]), a, b)[0])
    low, high = p <= middle, p > middle
    x = np.empty_like(p)
    x[low] = _halved(p[low], a, b)
    x[high] = 1.0 - _halved(1.0 - p[high], b, a)
    return x


def _halved(p: np.ndarray, a: float, b: float) -> np.ndarray:
    """Quantiles up to 1/2, as x = y^2 with y by halving: digits where x is small."""
    left, right = np.zeros_like(p), np.full_like(p, math.sqrt(0.5))
    for _ in range(_HALVINGS):
        y = 0.5 * (left + right)
        below = _cumulative(y * y, a, b) < p
        left, right = np.where(below, y, left), np.where(below, right, y)
    x = (0.5 * (left + right)) ** 2
    x[p == 0] = 0.0
    # a quantile within rounding of the middle is the middle: symmetric shapes have it exactly
    return np.where(np.abs(x - 0.5) < 1e-15, 0.5, x)


def _cumulative(x: np.ndarray, a: float, b: float) -> np.ndarray:
    """I_x(a, b) for x in [0, 1/2], by Lentz's method."""
    front = x**a * (1 - x) ** b / a * math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    c, d = np.ones_like(x), 1 / _clear(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _FRACTIONS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _clear(1 + step * d)
            c = _clear(1 + step / c)
            value = value * (c * d)
        if bool((np.abs(c * d - 1) < 1e-15).all()):
            break
    return front * value


def _clear(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < _TINY, _TINY, x)
