"""Moment matching: the covariance of the data given a noisy image, from the network's Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.restore.fit import check_fit
from mezzotint.restore.linearised import Linearised, over
from mezzotint.restore.operators import LinearOperator, conjugate_gradients
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["MomentMatching"]


@dataclass(frozen=True)
class MomentMatching(SampledRestorer):
    """D + C A* (A C A* + std^2 I)^-1 (y - A D), C = (sigma^2 / alpha) J, J = dD/dx_t: the covariance of x0 | x_t.

    The system is solved by conjugate gradients, with a product of the Jacobian each. Where the data are Gaussian, with
    any covariance, the score is exact with as many iterations as A C A* has distinct eigenvalues; few are enough for
    images. The Jacobian of a network is symmetric and positive only about, and the more iterations, the more they trust
    it: on photographs one was the best (the step is then PiGDM's direction, as long as the misfit asks for), though a
    measurement without noise is not explained exactly with so few. At alpha = 0, where J says nothing, C is taken for
    data_std^2 I. A step costs one network call and as many backward passes as iterations.

    Args:
        iterations: of conjugate gradients, >= 1.
        eta: of DDIM, in [0, 1]; 1 is ancestral.
        data_std: of the data around their mean, > 0; used at alpha = 0 alone.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for an operator that is not linear.

    Source: arXiv 2405.13712 (moment matching posterior sampling); arXiv 2310.06721 (Tweedie moment projection), which
        has the same covariance. The choice at alpha = 0 is ours.

    >>> from mezzotint.core import VP, Gaussian, Noise
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=torch.tensor([1.0, 0.1])).denoiser(VP())
    >>> MomentMatching()(d, Matrix(torch.eye(2)), torch.ones(1, 2), Noise([0]), std=0.01, steps=9).round().tolist()
    [[1.0, 1.0]]
    """

    iterations: int = 5
    eta: float = 1.0
    data_std: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"MomentMatching got iterations={self.iterations!r}; expected a whole number >= 1")
        if not 0 < self.data_std < math.inf:
            raise ValueError(f"MomentMatching got data_std={self.data_std}; expected a finite number > 0")
        DDIM(self.eta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return DDIM(self.eta)

    def informed(self, d: Denoiser, problem: Problem) -> Denoiser:
        """See SampledRestorer.informed; the posterior's denoiser."""
        return _MomentDenoiser(d, problem, self.iterations, self.data_std**2)


class _MomentDenoiser(Denoiser):
    def __init__(self, denoiser: Denoiser, problem: Problem, iterations: int, variance: float) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.problem, self.iterations, self.variance = denoiser, problem, iterations, variance

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """The data prediction that knows the measurement."""
        here, operator, std = Linearised.at(self.denoiser, x_t, t, c), self.problem.operator, self.problem.std
        assert isinstance(operator, LinearOperator)
        scale, alpha = over(here.sigma**2, here.alpha), here.alpha

        def spread(v: Tensor) -> Tensor:
            """C v."""
            product = scale * here.back(v, keep=True)
            if isinstance(alpha, Tensor):
                return torch.where(alpha == 0, self.variance * v, product)
            return product if alpha else self.variance * v

        with torch.no_grad():
            rest = self.problem.residual(here.data)
            if not std:  # only what A reaches can be explained
                rest = operator(operator.pinv(rest))
            found = _Moved(lambda u: spread(operator.adjoint(u)), operator, std)
            conjugate_gradients(found.product, rest, steps=self.iterations, on_step=found.add)
        return here.with_x0(here.data + found.total)


class _Moved:
    """u -> (A C A* + std^2) u, and with it C A* of the solution: the sum of what each product has made on its way."""

    def __init__(self, spread: Callable[[Tensor], Tensor], operator: LinearOperator, std: float) -> None:
        self.spread, self.operator, self.std = spread, operator, std
        self.total: Tensor | float = 0.0

    def product(self, u: Tensor) -> Tensor:
        self.last = self.spread(u)
        return self.operator(self.last) + self.std**2 * u

    def add(self, rate: Tensor) -> None:
        self.total = self.total + rate.flatten().view(-1, *[1] * (self.last.ndim - 1)) * self.last
