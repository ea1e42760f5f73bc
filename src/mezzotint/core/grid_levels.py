"""Time grids by noise level sigma / alpha, over the range of levels that the model was trained on."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core.beta_quantile import beta_quantile
from mezzotint.core.discrete import Discrete
from mezzotint.core.grid import _check_steps
from mezzotint.core.schedule import Schedule
from mezzotint.core.shifted import Shifted

__all__ = ["beta", "beta_levels", "exponential", "karras_own", "own_levels"]

_FIRST = 1e-3  # where a continuous schedule's own levels begin: what a thousand steps would have first
_MOST = 80.0  # and end, where sigma/alpha is infinite at t = 1: the sigma_max of arXiv 2206.00364


def own_levels(schedule: Schedule) -> tuple[float, float]:
    """The least and the greatest sigma/alpha of a model: of a Discrete schedule those of its first and last step.

    Of a continuous one those at t = 0.001 and t = 1, at most 80.

    >>> [round(level, 4) for level in own_levels(Discrete.scaled_linear())]
    [0.0292, 14.6146]
    """
    base = schedule
    while isinstance(base, Shifted):
        base = base.base
    first = 1 / base.steps if isinstance(base, Discrete) else _FIRST
    low, high = schedule.half_log_snr(torch.tensor([first, 1.0], dtype=torch.float64)).neg().exp().tolist()
    return low, high if math.isfinite(high) else max(_MOST, 2 * low)


def exponential(
    schedule: Schedule, steps: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> Float64[Tensor, " n"]:
    """Uniform in log(sigma/alpha), which is -lambda, from sigma_max to sigma_min, then 0.

    Args:
        schedule: any.
        steps: n >= 1 levels, of which the first is sigma_max.
        sigma_min, sigma_max: levels sigma/alpha; the schedule's own (`own_levels`) if None.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max <= the schedule's level at t = 1; for steps < 1.

    Source: diffusers' use_exponential_sigmas (k-diffusion's get_sigmas_exponential); and its use_lu_lambdas, which is
    the same thing (arXiv 2206.00927's uniform logSNR).

    >>> exponential(Discrete.linear(), 3)[[0, -1]].tolist()
    [1.0, 0.0]
    """
    low, high = _range("exponential", schedule, steps, sigma_min, sigma_max)
    return _at(schedule, np.exp(np.linspace(math.log(high), math.log(low), steps)), sigma_max is None)


def karras_own(
    schedule: Schedule,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
) -> Float64[Tensor, " n"]:
    """EDM's rule of spacing over the schedule's own levels: s_i = (s_max^(1/rho) + i/(n-1) (s_min^(1/rho) - ...))^rho.

    `karras` is the same rule down to EDM's own 0.002, below what a model of 1000 steps has seen.

    Args:
        schedule: any.
        steps: n >= 1 levels, of which the first is sigma_max.
        sigma_min, sigma_max: levels sigma/alpha; the schedule's own (`own_levels`) if None.
        rho: > 0, the warp.

    Raises:
        ValueError: as for exponential, and for rho <= 0.

    Source: arXiv 2206.00364, equation 5; the range: diffusers' use_karras_sigmas.
    """
    low, high = _range("karras", schedule, steps, sigma_min, sigma_max)
    if not rho > 0:
        raise ValueError(f"karras got rho={rho}; expected a number > 0")
    first, last = high ** (1 / rho), low ** (1 / rho)
    return _at(schedule, (first + np.linspace(0, 1, steps) * (last - first)) ** rho, sigma_max is None)


def beta(schedule: Schedule, steps: int, *, a: float = 0.6, b: float = 0.6) -> Float64[Tensor, " n"]:
    """Quantiles of the beta distribution as times: t_i = Q(1 - i/n), dense at both ends.

    Args:
        schedule: any.
        steps: n >= 1.
        a, b: shapes of the distribution, > 0; 1 and 1 are uniform_t.

    Raises:
        ValueError: for steps < 1, or shapes that are not positive.

    Source: arXiv 2407.12173.

    >>> [round(t, 3) for t in beta(Discrete.linear(), 4).tolist()]
    [1.0, 0.824, 0.5, 0.176, 0.0]
    """
    return torch.from_numpy(beta_quantile(np.linspace(1, 0, _check_steps(steps) + 1), a, b))


def beta_levels(
    schedule: Schedule,
    steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    a: float = 0.6,
    b: float = 0.6,
) -> Float64[Tensor, " n"]:
    """Quantiles of the beta distribution as levels: s_i = s_min + Q(1 - i/(n-1)) (s_max - s_min), then 0.

    Args:
        schedule: any.
        steps: n >= 1 levels, of which the first is sigma_max.
        sigma_min, sigma_max: levels sigma/alpha; the schedule's own (`own_levels`) if None.
        a, b: shapes of the distribution, > 0.

    Raises:
        ValueError: as for exponential, and for shapes that are not positive.

    Source: diffusers' use_beta_sigmas, in the style of arXiv 2407.12173, which spaces times (`beta`).
    """
    low, high = _range("beta_levels", schedule, steps, sigma_min, sigma_max)
    return _at(schedule, low + beta_quantile(1 - np.linspace(0, 1, steps), a, b) * (high - low), sigma_max is None)


def _range(
    name: str, schedule: Schedule, steps: int, sigma_min: float | None, sigma_max: float | None
) -> tuple[float, float]:
    _check_steps(steps)
    own_low, own_high = own_levels(schedule)
    low, high = own_low if sigma_min is None else sigma_min, own_high if sigma_max is None else sigma_max
    top = float(schedule.half_log_snr(torch.ones((), dtype=torch.float64)).neg().exp())
    if not 0 < low < high:
        raise ValueError(f"{name} got sigma_min={low:.6g}, sigma_max={high:.6g}; expected 0 < sigma_min < sigma_max")
    if high > top * (1 + 1e-9):
        raise ValueError(f"{name} got sigma_max={high:.6g}; this schedule reaches sigma/alpha={top:.6g} at t = 1")
    return low, high


def _at(schedule: Schedule, levels: np.ndarray, whole: bool) -> Tensor:
    """The times of the levels, and 0; the first is t = 1 where the schedule is taken whole."""
    t = schedule.t_of(-torch.from_numpy(levels).log())
    if whole:
        t[0] = 1.0
    return torch.cat([t, t.new_zeros(1)])
