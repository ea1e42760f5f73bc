"""Which noise levels training looks at: a distribution over t, one draw a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.core import Noise, Schedule

__all__ = ["LogNormalSigma", "LogitNormalTime", "TimeSampling", "UniformTime"]


@runtime_checkable
class TimeSampling(Protocol):
    """A distribution over training times."""

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """One time in (0, 1] a sample, a function of its seed alone."""
        ...


@dataclass(frozen=True)
class UniformTime:
    """t uniform in (0, 1] (arXiv 2006.11239, in continuous time)."""

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """1 - u, so that t = 0, where nothing is left to predict, is never drawn."""
        return 1 - noise.uniform("t", 0, (), dtype=torch.float64)


@dataclass(frozen=True)
class LogitNormalTime:
    """logit(t) ~ N(mean, std^2): the middle of the path more often than its ends.

    Args:
        mean: above 0 favours noise (in our time, 1 = noise).
        std: > 0.

    Raises:
        ValueError: if std is not positive.

    Source: arXiv 2403.03206, equation 19.

    >>> from mezzotint.core import Flow
    >>> bool((LogitNormalTime()(Noise([0, 1]), Flow()) < 1).all())
    True
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogitNormalTime got std={self.std}; expected a number > 0")

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """sigmoid(mean + std z)."""
        return torch.sigmoid(self.mean + self.std * noise("t", 0, (), dtype=torch.float64))


@dataclass(frozen=True)
class LogNormalSigma:
    """log(sigma / alpha) ~ N(mean, std^2), carried to t by the schedule.

    Args:
        mean, std: EDM's P_mean and P_std; std > 0.

    Raises:
        ValueError: if std is not positive.

    Source: arXiv 2206.00364, table 1 and section 5.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogNormalSigma got std={self.std}; expected a number > 0")

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """t_of(-log sigma), kept inside (0, 1]."""
        log_sigma = self.mean + self.std * noise("t", 0, (), dtype=torch.float64)
        return schedule.t_of(-log_sigma).clamp(1e-6, 1)
