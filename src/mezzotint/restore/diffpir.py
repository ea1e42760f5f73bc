"""DiffPIR: the data prediction is brought nearer to the measurement by a proximal step, and noised again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.known import known_levels
from mezzotint.restore.fit import check_fit
from mezzotint.restore.operators import LinearOperator
from mezzotint.restore.problem import Problem
from mezzotint.restore.regularised import regularised
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.loop import Sampler
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["DiffPIR", "Renoised"]

_TINY = 1e-15


@dataclass(frozen=True)
class DiffPIR(SampledRestorer):
    """x0 = argmin_z |y - A z|^2 + rho |z - D|^2, rho = weight std^2 / r^2, r = sigma / alpha; `Renoised` with it.

    One network call a step, no gradient through the network.

    Args:
        weight: lambda of the paper, > 0; 1 takes r^2 for the variance of the data around D, in the units of the image,
            and is our choice: the paper tunes it by task.
        zeta: in [0, 1]: how much of the noise is drawn anew.
        least_std: the measurement's noise is taken for this at least, >= 0 (our choice, as y without noise needs a
            rho > 0 where A blurs; 0 gives the projection onto what was measured).
        data_std: r is this at most, > 0, or infinite as in the paper. Without a bound (our choice) the first steps undo
            A whatever that does to the noise: at alpha = 0 wholly, by factors of 10^6 where A blurs.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for an operator that is not linear.

    Source: arXiv 2305.08995, algorithm 1.

    >>> import torch; from mezzotint.core import VP, Gaussian, Noise
    >>> from mezzotint.restore.operators import Matrix
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DiffPIR()(d, Matrix(torch.tensor([[2.0, 0.0]])), torch.ones(1, 1), Noise([0]), steps=9)[0, 0].round(decimals=3)
    tensor(0.5000)
    """

    weight: float = 1.0
    zeta: float = 0.3
    least_std: float = 1e-3
    data_std: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"DiffPIR got weight={self.weight}; expected a finite number > 0, about 1")
        if not 0 <= self.least_std < math.inf:
            raise ValueError(f"DiffPIR got least_std={self.least_std}; expected a finite number >= 0")
        if not self.data_std > 0:
            raise ValueError(f"DiffPIR got data_std={self.data_std}; expected a number > 0, about 1 for images")
        Renoised(self.zeta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return Renoised(self.zeta)

    def informed(self, d: Denoiser, problem: Problem) -> Denoiser:
        """See SampledRestorer.informed."""
        rate = self.weight * max(problem.std, self.least_std) ** 2
        return _ProximalDenoiser(d, problem, rate, 1 / self.data_std)


@dataclass(frozen=True)
class Renoised(Multistep):
    """x_s = alpha_s x0 + sigma_s (sqrt(1 - zeta) e + sqrt(zeta) z), e = (x_t - alpha_t x0) / sigma_t.

    zeta = 0 is DDIM; zeta = 1 forgets x_t.

    Args:
        zeta: in [0, 1].

    Source: arXiv 2305.08995, algorithm 1.
    """

    order = 1
    zeta: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.zeta <= 1:
            raise ValueError(f"zeta={self.zeta}; expected a number in [0, 1]: 0 deterministic, 1 all noise anew")

    @property
    def stochastic(self) -> bool:
        """True unless zeta = 0."""
        return self.zeta > 0

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; the only estimate's whole weight."""
        return self.row(nodes, k).m[0]

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        s, t = nodes[k], nodes[k + 1]
        kept = t.sigma / s.sigma * math.sqrt(1 - self.zeta)
        return Row(kept, (t.alpha - kept * s.alpha,), t.sigma * math.sqrt(self.zeta))


class _ProximalDenoiser(Denoiser):
    def __init__(self, denoiser: Denoiser, problem: Problem, rate: float, least: float) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.problem, self.rate, self.least = denoiser, problem, rate, least

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """The data prediction that knows the measurement."""
        made, operator = self.denoiser(x_t, t, c), self.problem.operator
        assert isinstance(operator, LinearOperator)
        alpha, sigma = known_levels(t, self.schedule) or (made.alpha, made.sigma)
        if isinstance(sigma, Tensor):
            ratio = (alpha / sigma.clamp_min(_TINY)).clamp_min(max(self.least, _TINY))
            rho = self.rate * ratio**2 if self.rate else 0.0
        elif not sigma:
            return made
        else:
            rho = self.rate * max(alpha / sigma, self.least) ** 2
        rest = self.problem.y.to(made.x0.dtype) - operator(made.x0)
        return made.with_x0(made.x0 + regularised(operator, rest, rho))  # operator.prox, with no rounding blown up
