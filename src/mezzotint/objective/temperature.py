"""The temperature of the representation-consistency loss, by step and by noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["ConstantTau", "CosineTau", "Temperature"]


@runtime_checkable
class Temperature(Protocol):
    """A temperature for each training step and noise level."""

    def __call__(self, step: int, fraction: float) -> float:
        """tau > 0 at `step` and at a level (s - s_min) / (s_max - s_min) = `fraction` in [0, 1]."""
        ...


@dataclass(frozen=True)
class ConstantTau:
    """tau, always: what the released configuration uses.

    Args:
        tau: > 0.

    Raises:
        ValueError: if tau is not positive.

    Source: arXiv 2510.12586, code; the paper finds it nearly as good, but unstable for a while at the start.
    """

    tau: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"ConstantTau got tau={self.tau}; expected a temperature > 0")

    def __call__(self, step: int, fraction: float) -> float:
        """See Temperature."""
        return self.tau


@dataclass(frozen=True)
class CosineTau:
    """Softer at high noise, and less so as training goes on.

        tau = (1 - f) end + f tau2(k),   tau2(k) = end + (start - end) (1 + cos(pi min(1, 1.5 k / K))) / 2

    Args:
        steps: K, the length of the training.
        start: tau2(0), >= end.
        end: tau at no noise, and everywhere from step 2K/3 on; > 0.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2510.12586 (linear in sigma, a cosine in time); the constants and the form of the cosine are our
    choice: the released one is right only where start = 2 end.

    >>> tau = CosineTau(900)
    >>> tau(0, 1.0), tau(0, 0.5), round(tau(300, 1.0), 3), tau(600, 1.0)
    (0.2, 0.15000000000000002, 0.15, 0.1)
    """

    steps: int
    start: float = 0.2
    end: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.end <= self.start < math.inf:
            raise ValueError(
                f"CosineTau got steps={self.steps}, start={self.start}, end={self.end}; expected steps >= 1 and "
                "0 < end <= start"
            )

    def __call__(self, step: int, fraction: float) -> float:
        """See Temperature."""
        now = self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * min(1.0, 1.5 * step / self.steps)))
        return self.end * (1 - fraction) + now * fraction
