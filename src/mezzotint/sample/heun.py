"""Heun's method in the noise level, with EDM's churn if wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.sample.churn import Churn
from mezzotint.sample.combine import combine
from mezzotint.sample.euler import churned
from mezzotint.sample.expint import psi0
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun(Sampler):
    """The trapezoidal rule for dy/ds = (y - x0) / s, y = x / alpha, s = sigma / alpha, after an Euler predictor.

    With m = D(x), m' = D(predicted x') and h = lambda' - lambda, in the state:
        x' = (sigma'/sigma) x + alpha' [(1 - e^-h) m + g (m' - m)],    g = (e^h - 1) / 2.
    From alpha = 0 the variable s is infinite and so is g; that one step is taken in the flow's variable
    tau = sigma / (alpha + sigma), where du/dtau = eps - x0 for u = x / (alpha + sigma) has the same form and
    g = (1 + alpha'/sigma') / 2: still second order, still two evaluations. A step to sigma' = 0 is Euler's, x' = m,
    so n steps to t = 0 cost 2 n - 1 evaluations.

    Args:
        churn: noise added before each step; None for the deterministic method.

    Source: arXiv 2206.00364, algorithms 1 and 2; the step from alpha = 0 is our choice.
    """

    order = 2
    churn: Churn | None = None

    @property
    def stochastic(self) -> bool:
        """True with churn."""
        return self.churn is not None and self.churn.amount > 0

    def nfe(self, steps: int) -> int:
        """2 steps - 1: two a step, one for the last."""
        return 2 * steps - 1

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan."""
        nodes = nodes_of(schedule, grid)
        rows, calls = [], []
        for node, after in pairwise(nodes):
            hat, keep, spread = self.churn.raised(schedule, node, len(nodes) - 1) if self.churn else (node, 1.0, 0.0)
            first, second = after.alpha * psi0(after.lam - hat.lam), after.alpha * _slope(hat, after)
            rows.append((keep, spread, after.sigma / hat.sigma, first, second))
            calls.append((hat.t, after.t) if after.sigma > 0 else (hat.t,))
        return Plan(nodes, ("hat_x", "hat_noise", "x", "m0", "slope"), tuple(rows), tuple(calls))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        keep, spread, weight, of_m, slope = plan.rows[k]
        x = churned(state.x, keep, spread, k, noise)
        m = self.predict(d, x, k, plan, c)
        after = combine((weight, x), (of_m, m))
        if len(plan.calls[k]) == 1:
            return State(after, k + 1, m)
        m_next = self.predict(d, after, k, plan, c, call=1)
        # as a difference, so that nothing large cancels when the two agree
        return State(torch.add(after, m_next - m, alpha=slope), k + 1, m_next)


def _slope(s: Node, t: Node) -> float:
    """The weight g of the second evaluation, in units of alpha'; 0 where there is none."""
    if t.sigma == 0:
        return 0.0
    return 0.5 * (1 + t.alpha / t.sigma) if s.alpha == 0 else 0.5 * math.expm1(t.lam - s.lam)
