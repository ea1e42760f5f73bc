"""Euler's method in the noise level, with EDM's churn if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.sample.churn import Churn
from mezzotint.sample.combine import combine
from mezzotint.sample.expint import psi0
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Plan, nodes_of

__all__ = ["Euler"]


@dataclass(frozen=True)
class Euler(Sampler):
    """y' = y + (s' - s) (y - x0) / s with y = x / alpha and s = sigma / alpha.

    In the state: x' = (sigma'/sigma) x + alpha' (1 - s'/s) x0, finite from alpha = 0 (s = inf) to sigma' = 0. The
    same update comes out in the flow's variable sigma / (alpha + sigma), so on Flow() this is Euler's method in t;
    and without churn it equals DDIM(eta=0): a first-order step does not know its variable.

    Args:
        churn: noise added before each step; None for the deterministic method.

    Source: arXiv 2206.00364, algorithm 2 without its second stage.
    """

    order = 1
    churn: Churn | None = None

    @property
    def stochastic(self) -> bool:
        """True with churn."""
        return self.churn is not None and self.churn.amount > 0

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan."""
        nodes = nodes_of(schedule, grid)
        rows, calls = [], []
        for node, after in pairwise(nodes):
            hat, keep, spread = self.churn.raised(schedule, node, len(nodes) - 1) if self.churn else (node, 1.0, 0.0)
            rows.append((keep, spread, after.sigma / hat.sigma, after.alpha * psi0(after.lam - hat.lam)))
            calls.append((hat.t,))
        return Plan(nodes, ("hat_x", "hat_noise", "x", "m0"), tuple(rows), tuple(calls))

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        keep, spread, weight, of_m = plan.rows[k]
        x = churned(state.x, keep, spread, k, noise)
        m = self.predict(d, x, k, plan, c)
        return State(combine((weight, x), (of_m, m)), k + 1, m)


def churned(x: Tensor, keep: float, spread: float, k: int, noise: Noise | None) -> Tensor:
    """x brought to the churned level of step k (x itself where nothing is added)."""
    if not spread or noise is None:
        return x
    return combine((keep, x), (spread, noise("step", k, x.shape[1:], dtype=x.dtype, device=x.device)))
