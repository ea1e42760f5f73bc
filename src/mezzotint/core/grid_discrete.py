"""Time grids on the integer steps of a Discrete schedule, as diffusers spaces them.

Step i = 0 .. N-1 lies at t = (i + 1) / N; every grid ends with t = 0, where the last step returns the data prediction
(diffusers: set_alpha_to_one, or final_sigmas_type="zero"). diffusers' names are those of arXiv 2305.08891, table 2.
Its solvers of several steps (DPMSolverMultistep, UniPC, DEIS, ...) place one step more than they take and leave out
the lowest; its DDIM, DDPM and Euler schedulers do not: `drop_last` says which.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core.discrete import Discrete
from mezzotint.core.grid import _check_steps, uniform_t
from mezzotint.core.schedule import Schedule
from mezzotint.core.shifted import Shifted

__all__ = ["leading", "linspace", "trailing"]


def trailing(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """Steps N - 1, N - 1 - N/n, ..., rounded (halves to even): from t = 1, where sampling has to begin.

    On a continuous schedule it is uniform_t.

    Args:
        schedule: Discrete, or Shifted over it; or continuous.
        steps: n, 1 to N.

    Raises:
        ValueError: for more steps than the schedule has.

    Source: arXiv 2305.08891, table 2; diffusers' timestep_spacing="trailing".

    >>> trailing(Discrete.linear(), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    total = _trained(schedule)
    if total is None:
        return uniform_t(schedule, steps)
    _check_count("trailing", steps, total)
    # the rounding of numpy's arange decides where halves fall; its spare last element (for some n) is not a step
    return _times(np.arange(total, 0, -total / steps)[:steps].round() - 1, total)


def leading(schedule: Schedule, steps: int, *, offset: int = 0, drop_last: bool = False) -> Float64[Tensor, " n"]:
    """Steps 0, r, 2 r, ... with r = N // n, plus an offset: it begins below t = 1.

    Args:
        schedule: Discrete, or Shifted over it.
        steps: n, 1 to N.
        offset: added to every step: 1 for Stable Diffusion (diffusers' steps_offset).
        drop_last: r = N // (n + 1), and the lowest step is left out (diffusers' multistep solvers).

    Raises:
        ValueError: for a continuous schedule, more steps than the schedule has, or an offset beyond its last step.

    Source: diffusers' timestep_spacing="leading".

    >>> leading(Discrete.linear(), 4, offset=1).tolist()
    [0.752, 0.502, 0.252, 0.002, 0.0]
    """
    total = _needed("leading", schedule)
    places = _check_count("leading", steps, total) + drop_last
    if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise ValueError(f"leading got offset={offset!r}; expected a whole number >= 0 (1 for Stable Diffusion)")
    ratio = total // places
    chosen = np.arange(int(drop_last), places) * ratio + offset
    if ratio == 0 or chosen[-1] >= total:
        raise ValueError(
            f"leading got steps={steps}, offset={offset}: its first step would be {int(chosen[-1])} of a schedule that "
            f"ends at {total - 1}, or steps would meet; take fewer steps or a smaller offset"
        )
    return _times(chosen[::-1], total)


def linspace(schedule: Schedule, steps: int, *, drop_last: bool = False, whole: bool = True) -> Float64[Tensor, " n"]:
    """Steps from N - 1 to 0 in equal parts, rounded (halves to even); a single step is 0, as numpy has it.

    Args:
        schedule: Discrete, or Shifted over it.
        steps: n, 1 to N.
        drop_last: n + 1 parts, and the lowest step is left out (diffusers' multistep solvers).
        whole: False leaves fractions (diffusers' Euler and Heun schedulers; there sigma is linear between the integer
            steps, here log alpha is, so that the noise level differs in the fourth digit).

    Raises:
        ValueError: for a continuous schedule, or more steps than the schedule has.

    Source: diffusers' timestep_spacing="linspace".

    >>> linspace(Discrete.linear(), 4).tolist()
    [1.0, 0.667, 0.334, 0.001, 0.0]
    """
    total = _needed("linspace", schedule)
    places = _check_count("linspace", steps, total) + drop_last
    chosen = np.linspace(0, total - 1, places)[::-1][:steps]
    return _times(chosen.round() if whole else chosen, total)


def _times(chosen: np.ndarray, total: int) -> Tensor:
    """The times of steps, and 0."""
    return torch.from_numpy(np.append((chosen + 1.0) / total, 0.0))


def _trained(schedule: Schedule) -> int | None:
    """N; None where the schedule is continuous. A shift moves noise levels, not times."""
    while isinstance(schedule, Shifted):
        schedule = schedule.base
    return schedule.steps if isinstance(schedule, Discrete) else None


def _needed(name: str, schedule: Schedule) -> int:
    total = _trained(schedule)
    if total is None:
        raise ValueError(
            f"the grid {name!r} spaces integer training steps, and {type(schedule).__name__} is continuous; "
            "take uniform-t, uniform-lambda or karras"
        )
    return total


def _check_count(name: str, steps: int, total: int) -> int:
    if _check_steps(steps) > total:
        raise ValueError(f"{name} got steps={steps}; a schedule of {total} steps has at most that many")
    return steps
