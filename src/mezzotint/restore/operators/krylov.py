"""Conjugate gradients: linear systems of which only the product is known, one system a sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["conjugate_gradients", "rows_dot"]


def rows_dot(a: Float[Tensor, "b *s"], b: Float[Tensor, "b *s"]) -> Float[Tensor, "b *ones"]:
    """The inner product of each row, shaped to be multiplied with it: (b, 1, ...)."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Float[Tensor, "b *s"],
    *,
    steps: int = 500,
    tolerance: float | None = None,
    on_step: Callable[[Tensor], None] | None = None,
) -> Float[Tensor, "b *s"]:
    """Solve M x = b for a symmetric positive semi-definite M, each row by itself, from x = 0.

    With a singular M and b in its range the result is the solution of least norm.

    Args:
        apply: x -> M x for a batch; rows must not mix.
        b: (b, *s).
        steps: at most so many products.
        tolerance: of |b - M x| / |b|, where a row stops; None takes 1e-12 in float64 and 1e-6 else.
        on_step: told after each product what x gets of the vector it was made of, (b, 1, ...): whoever keeps another
            linear image of that vector has the image of x without a product more.

    Returns:
        x, (b, *s).

    Raises:
        ValueError: for steps < 1.

    Source: Hestenes and Stiefel, 1952.

    >>> m = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradients(lambda x: x @ m, torch.tensor([[3.0, 4.0]])).round(decimals=4).tolist()
    [[1.0, 1.0]]
    """
    if steps < 1:
        raise ValueError(f"conjugate gradients got steps={steps}; expected at least 1")
    if tolerance is None:
        tolerance = 1e-12 if b.dtype == torch.float64 else 1e-6
    x = torch.zeros_like(b)
    r, p = b, b
    rr = rows_dot(r, r)
    least = rr * tolerance**2
    for _ in range(steps):
        open_rows = rr > least
        if not bool(open_rows.any()):
            break
        mp = apply(p)
        curvature = rows_dot(p, mp)
        moving = open_rows & (curvature > 0)  # 0: a direction that M does not see
        rate = torch.where(moving, rr / curvature.where(moving, torch.ones_like(rr)), torch.zeros_like(rr))
        x = x + rate * p
        if on_step is not None:
            on_step(rate)
        r = r - rate * mp
        after = rows_dot(r, r)
        p = r + torch.where(moving, after / rr.where(moving, torch.ones_like(rr)), torch.zeros_like(rr)) * p
        rr = torch.where(moving, after, torch.zeros_like(rr))
    return x
