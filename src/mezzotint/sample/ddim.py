"""DDIM: from deterministic (eta = 0) to ancestral (eta = 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM(Multistep):
    """x_t = alpha_t x0 + sqrt(sigma_t^2 - s^2) eps + s z, s = eta sigma_t sqrt(1 - e^(-2h)), h = lambda_t - lambda_s.

    In the state: x_t = (c / sigma_s) x_s + (alpha_t - c alpha_s / sigma_s) x0 with c = sqrt(sigma_t^2 - s^2), which
    needs no eps and so is finite from alpha_s = 0 to sigma_t = 0 (there x_t = x0).

    Args:
        eta: in [0, 1]; 0 is deterministic (first order), 1 is DDPM's ancestral sampling.

    Raises:
        ValueError: for eta outside [0, 1].

    Source: arXiv 2010.02502, equations 12 and 16, for any (alpha, sigma).

    >>> import torch; from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DDIM()(d, torch.ones(1, 2), steps=4).shape
    torch.Size([1, 2])
    """

    order = 1
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM got eta={self.eta}; expected a number in [0, 1]: 0 deterministic, 1 ancestral")

    @property
    def stochastic(self) -> bool:
        """True unless eta = 0."""
        return self.eta > 0

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; the only estimate's whole weight."""
        return self.row(nodes, k).m[0]

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        h = t.lam - s.lam
        if t.sigma == 0:
            return Row(0.0, (t.alpha,))
        fresh = self.eta**2 * -math.expm1(-2 * h)  # share of the noise's variance that is drawn anew
        if fresh >= 1:
            return Row(0.0, (t.alpha,), t.sigma)
        log_kept = 0.5 * math.log1p(-fresh)
        kept = math.exp(log_kept)
        return Row(t.sigma / s.sigma * kept, (t.alpha * -math.expm1(log_kept - h),), t.sigma * math.sqrt(fresh))
