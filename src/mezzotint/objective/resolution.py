"""EDM's noise levels for images of another size, and what x-prediction trains on there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mezzotint.core import VE, Noise, Schedule, Shifted
from mezzotint.core.grid import karras
from mezzotint.objective.levels import KarrasLevels

__all__ = ["KarrasSpacing", "ResolutionLevels", "SnappedLogNormal"]


@dataclass(frozen=True)
class ResolutionLevels:
    """Levels s_i of 64-pixel images, carried to images of height H: sigma = s H / 64.

    Larger images average noise away over more pixels, so that the same picture needs more of it. The height sets the
    shift where the sides differ (our choice). `schedule` is the noise schedule to build a denoiser on; `minimum` the
    boundary of a consistency function on it.

    Args:
        height: H, pixels.
        reference: height at which the levels hold as they are.
        levels: of the reference.

    Raises:
        ValueError: for heights below 1.

    Source: arXiv 2510.12586, code; the constants of EDM, 2206.00364.

    >>> at = ResolutionLevels(256)
    >>> at.minimum, at.maximum, at.shift
    (0.008, 320.0, 4.0)
    """

    height: int
    reference: int = 64
    levels: KarrasLevels = KarrasLevels()

    def __post_init__(self) -> None:
        if self.height < 1 or self.reference < 1:
            raise ValueError(
                f"ResolutionLevels got height={self.height}, reference={self.reference}; expected pixels, at least 1"
            )

    @property
    def shift(self) -> float:
        """H / 64."""
        return self.height / self.reference

    @property
    def minimum(self) -> float:
        """The least noise level."""
        return self.levels.sigma_min * self.shift

    @property
    def maximum(self) -> float:
        """The greatest noise level."""
        return self.levels.sigma_max * self.shift

    @property
    def schedule(self) -> Schedule:
        """The variance-exploding schedule between them."""
        return Shifted(VE(self.levels.sigma_min, self.levels.sigma_max), self.shift)  # type: ignore[return-value]

    @property
    def shifted(self) -> KarrasLevels:
        """The levels of this height: shift s_i."""
        return KarrasLevels(self.minimum, self.maximum, self.levels.rho)

    def grid(self, schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
        """A sampler's times: `steps` + 1 Karras levels from the greatest to the least, without a step to 0 after it."""
        low, rho = self.minimum, self.levels.rho
        return karras(schedule, steps + 1, sigma_min=low, sigma_max=self.maximum, rho=rho)[:-1]

    def nearest(self, s: Float64[Tensor, " b"], count: int) -> Int64[Tensor, " b"]:
        """The index of the nearest of `count` unshifted levels."""
        rising = self.levels(count).flip(0)
        middles = 0.5 * (rising[1:] + rising[:-1])
        return count - 1 - torch.bucketize(s.to(torch.float64).cpu(), middles)


@dataclass(frozen=True)
class SnappedLogNormal:
    """ln s ~ N(mean, std^2), moved to the nearest of `count` levels; the noise level is s H / 64.

    Args:
        resolution: the levels, and the height of the images.
        mean, std: of ln s; std > 0.
        count: of levels.

    Raises:
        ValueError: if std is not positive.

    Source: arXiv 2510.12586, code (stage 2, diffusion).

    >>> at = ResolutionLevels(64)
    >>> t = SnappedLogNormal(at)(Noise([0]), at.schedule)
    >>> bool((at.schedule.sigma(t) - at.levels(1280)).abs().min() < 1e-12)
    True
    """

    resolution: ResolutionLevels
    mean: float = -1.2
    std: float = 1.6
    count: int = 1280

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"SnappedLogNormal got std={self.std}; expected a number > 0")

    def __call__(self, noise: Noise, schedule: Schedule) -> Float64[Tensor, " b"]:
        """One time a sample; see `TimeSampling`."""
        s = (self.mean + self.std * noise("t", 0, (), dtype=torch.float64)).exp()
        levels = self.resolution.shifted(self.count)[self.resolution.nearest(s, self.count)]
        return schedule.t_of(-levels.log())


@dataclass(frozen=True)
class KarrasSpacing:
    """1 / (s_i - s_i+1) on the x0 error: the distance to the next level, before the shift.

    Over the levels it spans four orders of magnitude, (s_max / s_min)^(6/7); it is worked in float64. The last level
    counts as the one before it, which has a next (our choice).

    Args:
        resolution: the levels, and the height of the images.
        count: of levels.

    Source: arXiv 2510.12586, code (stage 2, diffusion).

    >>> at = ResolutionLevels(64, levels=KarrasLevels(1.0, 3.0, rho=1.0))
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> KarrasSpacing(at, count=5)("x0", one, 2 * one).item()
    2.0
    """

    resolution: ResolutionLevels
    count: int = 1280

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """See `Weighting`; the x0 error is that of y = x_t / alpha's data."""
        levels = self.resolution.levels(self.count)
        place = self.resolution.nearest((sigma / alpha).double() / self.resolution.shift, self.count).clamp(
            max=self.count - 2
        )
        weight = 1 / (levels[place] - levels[place + 1])
        slope = {
            "x0": torch.ones_like(sigma),
            "eps": sigma / alpha,
            "v": sigma / (alpha**2 + sigma**2),
            "flow": sigma / (alpha + sigma),
        }[kind]
        return weight.to(sigma.device) * slope.double() ** 2
