"""A time grid by the noise levels that are given, for consistency sampling above all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core.grid import Grid
from mezzotint.core.schedule import Schedule

__all__ = ["at_sigmas"]


def at_sigmas(sigmas: Sequence[float]) -> Grid:
    """The grid that evaluates at these levels sigma / alpha and ends at t = 0.

    Levels, not indices into a grid of N: an index means another level at another N. The first is t = 1 where it
    reaches the schedule's own last level (within 1e-6).

    Args:
        sigmas: falling, > 0; as many as there are steps.

    Returns:
        A grid function; `steps` must be len(sigmas).

    Raises:
        ValueError: for no level, levels that do not fall or are not positive; from the grid, for a level above the
            schedule's or another number of steps.

    >>> from mezzotint.core.schedule import Flow
    >>> at_sigmas([4.0, 1.0])(Flow(), 2).tolist()
    [0.8, 0.5, 0.0]
    """
    levels = [float(sigma) for sigma in sigmas]
    falling = all(a > b for a, b in zip(levels, levels[1:]))
    if not levels or not falling or not all(0 < level < math.inf for level in levels):
        raise ValueError(f"at_sigmas got {levels}; expected falling noise levels sigma / alpha > 0, as [80.0, 1.0]")

    def grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
        if steps != len(levels):
            raise ValueError(f"a grid at {len(levels)} noise levels has {len(levels)} steps, not {steps}")
        top = float(schedule.half_log_snr(torch.ones((), dtype=torch.float64)).neg().exp())
        if levels[0] > top * (1 + 1e-6):
            raise ValueError(f"at_sigmas got {levels[0]:g}; this schedule reaches sigma/alpha={top:.6g} at t = 1")
        t = schedule.t_of(-torch.tensor(levels, dtype=torch.float64).log())
        if levels[0] >= top * (1 - 1e-6):
            t[0] = 1.0
        return torch.cat([t, t.new_zeros(1)])

    return grid
