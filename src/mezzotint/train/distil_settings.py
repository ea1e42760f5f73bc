"""The settings of a distillation's stages: how long, and at which rate, each student learns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mezzotint.train.recipe import AdamW, Budget
from mezzotint.train.schedule import RateSchedule

__all__ = ["Annealed", "Guiding", "Halving", "LinearDecay"]

_FEW = 4  # steps from which on halvings are longer


@dataclass(frozen=True)
class LinearDecay:
    """factor(s) = 1 - s / steps, 0 from `steps` on.

    Args:
        steps: length of the run.

    >>> [LinearDecay(4)(s) for s in (0, 1, 4, 5)]
    [1.0, 0.75, 0.0, 0.0]
    """

    steps: int

    def __call__(self, step: int) -> float:
        return max(1.0 - step / self.steps, 0.0)


@dataclass(frozen=True)
class Annealed(AdamW):
    """Adam at a rate that falls linearly to 0 over the stage, whatever its `schedule` says; no weight decay.

    Source: arXiv 2202.00512, appendix B (code).
    """

    lr: float = 1e-4
    weight_decay: float = 0.0

    def rate(self, steps: int) -> RateSchedule:
        """See AdamW.rate."""
        return LinearDecay(steps)


@dataclass(frozen=True)
class Guiding:
    """Stage 1: one network learns the guided prediction of any weight.

    Args:
        optimiser: constant 1e-4 in the paper.
        budget: of the stage.
        ema: largest decay of the average, which is what is kept.
    """

    optimiser: AdamW = AdamW(lr=1e-4, weight_decay=0.0)
    budget: Budget = Budget(steps=5000)
    ema: float | None = 0.9999


@dataclass(frozen=True)
class Halving:
    """Stage 2, once for each halving: a fresh optimiser, no average.

    Args:
        optimiser: annealed.
        budget: of each halving.
        longer: times as many steps for students of 4 steps and less.
    """

    optimiser: Annealed = Annealed()
    budget: Budget = Budget(steps=2000)
    longer: float = 2.0

    def of(self, steps: int) -> Budget:
        """The budget of the halving to so many steps."""
        return replace(self.budget, steps=round(self.budget.steps * (self.longer if steps <= _FEW else 1)))
