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

    With noise (DDNM+): a step x_s = ... + a x0 + f z brings a S A+ n of the measurement's noise n, and draws that much
    less of its own, so that the level's noise stays what it should be. In a direction of singular value s that is
    S = min(1, f s / (a std)) and sqrt(f^2 - (a S std / s)^2) z. Where the decomposition is not closed, S is one number
    for all, with A+ n taken for noise of std, as in the paper; prefer PiGDM there where A blurs.

    Args:
        eta: of DDIM, in [0, 1]; more than 0 where y is noisy.
        jump, times: of the time travel, as of `TimeTravel`; times = 1 has none.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for noise with eta = 0, where no
            noise is drawn in which that of the measurement could stand.

    Source: arXiv 2212.00490, equations 12, 13, 17 to 19, section 3.3 and appendix I. The released code takes all of
        the level's noise for f and its alpha for a: with eta_b = 1 that is `DDRM`, step by step.

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
        if problem.std and not self.eta:
            raise ValueError(
                f"DDNM with eta=0 draws no noise, so that of the measurement (std={problem.std:g}) has no place; use "
                "eta > 0, as 0.85 or 1, or std=0 to take the measurement as exact"
            )
        steps = _NullSpaceSteps(DDIM(self.eta), problem)
        return TimeTravel(steps, self.jump, self.times) if self.times > 1 else steps


@dataclass(frozen=True)
class _NullSpaceSteps(Sampler):
    base: DDIM
    problem: Problem
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
        x, (keep, fresh, weight) = state.x, plan.rows[k]
        x0 = self.predict(d, x, k, plan, c)
        z = None
        if fresh and noise is not None:
            z = noise("step", k, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        if isinstance(self.problem.operator, SpectralOperator):
            x0, z = _by_direction(self.problem, x0, z, weight, fresh)
        else:
            x0, z = _by_one_number(self.problem, x0, z, weight, fresh)
        terms = [(keep, x), (weight, x0)]
        if z is not None:
            terms.append((fresh, z))
        return State(combine(*terms), k + 1, x0)


def _by_direction(
    problem: Problem, x0: Tensor, z: Tensor | None, weight: float, fresh: float
) -> tuple[Tensor, Tensor | None]:
    """x0 and the noise to draw, each singular direction by itself; what is not measured stays as it is, bit for bit."""
    operator = problem.operator
    assert isinstance(operator, SpectralOperator)
    s = operator.singulars(x0)
    seen = operator.seen(s)
    inverse = torch.where(seen, 1 / torch.where(seen, s, 1.0), torch.zeros_like(s))
    rest = inverse * operator.measured_to_spectrum(problem.y.to(x0.dtype)) - operator.to_spectrum(x0)
    if not problem.std:
        return x0 + operator.from_spectrum(torch.where(seen, rest, torch.zeros_like(rest))), z
    size = weight * problem.std * inverse  # of the noise that an exact correction would bring
    share = torch.where(size > fresh, fresh / torch.where(size > 0, size, 1.0), torch.ones_like(size))
    x0 = x0 + operator.from_spectrum(torch.where(seen, share * rest, torch.zeros_like(rest)))
    if z is not None:
        less = (1 - (share * size / fresh) ** 2).clamp_min(0).sqrt() - 1
        z = z + operator.from_spectrum(torch.where(seen, less, torch.zeros_like(less)) * operator.to_spectrum(z))
    return x0, z


def _by_one_number(
    problem: Problem, x0: Tensor, z: Tensor | None, weight: float, fresh: float
) -> tuple[Tensor, Tensor | None]:
    """The same with one share for all directions."""
    operator, size = problem.operator, weight * problem.std
    assert isinstance(operator, LinearOperator)
    share = min(1.0, fresh / size) if size else 1.0
    x0 = x0 + share * operator.pinv(problem.residual(x0)) if share else x0
    if z is not None and size:
        z = math.sqrt(max(0.0, 1 - (share * size / fresh) ** 2)) * z
    return x0, z
