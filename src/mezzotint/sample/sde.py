"""DPM-Solver++ for the reverse SDE: the linear part, and the noise it brings, are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mezzotint.sample.dpmpp import data_moments
from mezzotint.sample.expint import psi0
from mezzotint.sample.multistep import Row
from mezzotint.sample.plan import Node
from mezzotint.sample.polynomial import PolynomialMultistep

__all__ = ["SDEDPMSolverPP"]


@dataclass(frozen=True)
class SDEDPMSolverPP(PolynomialMultistep):
    """x_t = (sigma_t/sigma_s) e^(-eta h) x_s + alpha_t [psi0 m0 + w1 D1 + w2 D2] + sigma_t sqrt(1 - e^(-2 eta h)) z.

    As `DPMSolverPP`, with psi0, w1 and w2 taken at H = (1 + eta) h: order 1 has w1 = w2 = 0; order 2 w1 = psi0/2
    ("midpoint") or psi1/H ("taylor"); order 3 w1 = psi1/H, w2 = psi2/H^2. eta = 0 is DPMSolverPP; order 1 with
    eta = 1 draws from DDPM's posterior. An infinite step forgets its start (eta > 0): from alpha = 0 the state is
    drawn anew, to sigma = 0 it is m0 without noise.

    How it converges (measured: the law on a Gaussian, exactly; paths for the same Brownian path at N, 2N, 4N steps):
    the variance with `weak_order`, the mean with `order` (with the exact denoiser and eta = 1 it is exact at once: D
    is a martingale), a single path with order 1 whatever `order` is, as predictions of earlier nodes know nothing of
    the noise inside a step. Below about 20 steps order 2 is closer in law than order 3.

    Args:
        order, lower_order_final, form, start: see DPMSolverPP.
        third: "exact", or "published" with half of w2, as in k-diffusion's dpmpp_3m_sde (whose second step is
            form="taylor"): there the mean is of second order. The variance is of second order with both: from VP's
            t = 1 to 0.01 the exact one's error is half of the published one's from 40 steps on, to t = 0.1 twice it.
        eta: in [0, 1]: how much noise is drawn anew; 1 is the reverse SDE, 0 the ODE. DDIM's eta is its square root.

    Raises:
        ValueError: for values other than these.

    Source: arXiv 2211.01095, appendix (sde-dpmsolver++, order 2); order 3 in the style of k-diffusion's
    dpmpp_3m_sde, with a factor 2 corrected as in DPMSolverPP.

    >>> import torch; from mezzotint.core import Gaussian, Noise, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> SDEDPMSolverPP(order=2)(d, torch.ones(1, 2), steps=10, noise=Noise([0])).shape
    torch.Size([1, 2])
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(
                f"SDEDPMSolverPP got eta={self.eta}; expected a number in [0, 1]: 0 the ODE, 1 the reverse SDE"
            )

    @property
    def stochastic(self) -> bool:
        """True unless eta = 0."""
        return self.eta > 0

    @property
    def weak_order(self) -> int:
        """The order at which the law of the result converges: at most 2 with noise."""
        return min(self.order, 2) if self.stochastic else self.order

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; alpha_t (1 - e^-H)."""
        return nodes[k + 1].alpha * psi0((1 + self.eta) * (nodes[k + 1].lam - nodes[k].lam))

    def moments(self, h: float) -> tuple[float, float, float]:  # type: ignore[override]  # depends on eta
        """Those of DPMSolverPP at (1 + eta) h."""
        return data_moments((1 + self.eta) * h)

    def carry(self, h: float) -> float:  # type: ignore[override]
        """See PolynomialMultistep.carry: e^-H."""
        return math.exp(-(1 + self.eta) * h)

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        m = tuple(t.alpha * w for w in self.integral(nodes, k))
        if self.eta == 0:
            return Row(t.sigma / s.sigma, m)
        decay = self.eta * (t.lam - s.lam)
        return Row(t.sigma / s.sigma * math.exp(-decay), m, t.sigma * math.sqrt(-math.expm1(-2 * decay)))
