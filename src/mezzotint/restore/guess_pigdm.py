"""PiGDM for operators that are not linear: by the operator's guess in place of a pseudo-inverse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.restore.fit import check_fit
from mezzotint.restore.linearised import Linearised
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.combine import combine
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan

__all__ = ["GuessPiGDM"]


@dataclass(frozen=True)
class GuessPiGDM(SampledRestorer):
    """x_s = DDIM(x_t) + weight alpha_s alpha_t J^T (H y - H A(D)), H the operator's guess, J = dD/dx_t.

    For any operator; its guess and A itself need no gradients. The noise of the measurement is not looked at. A guess
    that is far from undoing A (phase retrieval) makes this a bad direction. For linear operators prefer `PiGDM`.

    Args:
        weight: >= 0.
        eta: of DDIM, in [0, 1].

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer.

    Source: arXiv 2305.04391, released code (its baseline for nonlinear tasks); Song et al., ICLR 2023.

    >>> GuessPiGDM()
    GuessPiGDM(weight=1.0, eta=1.0)
    """

    weight: float = 1.0
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"GuessPiGDM got weight={self.weight}; expected a finite number >= 0, about 1")
        DDIM(self.eta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return _GuessSteps(DDIM(self.eta), problem, self.weight)


@dataclass(frozen=True)
class _GuessSteps(Sampler):
    base: DDIM
    problem: Problem
    weight: float
    order = 1

    @property
    def stochastic(self) -> bool:
        """As the base."""
        return self.base.stochastic

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """As the base."""
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """The base's."""
        return self.base.plan(schedule, grid)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        here = Linearised.at(d, state.x, plan.time(k, state.x), c)
        operator = self.problem.operator
        with torch.no_grad():
            pull = self.problem.guess - operator.guess(operator(here.data))
        s, t = plan.nodes[k], plan.nodes[k + 1]
        keep, fresh, own = plan.rows[k]
        terms = [(keep, state.x), (own, here.data), (self.weight * s.alpha * t.alpha, here.back(pull.to(here.x0)))]
        if fresh and noise is not None:
            x = state.x
            terms.append((fresh, noise("step", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)))
        return State(combine(*terms), k + 1, here.data)
