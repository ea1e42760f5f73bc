"""MCG: DPS's gradient step, and then the measured part set to the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mezzotint.restore.dps import DPS
from mezzotint.restore.problem import Problem
from mezzotint.restore.replaced import ReplacedSteps, is_selection
from mezzotint.sample.loop import Sampler

__all__ = ["MCG"]


@dataclass(frozen=True)
class MCG(DPS):
    """x' = DPS step; x_s = x' + A+ (alpha_s y + sigma_s A z - A x').

    For a linear operator. For orthonormal rows (masks) A+ = A*, the paper's projection; any other is given its
    pseudo-inverse, our choice, which amplifies what small singular values carry: prefer masks and averages. Where y is
    noisy its noise ends in the image.

    Args:
        zeta, eta, rate: as of DPS. The paper's rate is constant in form and tuned by task.

    Source: arXiv 2206.00941, algorithm 1.
    """

    linear: ClassVar[bool] = True

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        return ReplacedSteps(super().sampler(problem), problem, is_selection(problem.operator, problem.guess))
