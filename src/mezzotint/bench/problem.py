"""What every solver of the comparison solves: one probability flow, in the units that all libraries share.

y = x / alpha and s = sigma / alpha, where dy/ds = (y - D(y, s)) / s; schedules that differ only in scale are one there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import VE, Condition, Denoiser, GaussianMixture, Noise
from mezzotint.core.exact import probability_flow

__all__ = ["Problem", "known_mixture", "levels", "of_denoiser"]


@dataclass(frozen=True)
class Problem:
    """One flow to be solved.

    Args:
        name: of the problem.
        data: (y, s) -> D, the data prediction, (b, *s), at noise level s.
        start: y at `high`, (b, *s).
        high, low: noise levels sigma / alpha, 0 < low < high.
        truth: y at `low`, (b, *s).
        solved_by: how the truth was found.
    """

    name: str
    data: Callable[[Tensor, float], Tensor]
    start: Tensor
    high: float
    low: float
    truth: Tensor
    solved_by: str

    def error(self, y: Float[Tensor, "b *s"]) -> float:
        """Root mean square error; infinite where y is not finite."""
        rms = float((y.double() - self.truth.double()).square().mean().sqrt())
        return rms if math.isfinite(rms) else math.inf


def levels(problem: Problem, steps: int) -> list[float]:
    """steps + 1 noise levels, uniform in log s (so in half-log-SNR) from high to low, both included.

    >>> [round(s, 9) for s in levels(known_mixture(draws=1), 4)[:: 4]]
    [80.0, 0.01]
    """
    ratio = math.log(problem.low / problem.high) / steps
    return [problem.high * math.exp(ratio * i) for i in range(steps)] + [problem.low]


def known_mixture(draws: int = 256) -> Problem:
    """Three Gaussians on a line, whose flow is known by its quantiles (the test bed of arXiv 2211.01095's sheet)."""
    double = torch.float64
    mixture = GaussianMixture(
        torch.tensor([[-1.0], [0.4], [1.2]], dtype=double),
        torch.tensor([0.35, 0.5, 0.4], dtype=double),
        torch.tensor([0.3, 0.4, 0.3], dtype=double),
    )
    schedule, high, low = VE(0.002, 80.0), 80.0, 0.01
    start = high * Noise(range(draws))("x_T", 0, (1,), dtype=double)
    end = float(schedule.t_of(torch.tensor(-math.log(low), dtype=double)))
    exact = mixture.denoiser(schedule)

    def data(y: Tensor, s: float) -> Tensor:
        t = schedule.t_of(torch.full((len(y),), -math.log(s), dtype=double))
        return exact(y, t).x0

    truth = probability_flow(mixture, schedule, start, 1.0, end)
    return Problem("exact mixture", data, start, high, low, truth, "the quantiles of the mixture")


def of_denoiser(
    denoiser: Denoiser, seeds: Noise, shape: tuple[int, ...], c: Condition | None, name: str, steps: int = 1000
) -> Problem:
    """The flow of a network, from s = 80 (or the schedule's noisiest level) to 0.01.

    The truth is our DPM-Solver++ 2M with `steps` steps, so it says nothing of the network's own error.
    """
    from mezzotint.bench.ours import solved  # it solves problems

    double, schedule = torch.float64, denoiser.schedule
    noisiest = -float(schedule.half_log_snr(torch.ones((), dtype=double)))
    high = math.exp(min(math.log(80.0), noisiest))

    @torch.no_grad()
    def data(y: Tensor, s: float) -> Tensor:
        t = schedule.t_of(torch.full((len(y),), -math.log(s), dtype=double)).clamp(max=1)
        alpha = schedule.alpha(t).to(y.dtype).view(-1, *[1] * (y.ndim - 1))
        return denoiser(alpha * y, t.to(y.dtype), c).x0

    start = high * seeds("x_T", 0, shape)
    empty = Problem(name, data, start, high, 0.01, torch.zeros_like(start), f"our DPM-Solver++ 2M, {steps} steps")
    with torch.no_grad():
        return replace(empty, truth=solved("dpmpp-2m", empty, steps))
