"""One transition of DPM-Solver-v3 as weights: of the state, of each stored prediction, and a constant.

Every integral is a trapezoid on the statistics' own grid, taken over the transition alone and with the exponents
relative to its ends: the largest exponential is near 1, which is what a log-sum-exp shift is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.sample.ems import EMS

__all__ = ["Transition", "transition"]

_KEPT = 512  # transitions remembered by one EMS


@dataclass(frozen=True)
class Transition:
    """y_t = a y_s + sum_j w_j F_j + const with y = x / alpha; every tensor has the shape of a sample, float64."""

    a: Tensor
    w: tuple[Tensor, ...]
    const: Tensor


def transition(ems: EMS, source: int, target: int, others: Sequence[int] = (), pseudo: bool = False) -> Transition:
    """The update from one node of the grid to a later one, of order 1 + len(others).

    With kernel K(lam) = exp(-int_lam^t l + int_s^lam s) (that is A E of the paper):
        y_t = A y_s - int K B - sum_k (int K (lam - lam_s)^k / k!) g^(k),
    where g_i = exp(-int_s^i s) f_i - B_i, B_i = int_s^i exp(-int_s^r s) b_r dr, and the derivatives g^(k) come from a
    polynomial through (lam_s, g_s) and the other points: all of them ("true"), or the first k for the k-th one
    ("pseudo"). What is stored is F = -f = x0 - (1 - l) x / alpha, the data prediction itself where l = 1.

    Args:
        ems: the statistics.
        source, target: indices of the grid, source < target.
        others: indices of further points, nearest first, earlier ones or the target itself.
        pseudo: which derivatives.

    Returns:
        Weights w in the order (source, *others).

    Source: arXiv 2310.13268, equations 11 to 14 and appendix C.1.2.
    """
    key = (source, target, tuple(others), pseudo)
    if key not in ems._memo:
        if len(ems._memo) >= _KEPT:
            ems._memo.clear()
        ems._memo[key] = _transition(ems, source, target, tuple(others), pseudo)
    return ems._memo[key]


def _transition(ems: EMS, source: int, target: int, others: tuple[int, ...], pseudo: bool) -> Transition:
    rows = slice(source, target + 1)
    lam = ems.lam[rows]
    linear, scale = _running(lam, _wide(ems.l, rows)), _running(lam, _wide(ems.s, rows))
    kernel = (linear - linear[-1] + scale).exp()
    bias = _running(lam, (-scale).exp() * _wide(ems.b, rows))
    a, const = (-linear[-1]).exp(), -_total(lam, kernel * bias)
    delta = [0.0, *((ems.lam[i] - ems.lam[source]).item() for i in others)]
    offset = (lam - lam[0]).view(-1, *[1] * (kernel.ndim - 1))
    moments = [_total(lam, kernel * offset**k) for k in range(len(delta))]
    weights = []
    for j, of_powers in enumerate(_polynomial(delta, pseudo)):
        of_g = sum((c * moments[k] for k, c in enumerate(of_powers) if c), torch.zeros_like(a))
        growth, shift = (torch.ones_like(a), torch.zeros_like(a)) if j == 0 else relative(ems, source, others[j - 1])
        weights.append(of_g * growth)
        const = const + of_g * shift
    return Transition(a, tuple(weights), const)


def relative(ems: EMS, source: int, other: int) -> tuple[Tensor, Tensor]:
    """exp(-int_s^i s) and B_i = int_s^i exp(-int_s^r s) b_r dr, for a node before or after the source."""
    first, last = sorted((source, other))
    rows = slice(first, last + 1)
    lam = ems.lam[rows]
    scale = _running(lam, _wide(ems.s, rows))
    if other < source:
        scale = scale - scale[-1]
    bias = _total(lam, (-scale).exp() * _wide(ems.b, rows))
    return ((-scale[-1]).exp(), bias) if other > source else ((-scale[0]).exp(), -bias)


def _polynomial(delta: Sequence[float], pseudo: bool) -> list[list[float]]:
    """c[j][k]: how much value j adds to the coefficient of delta^k; delta[0] = 0 is the source."""
    n = len(delta)
    nodes = torch.tensor(delta, dtype=torch.float64)
    if not pseudo:
        return torch.linalg.inv(nodes[:, None] ** torch.arange(n)).T.tolist()
    # the k-th coefficient is the divided difference over the first k + 1 nodes: sum_j g_j / prod_(m != j) (d_j - d_m)
    table = [[0.0] * n for _ in delta]
    for k in range(n):
        for j in range(k + 1):
            gaps = [delta[j] - delta[m] for m in range(k + 1) if m != j]
            table[j][k] = 1 / float(torch.tensor([1.0, *gaps], dtype=torch.float64).prod())
    return table


def _wide(values: Tensor, rows: slice) -> Tensor:
    return values[rows].to("cpu", torch.float64)


def _running(lam: Tensor, values: Tensor) -> Tensor:
    """The trapezoidal integral from the first node to each, (n, *s)."""
    return torch.cat([torch.zeros_like(values[:1]), torch.cumulative_trapezoid(values, lam, dim=0)])


def _total(lam: Tensor, values: Tensor) -> Tensor:
    return torch.trapezoid(values, lam, dim=0)
