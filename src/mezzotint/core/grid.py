"""Time grids: (schedule, steps) -> (steps + 1,) float64 times on the CPU, falling from 1 (noise) to 0 (data)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core.schedule import Schedule

__all__ = ["Grid", "explicit", "karras", "quadratic", "resolve_grid", "uniform_lambda", "uniform_t"]

Grid = Callable[[Schedule, int], Tensor]

# Where lambda(1) lies lower (-inf for Flow, Cosine) a lambda grid begins here instead: arXiv 2211.01095, official code,
# clips cosine schedules at -5.1.
_LOWEST_LAMBDA = -5.1


def _check_steps(steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r}; expected a whole number >= 1")
    return steps


def _time(value: float, schedule: Schedule) -> Tensor:
    return schedule.half_log_snr(torch.tensor(value, dtype=torch.float64))


def uniform_t(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """Uniform in t: t_i = 1 - i / steps.

    >>> from mezzotint.core.schedule import VP
    >>> uniform_t(VP(), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    return torch.linspace(1, 0, _check_steps(steps) + 1, dtype=torch.float64)


def quadratic(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """Uniform in sqrt(t): t_i = (1 - i / steps)^2 (arXiv 2010.02502, appendix D.3)."""
    return uniform_t(schedule, steps) ** 2


def uniform_lambda(
    schedule: Schedule, steps: int, *, t_start: float = 1.0, t_end: float = 1e-3, to_zero: bool = True
) -> Float64[Tensor, " n"]:
    """Uniform in lambda = log(alpha / sigma) from t_start to t_end, then 0.

    With to_zero, the first `steps` nodes are uniform and the last is t = 0 (lambda is infinite there); without, all
    steps + 1 nodes are uniform and the grid stops at t_end, which is how orders of accuracy are measured. Where
    lambda(t_start) lies below -5.1 (it is -inf on Flow and Cosine, -7.5 on a VP with beta_max = 30) the spacing begins
    at -5.1 and the first node is moved to t_start: that much noise needs no steps.

    Args:
        schedule: any.
        steps: >= 1.
        t_start, t_end: 1 >= t_start > t_end > 0.
        to_zero: whether the last node is t = 0.

    Raises:
        ValueError: for steps < 1 or times out of order.

    Source: arXiv 2206.00927, section 3.4 (logSNR steps).

    >>> from mezzotint.core.schedule import VP
    >>> uniform_lambda(VP(), 3)[[0, -1]].tolist()
    [1.0, 0.0]
    """
    if not 0 < t_end < t_start <= 1:
        raise ValueError(f"uniform_lambda got t_start={t_start}, t_end={t_end}; expected 0 < t_end < t_start <= 1")
    nodes = _check_steps(steps) + (0 if to_zero else 1)
    first, last = _time(t_start, schedule).clamp(min=_LOWEST_LAMBDA).item(), _time(t_end, schedule).item()
    if not first < last:
        raise ValueError(f"uniform_lambda got t_end={t_end}, which lies above lambda {_LOWEST_LAMBDA}; lower t_end")
    t = schedule.t_of(torch.linspace(first, last, nodes, dtype=torch.float64))
    return _ends(t, start=t_start, end=None if to_zero else t_end, to_zero=to_zero)


def karras(
    schedule: Schedule, steps: int, *, sigma_min: float = 0.002, sigma_max: float | None = None, rho: float = 7.0
) -> Float64[Tensor, " n"]:
    """EDM's grid in s = sigma / alpha: s_i = (s_max^(1/rho) + i/(n-1) (s_min^(1/rho) - s_max^(1/rho)))^rho, then 0.

    Args:
        schedule: any.
        steps: n, >= 1.
        sigma_min, sigma_max: noise levels sigma / alpha, 0 < sigma_min < sigma_max. The default of sigma_max is the
            schedule's own at t = 1, or 80 where that is infinite (the first node is then moved to t = 1).
        rho: > 0, the warp.

    Raises:
        ValueError: for sigma_min >= sigma_max, sigma_max above the schedule's, rho <= 0 or steps < 1.

    Source: arXiv 2206.00364, equation 5.

    >>> from mezzotint.core.schedule import VE
    >>> karras(VE(), 2)[-1].item()
    0.0
    """
    _check_steps(steps)
    top = math.exp(-_time(1.0, schedule).item())
    chosen = sigma_max if sigma_max is not None else (80.0 if math.isinf(top) else top)
    if not 0 < sigma_min < chosen:
        raise ValueError(f"karras got sigma_min={sigma_min}, sigma_max={chosen}; expected 0 < sigma_min < sigma_max")
    if chosen > top * (1 + 1e-9):
        raise ValueError(f"karras got sigma_max={chosen}; this schedule reaches sigma/alpha={top:.6g} at t = 1")
    if not rho > 0:
        raise ValueError(f"karras got rho={rho}; expected a number > 0")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (chosen ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - chosen ** (1 / rho))) ** rho
    start = 1.0 if sigma_max is None or chosen >= top else None
    return _ends(schedule.t_of(-levels.log()), start=start, end=None, to_zero=True)


def _ends(t: Tensor, *, start: float | None, end: float | None, to_zero: bool) -> Tensor:
    """Sets the nodes that are known exactly, so that rounding in t_of cannot move an end."""
    if start is not None:
        t[0] = start
    if end is not None:
        t[-1] = end
    return torch.cat([t, t.new_zeros(1)]) if to_zero else t


def explicit(times: Sequence[float] | Tensor) -> Grid:
    """A grid function that returns these times, whatever the schedule; steps must be len(times) - 1."""
    nodes = torch.as_tensor(times, dtype=torch.float64, device="cpu").clone()

    def grid(schedule: Schedule, steps: int) -> Tensor:
        if steps != len(nodes) - 1:
            raise ValueError(f"an explicit grid of {len(nodes)} times has {len(nodes) - 1} steps, not {steps}")
        return nodes.clone()

    return grid


def resolve_grid(
    grid: Grid | Tensor | None, schedule: Schedule, steps: int | None, default: Grid = uniform_t
) -> Float64[Tensor, " n"]:
    """The times of a run: from a grid function and a number of steps, or from a tensor of times.

    Args:
        grid: a grid function; a descending (n + 1,) tensor in [0, 1]; or None for `default`.
        schedule: the denoiser's.
        steps: n; may be None when grid is a tensor.
        default: the sampler's own grid.

    Raises:
        ValueError: if steps is missing or contradicts the tensor, or if the times are not finite, not inside [0, 1],
            or do not fall strictly (in t and so in log-SNR).
    """
    if isinstance(grid, Tensor):
        if grid.ndim != 1 or len(grid) < 2:
            raise ValueError(f"grid has shape {tuple(grid.shape)}; expected (n + 1,) falling times with n >= 1")
        if steps is not None and steps != len(grid) - 1:
            raise ValueError(f"steps={steps} but the grid has {len(grid)} times, so {len(grid) - 1} steps; give one")
        times = grid.detach().to("cpu", torch.float64)
    else:
        if steps is None:
            raise ValueError("neither steps nor a tensor of times was given; pass steps=20 or grid=times")
        times = (grid or default)(schedule, _check_steps(steps))
    inside = bool(torch.isfinite(times).all()) and float(times.min()) >= 0 and float(times.max()) <= 1
    if not inside:
        raise ValueError(f"grid leaves [0, 1]: {times.tolist()[:8]}; times run from 1 (noise) down to 0 (data)")
    falls = times[1:] < times[:-1]
    if not bool(falls.all()):
        where = int((~falls).nonzero()[0]) + 1
        raise ValueError(
            f"time grid is not monotone in log-SNR at index {where} "
            f"({times[where - 1]:.6g} then {times[where]:.6g}); times must fall strictly"
        )
    return times
