"""The noise levels of consistency training, and how often each neighbouring pair of them is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["IndexLaw", "KarrasLevels", "LogNormalIndex", "Pairs", "UniformIndex"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """One pair of noise levels sigma / alpha a sample, high > low; on the CPU, as levels are small numbers of a few.

    Args:
        high, low: (b,) float64.
        place: (b,) index of `high` among the levels, 0 the noisiest.
        count: N, the number of levels.
    """

    high: Float64[Tensor, " b"]
    low: Float64[Tensor, " b"]
    place: Int64[Tensor, " b"]
    count: int


@dataclass(frozen=True)
class KarrasLevels:
    """sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, i = 0 the noisiest.

    Args:
        sigma_min, sigma_max: the ends, levels sigma / alpha.
        rho: > 0, the warp.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and rho > 0; for fewer than two levels.

    Source: arXiv 2206.00364, equation 5; 2310.14189, section 2 (which counts i from the other end).

    >>> KarrasLevels()(3).tolist()[::2] == [80.0, 0.002]
    True
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max < math.inf and self.rho > 0):
            raise ValueError(
                f"KarrasLevels got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, rho={self.rho}; "
                "expected 0 < sigma_min < sigma_max and rho > 0"
            )

    def __call__(self, count: int) -> Float64[Tensor, " n"]:
        """The N = `count` levels, falling; both ends exact."""
        if count < 2:
            raise ValueError(f"KarrasLevels got count={count}; a pair needs at least 2 levels")
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        levels = (first + torch.linspace(0, 1, count, dtype=torch.float64) * (last - first)) ** self.rho
        levels[0], levels[-1] = self.sigma_max, self.sigma_min
        return levels


@runtime_checkable
class IndexLaw(Protocol):
    """A distribution over the N - 1 pairs (sigma_i, sigma_i+1)."""

    def probabilities(self, levels: Float64[Tensor, " n"]) -> Float64[Tensor, " m"]:
        """p_i, i = 0 .. N - 2, for falling levels."""
        ...

    def __call__(self, noise: Noise, levels: Float64[Tensor, " n"]) -> Pairs:
        """One pair a sample, a function of its seed alone."""
        ...


class _Drawn:
    """Drawing by the inverse of the cumulative sum."""

    def probabilities(self, levels: Float64[Tensor, " n"]) -> Float64[Tensor, " m"]:
        raise NotImplementedError

    def __call__(self, noise: Noise, levels: Float64[Tensor, " n"]) -> Pairs:
        """One pair a sample, from a uniform number of purpose "level"."""
        up_to = self.probabilities(levels).cumsum(0)
        u = noise.uniform("level", 0, (), dtype=torch.float64)
        # the last sum may miss 1 by a rounding: nothing lies beyond the last pair
        place = torch.searchsorted(up_to, u * up_to[-1], right=True).clamp(max=len(levels) - 2)
        return Pairs(levels[place], levels[place + 1], place, len(levels))


@dataclass(frozen=True)
class UniformIndex(_Drawn):
    """Every pair as often as any other (arXiv 2303.01469, algorithm 3)."""

    def probabilities(self, levels: Float64[Tensor, " n"]) -> Float64[Tensor, " m"]:
        """1 / (N - 1)."""
        return torch.full((len(levels) - 1,), 1 / (len(levels) - 1), dtype=torch.float64)


@dataclass(frozen=True)
class LogNormalIndex(_Drawn):
    """p_i ~ Phi((ln sigma_i - mean) / std) - Phi((ln sigma_i+1 - mean) / std): a log-normal in bins of the levels.

    Args:
        mean, std: of ln sigma; std > 0. -1.1 and 2.0 in iCT.

    Raises:
        ValueError: if std is not positive.

    Source: arXiv 2310.14189, equation 10 (section 3.5).

    >>> law = LogNormalIndex()
    >>> round(law.probabilities(KarrasLevels()(641))[480:].sum().item(), 3)
    0.366
    """

    mean: float = -1.1
    std: float = 2.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogNormalIndex got std={self.std}; expected a number > 0")

    def probabilities(self, levels: Float64[Tensor, " n"]) -> Float64[Tensor, " m"]:
        """p_i, summing to 1."""
        below = torch.special.ndtr((levels.log() - self.mean) / self.std)
        mass = below[:-1] - below[1:]
        return mass / mass.sum()
