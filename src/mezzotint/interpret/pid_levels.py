"""The noise levels of an information integral, and the error that a finite number of them leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Discrete, Noise, Schedule

__all__ = ["InformationLevels", "level_error"]

_FIRST = 1e-3  # the least time of a continuous schedule: the first of a thousand steps


@dataclass(frozen=True)
class InformationLevels:
    """Half log-SNRs from a truncated logistic, one a stratum, and the weights of the integral over them.

    lambda = loc + scale logit(p), p uniform in [sigmoid(-clip), sigmoid(clip)], w = d lambda / d p times the range of
    p, so that mean_k w_k f(lambda_k) estimates the integral of f over lambda. In full log-SNR a = 2 lambda the same
    integral has half the integrand: 1/2 int f da. What the model was not trained on is cut off.

    Args:
        loc, scale: of the logistic, in half log-SNR; the defaults suit Stable Diffusion.
        clip: half the width of the interval, in units of `scale`.
        count: strata, an even number (neighbours give the error).
        draws: noises a level.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2302.03792, official code (there loc 1, scale 2 in full log-SNR); strata are our choice.

    >>> from mezzotint.core import VP
    >>> lam, w = InformationLevels(count=1000)(VP(), Noise([0]))
    >>> abs(float(w.mean()) - 6) < 0.01
    True
    """

    loc: float = 0.5
    scale: float = 1.0
    clip: float = 3.0
    count: int = 100
    draws: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.loc) and 0 < self.scale < math.inf and 0 < self.clip <= 20):
            raise ValueError(
                f"InformationLevels got loc={self.loc}, scale={self.scale}, clip={self.clip}; expected a finite loc, "
                "a scale above 0 and a clip above 0 and at most 20"
            )
        if self.count < 2 or self.count % 2 or self.draws < 1:
            raise ValueError(
                f"InformationLevels got count={self.count}, draws={self.draws}; expected an even number of levels, "
                "2 or more, and 1 draw or more"
            )

    def interval(self, schedule: Schedule) -> tuple[float, float]:
        """The least and the largest lambda: the interval asked for, as far as the schedule has it.

        Raises:
            ValueError: if the schedule has none of it.
        """
        first = 1 / schedule.steps if isinstance(schedule, Discrete) else _FIRST
        least, most = schedule.half_log_snr(torch.tensor([1.0, first], dtype=torch.float64)).tolist()
        low, high = self.loc - self.clip * self.scale, self.loc + self.clip * self.scale
        if max(low, least) >= min(high, most):
            raise ValueError(
                f"levels from lambda {low:g} to {high:g}, but the schedule has {least:.3g} to {most:.3g}; move loc"
            )
        return max(low, least), min(high, most)

    def missing(self, schedule: Schedule) -> float:
        """The share of the logistic's mass in its interval that the schedule cuts off, in [0, 1)."""
        low, high = self._range(schedule)
        return max(0.0, 1 - (high - low) / math.tanh(self.clip / 2))

    def _range(self, schedule: Schedule) -> tuple[float, float]:
        low, high = (1 / (1 + math.exp(-(v - self.loc) / self.scale)) for v in self.interval(schedule))
        return low, high

    def __call__(self, schedule: Schedule, noise: Noise) -> tuple[Float[Tensor, "b count"], Float[Tensor, "b count"]]:
        """lambda and w, (b, count) float64, rising; each sample has its own places in the strata."""
        low, high = self._range(schedule)
        u = noise.uniform("pid-level", 0, (self.count,), dtype=torch.float64)
        p = low + (high - low) * (torch.arange(self.count) + u) / self.count
        return self.loc + self.scale * torch.logit(p), self.scale * (high - low) / (p * (1 - p))


def level_error(told: Float[Tensor, "count *s"]) -> Float[Tensor, "*s"]:
    """Standard error of the mean over strata, from the differences of neighbours: at or above the true one.

    se^2 = sum_k (f_{2k+1} - f_{2k})^2 / count^2; the trend within a pair adds to it.

    Args:
        told: one value a stratum, in order.

    Source: our choice; levels as the independent units: arXiv 2302.03792, official code.
    """
    return (told[1::2] - told[::2]).square().sum(0).sqrt() / len(told)
