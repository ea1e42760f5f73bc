"""DDPM: ancestral sampling with the posterior's own variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM(Multistep):
    """Draws x_t from q(x_t | x_s, x0) with x0 = D(x_s).

    With a = alpha_s / alpha_t and q = sigma_s^2 - a^2 sigma_t^2 the posterior has
    mean (a sigma_t^2 x_s + alpha_t q x0) / sigma_s^2 and variance q sigma_t^2 / sigma_s^2 ("fixed small").
    As q / sigma_s^2 = 1 - e^(-2h), all is finite from alpha_s = 0 to sigma_t = 0 (mean x0, variance 0).

    Source: arXiv 2006.11239, equations 6 and 7, between any two times; equal to DDIM(eta=1).
    """

    order = 1

    @property
    def stochastic(self) -> bool:
        """True."""
        return True

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; the only estimate's whole weight."""
        return self.row(nodes, k).m[0]

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        h = t.lam - s.lam
        new = -math.expm1(-2 * h)
        return Row(t.sigma / s.sigma * math.exp(-h), (t.alpha * new,), t.sigma * math.sqrt(new))
