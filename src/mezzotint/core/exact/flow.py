"""The probability flow of a known distribution without a solver: what solvers are measured against."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.core.exact.base import Distribution
from mezzotint.core.exact.gaussian import Gaussian
from mezzotint.core.exact.mixture import GaussianMixture
from mezzotint.core.schedule import Schedule

__all__ = ["probability_flow"]

_BISECTIONS = 64  # halves a bracket of 16 standard deviations to below 1e-17 of it


@singledispatch
def probability_flow(
    distribution: Distribution, schedule: Schedule, x: Float[Tensor, "b *s"], start: float, end: float
) -> Float64[Tensor, "b *s"]:
    """Where the probability-flow ODE takes x from time `start` to time `end`, to rounding.

    A Gaussian keeps (x - alpha mean) / sqrt(alpha^2 value + sigma^2) along every eigenvector of its covariance; a
    mixture in one dimension keeps quantiles, F_end(y) = F_start(x), solved by bisection.

    Args:
        distribution: a Gaussian, or a GaussianMixture over one number.
        schedule: any.
        x: states at time start.
        start, end: times in [0, 1], in either order.

    Raises:
        ValueError: for a distribution whose flow has no closed form.

    >>> from mezzotint.core import VP
    >>> x = torch.ones(1, 2, dtype=torch.float64)
    >>> probability_flow(Gaussian(torch.zeros(2), std=1.0), VP(), x, 1.0, 0.0).tolist()
    [[1.0, 1.0]]
    """
    raise ValueError(
        f"the flow of {type(distribution).__name__} over {distribution.size} numbers has no closed form; "
        "known are Gaussian, and GaussianMixture over one number"
    )


@probability_flow.register
def _(distribution: Gaussian, schedule: Schedule, x: Tensor, start: float, end: float) -> Tensor:
    (a, s), (b, r) = _levels(schedule, start), _levels(schedule, end)
    growth = ((b**2 * distribution.values + r**2) / (a**2 * distribution.values + s**2)).sqrt()
    apart = distribution.along(distribution.flat(x) - a * distribution.mean)
    return (b * distribution.mean + distribution.back(apart * growth)).reshape(x.shape)


@probability_flow.register
def _(distribution: GaussianMixture, schedule: Schedule, x: Tensor, start: float, end: float) -> Tensor:
    if distribution.size != 1:
        raise ValueError(f"the flow of a mixture over {distribution.size} numbers has no closed form; one number has")
    flat = distribution.flat(x)
    left, right = _tails(distribution, flat, *_levels(schedule, start))
    alpha, sigma = _levels(schedule, end)
    reach = alpha * distribution.means.abs().max() + 40 * (alpha**2 * distribution.stds.max() ** 2 + sigma**2).sqrt()
    low, high = torch.full_like(flat, -float(reach)), torch.full_like(flat, float(reach))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        at_left, at_right = _tails(distribution, middle, alpha, sigma)
        # by the smaller of the two tails, so that no digits are lost to 1 - F
        too_low = torch.where(left < right, at_left < left, at_right > right)
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return (0.5 * (low + high)).reshape(x.shape)


def _levels(schedule: Schedule, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def _tails(mixture: GaussianMixture, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    """P(X < x) and P(X > x) at a noise level, (b, 1) each."""
    spread = (alpha**2 * mixture.stds**2 + sigma**2).sqrt()
    z = (x - alpha * mixture.means.T) / spread
    left, right = (0.5 * torch.erfc(sign * z / math.sqrt(2)) for sign in (-1, 1))
    return (mixture.weights * left).sum(-1, keepdim=True), (mixture.weights * right).sum(-1, keepdim=True)
