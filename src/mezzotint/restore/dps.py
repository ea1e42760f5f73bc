"""DPS: after each step, down the gradient of the misfit, through the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.restore.fit import check_fit
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan

__all__ = ["DPS", "MisfitSteps"]


@dataclass(frozen=True)
class DPS(SampledRestorer):
    """x_s = DDIM(x_t) - zeta_t grad_{x_t} |y - A(D(x_t))|^2, zeta_t = zeta / |y - A(D)| of each row.

    Any operator that has gradients, linear or not. A step costs one network call and one backward pass through it,
    with the memory of one in training. It is biased even on Gaussians (its likelihood is that of the mean of the
    posterior), and zeta depends on the task: 0.3 to 1 in the paper, with 1000 steps; with fewer steps a larger one.

    Args:
        zeta: >= 0.
        eta: of DDIM, in [0, 1]; 1 is the paper's ancestral sampler.
        rate: "residual" divides by the norm of the residual; "constant" is zeta_t = zeta.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer.

    Source: arXiv 2209.14687, algorithm 1 and section C.2.

    >>> from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore.operators import LinearOperator
    >>> class Same(LinearOperator):
    ...     forward = adjoint = lambda self, x: x
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DPS()(d, Same(), torch.ones(1, 2), Noise([0]), steps=3).shape
    torch.Size([1, 2])
    """

    zeta: float = 1.0
    eta: float = 1.0
    rate: Literal["residual", "constant"] = "residual"

    def __post_init__(self) -> None:
        if not 0 <= self.zeta < math.inf:
            raise ValueError(f"{type(self).__name__} got zeta={self.zeta}; expected a finite number >= 0, about 1")
        if self.rate not in ("residual", "constant"):
            raise ValueError(f"{type(self).__name__} got rate={self.rate!r}; choose residual or constant")
        DDIM(self.eta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return MisfitSteps(DDIM(self.eta), problem, self.zeta, self.rate)


@dataclass(frozen=True)
class MisfitSteps(Sampler):
    """A sampler whose every step is followed by one down the gradient of the misfit of its data prediction.

    Args:
        base: a sampler of one network call a step.
        problem, zeta, rate: as of DPS.
    """

    base: Sampler
    problem: Problem
    zeta: float = 1.0
    rate: Literal["residual", "constant"] = "residual"

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's, not the class's
        """As the base."""
        return self.base.order

    @property
    def stochastic(self) -> bool:
        """As the base."""
        return self.base.stochastic

    def nfe(self, steps: int) -> int:
        """As the base; as many backward passes."""
        return self.base.nfe(steps)

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
        with torch.inference_mode(False), torch.enable_grad():  # callers sample without; this one goes to x_t alone
            x = (state.x.clone() if state.x.is_inference() else state.x.detach()).requires_grad_()
            made = self.base.step(d, replace(state, x=x), k, plan, c, noise)
            assert made.x0 is not None
            misfit = self.problem.residual(made.x0).flatten(1).square().sum(1)
            if not misfit.requires_grad:
                raise ValueError(
                    f"no gradient comes from {type(self.problem.operator).__name__} to the noisy image; the operator "
                    "and the denoiser must be differentiable and not work under torch.no_grad()"
                )
            (gradient,) = torch.autograd.grad(misfit.sum(), x)
        zeta = torch.full_like(misfit.detach(), self.zeta)
        if self.rate == "residual":
            norm = misfit.detach().sqrt()
            zeta = torch.where(norm > 0, zeta / norm, torch.zeros_like(norm))  # a fit that is exact stays
        down = zeta.view(-1, *[1] * (x.ndim - 1)) * gradient
        kept = tuple(m.detach() for m in made.history)
        return State(made.x.detach() - down, k + 1, made.x0.detach(), kept)
