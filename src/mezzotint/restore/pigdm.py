"""PiGDM: the likelihood of a Gaussian guess of the data, its gradient taken through the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.restore.fit import check_fit
from mezzotint.restore.linearised import Linearised, over
from mezzotint.restore.operators import LinearOperator
from mezzotint.restore.problem import Problem
from mezzotint.restore.regularised import regularised
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["PiGDM"]

_TINY = 1e-30


@dataclass(frozen=True)
class PiGDM(SampledRestorer):
    """score + J^T A* (r^2 A A* + std^2 I)^-1 (y - A D), r^2 = sigma^2 d^2 / (sigma^2 + alpha^2 d^2), J = dD/dx_t.

    It takes x0 | x_t for N(D, r^2 I), as it is where the data are N(m, d^2 I): there the score is exact, and the
    samples are of the posterior as the steps grow. As a data prediction: D + (sigma^2 / alpha) times the second term.
    At alpha = 0, where J says nothing, (sigma^2 / alpha) J is taken for r^2 I. One network call and one backward pass
    a step; no step size to choose.

    Args:
        data_std: d, of the data around their mean, > 0.
        eta: of DDIM, in [0, 1]; 1 is ancestral.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for an operator that is not linear
            (`GuessPiGDM` takes those).

    Source: Song et al., Pseudoinverse-guided diffusion models for inverse problems (ICLR 2023). The paper scales the
        term in each step by r^2 and a schedule of its own; here it is the score's, so that every solver and guide goes.

    >>> from mezzotint.core import VP, Gaussian, Noise
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> PiGDM()(d, Matrix(torch.eye(2)), torch.ones(1, 2), Noise([0]), std=0.01, steps=9).round().tolist()
    [[1.0, 1.0]]
    """

    data_std: float = 1.0
    eta: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.data_std < math.inf:
            raise ValueError(f"PiGDM got data_std={self.data_std}; expected a finite number > 0, about 1 for images")
        DDIM(self.eta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return DDIM(self.eta)

    def informed(self, d: Denoiser, problem: Problem) -> Denoiser:
        """See SampledRestorer.informed; the posterior's denoiser."""
        return _PiGDMDenoiser(d, problem, self.data_std**2)


class _PiGDMDenoiser(Denoiser):
    def __init__(self, denoiser: Denoiser, problem: Problem, variance: float) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.problem, self.variance = denoiser, problem, variance

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """The data prediction that knows the measurement."""
        here, operator = Linearised.at(self.denoiser, x_t, t, c), self.problem.operator
        assert isinstance(operator, LinearOperator)
        alpha, sigma, v = here.alpha, here.sigma, self.variance
        with torch.no_grad():
            total = sigma**2 + alpha**2 * v
            rest = self.problem.residual(here.data)
            pull = regularised(operator, rest, _noise(self.problem.std, sigma**2 * v / total))
        moved = over(total, alpha * v) * here.back(pull)
        if isinstance(alpha, Tensor) and isinstance(sigma, Tensor):
            moved = torch.where(alpha == 0, pull, moved).where(sigma > 0, torch.zeros_like(moved))
        elif not alpha:
            moved = pull
        elif not sigma:
            moved = torch.zeros_like(moved)
        return here.with_x0(here.data + moved)


def _noise(std: float, signal: float | Tensor) -> float | Tensor:
    """std^2 / r^2; large where the level has no noise."""
    if not std:
        return 0.0
    return std**2 / (signal.clamp_min(_TINY) if isinstance(signal, Tensor) else max(signal, _TINY))
