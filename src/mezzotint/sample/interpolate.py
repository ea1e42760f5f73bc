"""Integrals of the polynomial through a few predictions, as one weight a prediction."""

from __future__ import annotations

__all__ = ["through"]


def through(moments: tuple[float, float, float], *u: float) -> tuple[float, ...]:
    """The weights of f(0), f(u1), f(u2) in w0 f(0) + w1 f'(0) + w2 f''(0), f the polynomial through these values.

    One value: f is constant. Two: f' = (f1 - f0)/u1. Three: f is a parabola, so its second derivative is twice the
    divided difference. Offsets in units of the step: negative for history, in (0, 1) for inner nodes.

    Args:
        moments: w0, w1, w2; those of higher order than the polynomial are not used.
        u: none, one or two offsets, distinct and not 0.

    >>> through((1.0, 1.0, 1.0), -1.0)
    (2.0, -1.0)
    """
    w0, w1, w2 = moments
    if not u:
        return (w0,)
    if len(u) == 1:
        b1 = w1 / u[0]
        return w0 - b1, b1
    u1, u2 = u
    # f'(0) and f''(0) of Lagrange's polynomials: one at u1 (or u2), zero at the others
    b1 = (2 * w2 - u2 * w1) / (u1 * (u1 - u2))
    b2 = (2 * w2 - u1 * w1) / (u2 * (u2 - u1))
    return w0 - b1 - b2, b1, b2
