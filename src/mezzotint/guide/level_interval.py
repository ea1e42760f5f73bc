"""Guidance in a limited interval, stated in noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mezzotint.core import Denoiser
from mezzotint.guide.guided import Guide, GuidedDenoiser
from mezzotint.guide.interval import Interval

__all__ = ["LevelInterval"]

_CLOSE = 1e-5  # a float32 time is that near to a level: nearer ones count as the level itself


@dataclass(frozen=True)
class LevelInterval:
    """Guides where low < sigma / alpha <= high: the low end is exclusive, the high end inclusive.

    `Interval` in times, with its ends where the denoiser's schedule has these levels. Levels within 1e-5 of an end (the
    rounding of float32 times) count as that end.

    Args:
        guide: what is applied inside.
        low, high: noise levels sigma / alpha, 0 <= low < high; for images of height H on levels of 64 pixels, both
            times H / 64.

    Raises:
        ValueError: for other bounds; when called, for levels that the schedule does not have.

    Source: arXiv 2404.07724, equation 5; 0.19 and 1.61 (times H / 64) and the ends' kinds: code of 2510.12586.

    >>> from mezzotint.core import Gaussian, VE
    >>> from mezzotint.guide import CFG
    >>> guided = LevelInterval(CFG(2.0), 0.19, 1.61)(Gaussian(torch.zeros(2), std=1.0).denoiser(VE()))
    """

    guide: Guide
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"LevelInterval got low={self.low}, high={self.high}; expected noise levels sigma / alpha with "
                "0 <= low < high"
            )

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The denoiser that is guided inside the interval."""
        ends = torch.tensor([self.low, self.high], dtype=torch.float64) * (1 + _CLOSE)
        t_low, t_high = denoiser.schedule.t_of(-ends.log()).tolist()
        if not t_low < t_high or math.isnan(t_low):
            raise ValueError(
                f"the levels {self.low} to {self.high} are all above those of this schedule, which ends at t = 1; "
                "are they those of another resolution?"
            )
        return Interval(self.guide, t_low, t_high)(denoiser)
