"""RePaint: known pixels are put in at every noise level, and time travel makes the rest agree with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mezzotint.restore.fit import check_fit
from mezzotint.restore.problem import Problem
from mezzotint.restore.replaced import ReplacedSteps, is_selection
from mezzotint.restore.restorer import SampledRestorer
from mezzotint.restore.travel import TimeTravel
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["RePaint"]


@dataclass(frozen=True)
class RePaint(SampledRestorer):
    """x_s = m (alpha_s y + sigma_s z) + (1 - m) DDIM(x_t), each `jump` steps gone through `times` times.

    For masks, and for any operator that keeps some coordinates of an orthonormal system and drops the others
    (singular values 0 and 1). times = 1 has no jumps, one network call a step; what is known comes out as it went in.

    Args:
        jump: steps of a turn, >= 1.
        times: how often each stretch is gone through, >= 1.
        eta: of DDIM, in [0, 1]; 1 is the paper's ancestral sampler.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for another operator.

    Source: arXiv 2201.09865, algorithm 1 (250 steps, jump 10, times 10).

    >>> RePaint().nfe(100), RePaint(times=1).nfe(100)
    (910, 100)
    """

    jump: int = 10
    times: int = 10
    eta: float = 1.0
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TimeTravel(DDIM(self.eta), self.jump, self.times)

    def nfe(self, steps: int) -> int:
        """Network calls: n + (times - 1) jump ceil((n - jump) / jump)."""
        return TimeTravel(DDIM(self.eta), self.jump, self.times).nfe(steps)

    def sampler(self, problem: Problem) -> Sampler:
        """See SampledRestorer.sampler."""
        check_fit(problem)
        if not is_selection(problem.operator, problem.guess):
            raise ValueError(
                f"RePaint needs a mask, or an operator whose singular values are 0 and 1; "
                f"{type(problem.operator).__name__} is none. DDNM, PiGDM and ILVR take any linear operator"
            )
        steps = ReplacedSteps(DDIM(self.eta), problem, selection=True)
        return TimeTravel(steps, self.jump, self.times) if self.times > 1 else steps
