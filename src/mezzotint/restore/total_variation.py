"""Reconstruction by total variation: what was best before learned priors, and still the baseline."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators import LinearOperator
from mezzotint.restore.operators.krylov import rows_dot

__all__ = ["total_variation"]


@torch.no_grad()
def total_variation(
    operator: LinearOperator,
    y: Float[Tensor, "b *m"],
    weight: float,
    *,
    steps: int = 300,
    low: float = -math.inf,
    high: float = math.inf,
) -> Float[Tensor, "b c h w"]:
    """argmin_x |y - A x|^2 / 2 + weight sum_p |(Dx)_p|, low <= x <= high; Dx: differences to the right and below.

    Primal-dual steps, both terms dual, of equal sizes 0.99 / L with L^2 = |A|^2 + 8.

    Args:
        operator: A; its guess is where x starts.
        y: (b, *m).
        weight: >= 0; of the order of the measurement's std.
        steps: >= 1.
        low, high: bounds of x, such as -1 and 1 for images.

    Raises:
        ValueError: for an operator that is not linear, a weight or steps outside these ranges, or guesses that are no
            images.

    Source: Chambolle and Pock 2011, algorithm 1; Rudin, Osher and Fatemi 1992.

    >>> from mezzotint.restore.operators import Identity
    >>> total_variation(Identity(), torch.tensor([[[[0.0, 1.0]]]]), 0.25)[0, 0, 0].round(decimals=3).tolist()
    [0.25, 0.75]
    """
    if not isinstance(operator, LinearOperator):
        raise ValueError(f"total_variation needs a linear operator; {type(operator).__name__} is none")
    if not 0 <= weight < math.inf or steps < 1 or not low < high:
        raise ValueError(f"total_variation got weight={weight}, steps={steps}, [{low}, {high}]; expected >= 0, >= 1")
    x = operator.guess(y)
    if x.ndim != 4:
        raise ValueError(f"total_variation works on images (b, c, h, w); this operator's are {tuple(x.shape)}")
    x = x.clamp(low, high)
    size = 0.99 / (_largest(operator, x) + 8).sqrt()
    of_y = size.reshape(-1, *[1] * (y.ndim - 1))
    ahead, p, q = x, torch.zeros_like(y), torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)
    for _ in range(steps):
        p = (p + of_y * (operator(ahead) - y)) / (1 + of_y)
        q = q + size * _slopes(ahead)
        q = q * (weight / q.square().sum(0).sqrt().clamp_min(max(weight, 1e-30)))
        after = (x - size * (operator.adjoint(p) - _divergence(q))).clamp(low, high)
        ahead, x = 2 * after - x, after
    return x


def _largest(operator: LinearOperator, x: Tensor) -> Tensor:
    """|A|^2 of each row, (b, 1, 1, 1), a little above, by power iteration from the same start."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape[1:], generator=generator, dtype=x.dtype).to(x.device).expand_as(x)
    for _ in range(30):
        v = operator.adjoint(operator(v / rows_dot(v, v).sqrt().clamp_min(1e-30)))
    return 1.05 * rows_dot(v, v).sqrt()


def _slopes(x: Tensor) -> Tensor:
    """(2, b, c, h, w); 0 at the last row and column."""
    out = torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)
    out[0, ..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    out[1, ..., :, :-1] = x[..., :, 1:] - x[..., :, :-1]
    return out


def _divergence(q: Tensor) -> Tensor:
    """Minus the adjoint of `_slopes`."""
    down, right = q[0].clone(), q[1].clone()
    down[..., -1, :] = 0
    right[..., :, -1] = 0
    down[..., 1:, :] -= q[0][..., :-1, :]
    right[..., :, 1:] -= q[1][..., :, :-1]
    return down + right
