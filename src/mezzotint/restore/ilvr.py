"""ILVR: at every noise level the low frequencies are those of a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mezzotint.restore.fit import check_fit
from mezzotint.restore.problem import Problem
from mezzotint.restore.replaced import ReplacedSteps, is_selection
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["ILVR"]


@dataclass(frozen=True)
class ILVR(SampledRestorer):
    """x_s = x' + Phi(y_s) - Phi(x'), x' = DDIM(x_t), y_s the reference noised to the level, Phi = A+ A.

    With an operator that scales down, Phi scales down and up again: the paper's low pass. Any linear operator goes,
    as Phi is the projection on what it measures; y is then A(reference). A coarser operator than the measurement's
    leaves more freedom, and `until` leaves the last steps to the model.

    Args:
        until: no replacement at times below this one, in [0, 1).
        eta: of DDIM, in [0, 1]; 1 is the paper's ancestral sampler.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer.

    Source: arXiv 2108.02938, algorithm 1 (its low pass is a bicubic resize down and up).

    >>> ILVR(until=0.2)
    ILVR(until=0.2, eta=1.0)
    """

    until: float = 0.0
    eta: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.until < 1:
            raise ValueError(f"ILVR got until={self.until}; expected a time in [0, 1), 0 to replace at every step")
        DDIM(self.eta)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        return ReplacedSteps(DDIM(self.eta), problem, is_selection(problem.operator, problem.guess), self.until)
