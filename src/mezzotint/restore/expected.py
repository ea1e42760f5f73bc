"""The denoiser itself as a restorer: a measurement that is a picture with an error is taken for a noisy one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.core.grid import Grid
from mezzotint.restore.operators import Identity, Operator
from mezzotint.restore.problem import Problem
from mezzotint.restore.restorer import Restorer
from mezzotint.sample.loop import OnStep, State

__all__ = ["Expected"]

_START = 0.1  # level of the first of two calls
_LEAST = 1e-4  # below, nothing is done


@dataclass(frozen=True)
class Expected(Restorer):
    """E[x | y] of y = x + s n: D(alpha_t y, t) at the time where sigma_t / alpha_t = s.

    For noise alone (`Identity`) s is std: the mean of the posterior in one network call, best in mean square. For what
    changes a picture into one of the same size (JPEG), s^2 = std^2 + (factor |A(x') - x'|)^2, root mean square, x' a
    first call's result at s = 0.1: the error that A makes of a picture like it, which is smaller than that of the true
    picture, hence the factor. Such errors are no white noise, so it is a stopgap; but photographs in JPEG of quality
    10 to 75 become 0.5 to 0.8 dB better, where methods that fit y made them worse.

    Args:
        factor: >= 0.

    Raises:
        ValueError: for a negative factor; when called, as Restorer, for a measurement that is not of the picture's
            size, or a level that the schedule does not reach.

    Source: Tweedie's formula; the level for operators is our choice, by eight photographs.

    >>> from mezzotint.core import VP, Gaussian
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> Expected()(d, Identity(), torch.ones(1, 2), Noise([0]), std=1.0).round(decimals=4).tolist()
    [[0.5, 0.5]]
    """

    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.factor < math.inf:
            raise ValueError(f"Expected got factor={self.factor}; expected a finite number >= 0, about 2")

    @property
    def spread(self) -> bool:
        """False: it is the same for every seed."""
        return False

    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See Restorer; `steps` and `grid` have no effect."""
        problem = Problem.of(operator, y, noise, std)
        seen = problem.guess
        if seen.shape != problem.y.shape:
            raise ValueError(
                f"Expected denoises measurements that are pictures: this one is {tuple(problem.y.shape[1:])} of "
                f"{tuple(seen.shape[1:])}; other methods take it (`mezzotint restore --list`)"
            )
        level = torch.full((len(seen),), problem.std, dtype=torch.float64, device=seen.device)
        if not isinstance(operator, Identity):
            first = _mean(d, seen, (level**2 + _START**2).sqrt(), c)
            error = (operator(first) - first).flatten(1).double().square().mean(1)
            level = (level**2 + self.factor**2 * error).sqrt()
        made = _mean(d, seen, level, c)
        if on_step is not None:
            on_step(0, State(made, 1, made))
        return made.to(y.dtype)


def _mean(d: Denoiser, y: Tensor, level: Float[Tensor, " b"], c: Condition | None) -> Tensor:
    """Each row at its own time."""
    t = d.schedule.t_of(-level.clamp_min(_LEAST).log())
    alpha, sigma = d.schedule.alpha(t), d.schedule.sigma(t)
    short = sigma < 0.999 * alpha * level.clamp_min(_LEAST)
    if bool(short.any()):
        raise ValueError(f"the error is like noise of {float(level.max()):.4g}, which this schedule does not reach")
    made = d(alpha.to(y).view(-1, *[1] * (y.ndim - 1)) * y, t.to(y.dtype), c).x0
    return torch.where((level > _LEAST).view(-1, *[1] * (y.ndim - 1)), made, y)
