"""DDNM: at every level the measured part of the data prediction is set to the measurement, the rest is the model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.restore.fit import check_fit
from mezzotint.restore.operators import LinearOperator, SpectralOperator
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.restore.travel import TimeTravel
from mezzotint.sample.combine import combine
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan

__all__ = ["DDNM"]


@dataclass(frozen=True)
class DDNM(SampledRestorer):
    """x0 = D - S A+ (A D - y), and DDIM with it; S = 1 for y without noise, so that A x0 = y.

    With noise (DDNM+) the correction may bring no more noise than the next level has: with e = alpha_s std / s, in a
    direction of singular value s, the measured part of the next state is alpha_s x0 + f z with

    - e <= sigma_s: S = 1, f^2 = sigma_s^2 - e^2
    - else:         S = sqrt(1 - eta^2) sigma_s / e, f = eta sigma_s

    and what is not measured takes DDIM's step. Where the decomposition is not closed s is taken for 1, one S for all,
    as in the paper; prefer PiGDM there if A blurs.

    Args:
        eta: of DDIM, in [0, 1].
        jump, times: of the time travel, as of `TimeTravel`; times = 1 has none.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer.

    Source: arXiv 2212.00490, section 3 and its appendix on noisy restoration. With noise these are the steps of
        the released code, in what is measured those of `DDRM` with eta_b = 1. The paper's text counts by the noise that
        a step adds (S = min(1, f s / (a std)), a the weight of x0 in it); but the noise of y is the same in all steps
        and adds up there: measured 10 dB in place of 23 at a blur with std 0.05.

    >>> from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DDNM()(d, Matrix(torch.tensor([[2.0, 0.0]])), torch.ones(1, 1), Noise([0]), steps=9)[0, 0].round(decimals=5)
    tensor(0.5000)
    """

    eta: float = 0.85
    jump: int = 1
    times: int = 1
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TimeTravel(DDIM(self.eta), self.jump, self.times)

    def nfe(self, steps: int) -> int:
        """Network calls: as TimeTravel; `steps` where times = 1."""
        return TimeTravel(DDIM(self.eta), self.jump, self.times).nfe(steps)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        steps = _NullSpaceSteps(DDIM(self.eta), problem)
        return TimeTravel(steps, self.jump, self.times) if self.times > 1 else steps


@dataclass(frozen=True)
class _NullSpaceSteps(Sampler):
    base: DDIM
    problem: Problem
    order = 1

    @property
    def stochastic(self) -> bool:
        """As the base; True where y is noisy."""
        return self.base.stochastic or self.problem.std > 0

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
        x, (keep, fresh, weight), node = state.x, plan.rows[k], plan.nodes[k + 1]
        x0 = self.predict(d, x, k, plan, c)
        noisy, z = self.problem.std > 0, torch.zeros_like(x)
        if noise is not None and (fresh or (noisy and node.sigma)):
            z = noise("step", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        own = _Directions(self.problem, x0) if isinstance(self.problem.operator, SpectralOperator) else None
        if not noisy:
            rest = own.back(own.rest) if own else _pinv(self.problem, self.problem.residual(x0))
            x0 = x0 + rest
            return State(combine((keep, x), (weight, x0), (fresh, z)), k + 1, x0)
        plain = combine((keep, x), (weight, x0), (fresh, z))
        size = node.alpha * self.problem.std
        if own:
            share, spread = _shares(size * own.inverse, node.sigma, self.base.eta)
            move = node.alpha * share * own.rest + own.to(node.alpha * x0 - plain) + spread * own.to(z)
            return State(plain + own.back(move), k + 1, x0 + own.back(share * own.rest))
        share, spread = (float(q) for q in _shares(torch.tensor(size, dtype=torch.float64), node.sigma, self.base.eta))
        rest = share * _pinv(self.problem, self.problem.residual(x0)) if share else torch.zeros_like(x0)
        move = _pinv(self.problem, self.problem.operator(node.alpha * x0 + spread * z - plain))
        return State(plain + node.alpha * rest + move, k + 1, x0 + rest)


class _Directions:
    """The measured directions of an operator whose decomposition is closed.

    Args:
        problem: whose operator is spectral.
        x0: a data prediction, (b, *s).
    """

    def __init__(self, problem: Problem, x0: Tensor) -> None:
        operator = problem.operator
        assert isinstance(operator, SpectralOperator)
        s = operator.singulars(x0)
        self.operator, self.seen = operator, operator.seen(s)
        self.inverse = torch.where(self.seen, 1 / torch.where(self.seen, s, 1.0), torch.zeros_like(s))
        self.rest = self.inverse * operator.measured_to_spectrum(problem.y.to(x0.dtype)) - self.to(x0)

    def to(self, x: Tensor) -> Tensor:
        """V* x."""
        return self.operator.to_spectrum(x)

    def back(self, k: Tensor) -> Tensor:
        """V k, of what is measured alone: 0 where nothing is."""
        return self.operator.from_spectrum(torch.where(self.seen, k, torch.zeros_like(k)))


def _shares(size: Tensor, sigma: float, eta: float) -> tuple[Tensor, Tensor]:
    """S and f of a level, where an exact correction brings noise of `size`."""
    near = size <= sigma
    share = torch.where(near, torch.ones_like(size), math.sqrt(1 - eta**2) * sigma / torch.where(near, 1.0, size))
    spread = torch.where(near, (sigma**2 - size**2).clamp_min(0).sqrt(), torch.full_like(size, eta * sigma))
    return share, spread


def _pinv(problem: Problem, y: Tensor) -> Tensor:
    assert isinstance(problem.operator, LinearOperator)
    return problem.operator.pinv(y)
