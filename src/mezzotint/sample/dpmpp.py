"""DPM-Solver++, multistep: exact in the linear part, a polynomial of data predictions in half-log-SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mezzotint.sample.expint import psi0, psi1, psi2
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["DPMSolverPP"]

# "auto" lowers the order of the last steps below this number of steps (the official code's test, not its docstring).
_FEW_STEPS = 10


@dataclass(frozen=True)
class DPMSolverPP(Multistep):
    """x_t = (sigma_t/sigma_s) x_s + alpha_t [psi0 m0 + w1 D1 + w2 D2], h = lambda_t - lambda_s.

    m0, m1, m2 are data predictions, newest first; r0, r1 the earlier step lengths over h; psi as in `expint`.
        order 1: w1 = w2 = 0 (DDIM).
        order 2: D1 = (m0 - m1)/r0; w1 = psi0/2 ("midpoint") or psi1/h ("taylor").
        order 3: a = (m0 - m1)/r0, b = (m1 - m2)/r1, D1 = a + r0/(r0 + r1) (a - b), D2 = 2 (a - b)/(r0 + r1),
                 w1 = psi1/h, w2 = psi2/h^2.
    The order rises from 1 as predictions come in: the first step's error is of second order, times dD/dlambda at the
    start, which is next to nothing at high noise (VP's t = 1) and leaves order 3 as measured; on a grid that starts
    at little noise (VE with sigma_max = 20) it shows, and order 3 measures as 2. An infinite step (from alpha = 0, or
    to sigma = 0) is of order 1, by limits: x = m0 at the end; differences across an infinite step are not used.

    Args:
        order: 1, 2 or 3.
        lower_order_final: whether the last steps fall back to orders 2 and 1; "auto" for fewer than 10 steps.
        form: which second-order weight.
        third: "exact" has the factor 2 in D2 (third order); "published" has 1 there, as the official code, diffusers
            and k-diffusion do: it measures as second order and is here to match their pictures.

    Raises:
        ValueError: for values other than these.

    Source: arXiv 2211.01095, section 4 and the official code; the factor 2 is a correction of ours, tested.

    >>> import torch; from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPMSolverPP(order=2)(d, torch.ones(1, 2, dtype=torch.float64), steps=10).dtype
    torch.float64
    """

    order: int = 2  # type: ignore[misc]  # an instance's choice here, a constant of the class elsewhere
    lower_order_final: bool | Literal["auto"] = "auto"
    form: Literal["midpoint", "taylor"] = "midpoint"
    third: Literal["exact", "published"] = "exact"

    def __post_init__(self) -> None:
        if isinstance(self.order, bool) or self.order not in (1, 2, 3):
            raise ValueError(f"DPMSolverPP got order={self.order!r}; expected 1, 2 or 3")
        if self.lower_order_final not in (True, False, "auto"):
            raise ValueError(f"DPMSolverPP got lower_order_final={self.lower_order_final!r}; expected a bool or 'auto'")
        if self.form not in ("midpoint", "taylor"):
            raise ValueError(f"DPMSolverPP got form={self.form!r}; expected 'midpoint' or 'taylor'")
        if self.third not in ("exact", "published"):
            raise ValueError(f"DPMSolverPP got third={self.third!r}; expected 'exact' or 'published'")

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        h = nodes[k + 1].lam - nodes[k].lam
        alpha = nodes[k + 1].alpha
        weights = [psi0(h), 0.0, 0.0]
        order = self._order_at(nodes, k)
        if order >= 2:
            r0 = (nodes[k].lam - nodes[k - 1].lam) / h
        if order == 2:
            w = (0.5 * psi0(h) if self.form == "midpoint" else psi1(h) / h) / r0
            weights = [weights[0] + w, -w, 0.0]
        if order == 3:
            r1 = (nodes[k - 1].lam - nodes[k - 2].lam) / h
            w1 = psi1(h) / h
            w2 = (2 if self.third == "exact" else 1) * psi2(h) / h**2 / (r0 + r1)
            of_a = (w1 * (1 + r0 / (r0 + r1)) + w2) / r0
            of_b = -(w1 * r0 / (r0 + r1) + w2) / r1
            weights = [weights[0] + of_a, of_b - of_a, -of_b]
        return Row(nodes[k + 1].sigma / nodes[k].sigma, tuple(alpha * w for w in weights[: self.order]))

    def _order_at(self, nodes: Sequence[Node], k: int) -> int:
        """The order of step k: what was asked for, less where history, the end or an infinite step forbids."""
        steps = len(nodes) - 1
        lower = steps < _FEW_STEPS if self.lower_order_final == "auto" else self.lower_order_final
        order = min(self.order, k + 1, steps - k if lower else self.order)
        for back in range(order):
            if not math.isfinite(nodes[k + 1 - back].lam - nodes[k - back].lam):
                return max(back, 1)
        return order
