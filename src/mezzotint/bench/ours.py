"""Our solvers on a problem of the comparison."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from mezzotint.bench.problem import Problem, levels
from mezzotint.core import VE, Condition, Denoiser, Prediction
from mezzotint.sample import NAMED, Sampler, sampler_named

__all__ = ["OURS", "deterministic", "solved", "steps_within"]

_SCHEDULE = VE(0.002, 80.0)
# They solve another equation on purpose.
_APART = ("lcm", "restart", "dualfast-ddim", "dualfast-dpmpp-2m")
OURS = "mezzotint"


def deterministic() -> list[str]:
    """The named samplers that solve the flow without drawing noise."""
    return [name for name, entry in NAMED.items() if name not in _APART and not entry.stochastic]


def solved(name: str | Sampler, problem: Problem, steps: int) -> Tensor:
    """y at the problem's low level, by one of our samplers on its levels.

    The levels stop above 0, so the last steps are not taken with lower orders: that is for a step to 0.
    """
    sampler = sampler_named(name) if isinstance(name, str) else name
    if hasattr(sampler, "lower_order_final"):
        sampler = replace(sampler, lower_order_final=False)
    times = _SCHEDULE.t_of(-torch.tensor(levels(problem, steps), dtype=torch.float64).log())
    return sampler(_Given(problem), problem.start, grid=times)


def steps_within(name: str, problem: Problem, nfe: int) -> int | None:
    """The steps that cost exactly nfe evaluations on a grid that does not end at 0; None where there are none."""
    sampler = sampler_named(name)
    for steps in (nfe, nfe // 2, nfe // 3, nfe // 4):
        if steps >= 1:
            times = _SCHEDULE.t_of(-torch.tensor(levels(problem, steps), dtype=torch.float64).log())
            if sampler.plan(_SCHEDULE, times).nfe == nfe:
                return steps
    return None


class _Given(Denoiser):
    """A problem's data prediction as a denoiser; the level is that of the first sample, which all share."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(_SCHEDULE)
        self.problem = problem

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        lam = float(_SCHEDULE.half_log_snr(t[:1].double()))
        return Prediction.from_x0(self.problem.data(x_t, math.exp(-lam)), x_t, t, _SCHEDULE)
