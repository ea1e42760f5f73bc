"""DPM-Solver++, multistep: exact in the linear part, a polynomial of data predictions in half-log-SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mezzotint.sample.expint import psi0, psi1, psi2
from mezzotint.sample.multistep import Row
from mezzotint.sample.plan import Node
from mezzotint.sample.polynomial import PolynomialMultistep

__all__ = ["DPMSolverPP"]


@dataclass(frozen=True)
class DPMSolverPP(PolynomialMultistep):
    """x_t = (sigma_t/sigma_s) x_s + alpha_t [psi0 m0 + w1 D1 + w2 D2], h = lambda_t - lambda_s.

    m0, m1, m2 are data predictions, newest first; r0, r1 the earlier step lengths over h; psi as in `expint`.
        order 1: w1 = w2 = 0 (DDIM).
        order 2: D1 = (m0 - m1)/r0; w1 = psi0/2 ("midpoint") or psi1/h ("taylor").
        order 3: a = (m0 - m1)/r0, b = (m1 - m2)/r1, D1 = a + r0/(r0 + r1) (a - b), D2 = 2 (a - b)/(r0 + r1),
                 w1 = psi1/h, w2 = psi2/h^2.
    The order rises from 1 as predictions come in: the first step's error is of second order, times dD/dlambda at the
    start, which is next to nothing at high noise (VP's t = 1) and leaves order 3 as measured; on a grid that starts
    at little noise (VE with sigma_max = 20) it shows, and order 3 measures as 2 unless the second step makes up for it,
    as it does by default. An infinite step (from alpha = 0, or to sigma = 0) is of order 1, by limits: x = m0 at the
    end; differences across an infinite step are not used.

    Args:
        order: 1, 2 or 3.
        lower_order_final: whether the last steps fall back to orders 2 and 1: True, False, a number of steps below
            which they do (diffusers: 15), or "auto" for below 10 (the official code).
        form: which second-order weight.
        third: "exact" has the factor 2 in D2 (third order); "published" has 1 there, as the official code, diffusers
            and k-diffusion do: it measures as second order and is here to match their pictures.
        start: "plain", or "corrected": the second step also adds e^-h psi1(h_0)/h_0 (m0 - m1), the term of second order
            that the first step of length h_0 lacked, at no evaluation (our choice, in the style of UniPC's corrector).
            "auto" is "corrected" for order 3 with third="exact", else "plain", as in the paper and other libraries.
            At few steps the two differ little, either way.

    Raises:
        ValueError: for values other than these.

    Source: arXiv 2211.01095, section 4 and the official code; the factor 2 is a correction of ours, tested.

    >>> import torch; from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPMSolverPP(order=2)(d, torch.ones(1, 2, dtype=torch.float64), steps=10).dtype
    torch.float64
    """

    @staticmethod
    def moments(h: float) -> tuple[float, float, float]:
        """Those of e^(u-h), as m0 is weighed with alpha_t: psi0, psi1/h, psi2/h^2 (0 for an infinite step's last)."""
        return data_moments(h)

    @staticmethod
    def carry(h: float) -> float:
        """(sigma_t/sigma_s) (alpha_s/alpha_t) = e^-h."""
        return math.exp(-h)

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        return Row(t.sigma / s.sigma, tuple(t.alpha * w for w in self.integral(nodes, k)))


def data_moments(h: float) -> tuple[float, float, float]:
    """psi0, psi1/h, psi2/h^2: the weights of f, h f', h^2 f'' in int_0^h e^(u-h) f(u) du; at h = inf only the first.

    >>> data_moments(math.inf)
    (1.0, 0.0, 0.0)
    """
    return (psi0(h), psi1(h) / h, psi2(h) / h**2) if math.isfinite(h) else (psi0(h), 0.0, 0.0)
