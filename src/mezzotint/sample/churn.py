"""EDM's churn: before a step, noise is added and the time raised to match."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mezzotint.core import Schedule
from mezzotint.sample.plan import Node, nodes_of

__all__ = ["Churn"]


@dataclass(frozen=True)
class Churn:
    """s_hat = (1 + gamma) s with s = sigma / alpha; x_hat / alpha_hat = x / alpha + sqrt(s_hat^2 - s^2) noise_scale z.

    gamma = min(amount / steps, sqrt(2) - 1) where low <= s <= high, else 0; s_hat never passes the noisiest level of
    the schedule, and at alpha = 0 (s infinite) nothing is added: both our choice, EDM has no such ends.

    Args:
        amount: S_churn, >= 0.
        low, high: S_tmin and S_tmax, 0 <= low <= high, in units of sigma / alpha.
        noise_scale: S_noise, > 0; slightly above 1 makes up for lost detail.

    Raises:
        ValueError: for values outside these ranges.

    Source: arXiv 2206.00364, algorithm 2.
    """

    amount: float
    low: float = 0.0
    high: float = math.inf
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.amount < math.inf:
            raise ValueError(f"Churn got amount={self.amount}; expected a finite number >= 0 (EDM uses 5 to 80)")
        if not 0 <= self.low <= self.high:
            raise ValueError(f"Churn got low={self.low}, high={self.high}; expected 0 <= low <= high")
        if not 0 < self.noise_scale < math.inf:
            raise ValueError(f"Churn got noise_scale={self.noise_scale}; expected a finite number > 0 (EDM: 1.003)")

    def raised(self, schedule: Schedule, node: Node, steps: int) -> tuple[Node, float, float]:
        """The node after the churn, and the weights of x and of z that lead there."""
        s = node.ratio
        if not (self.low <= s <= self.high and math.isfinite(s)):
            return node, 1.0, 0.0
        gamma = min(self.amount / steps, math.sqrt(2) - 1)
        noisiest = nodes_of(schedule, torch.ones(1))[0].ratio
        level = min(s * (1 + gamma), noisiest)
        if level <= s:
            return node, 1.0, 0.0
        t = schedule.t_of(torch.tensor([-math.log(level)], dtype=torch.float64))
        hat = nodes_of(schedule, t)[0]
        spread = math.sqrt(max(hat.ratio**2 - s**2, 0.0)) * self.noise_scale
        return hat, hat.alpha / node.alpha, hat.alpha * spread
