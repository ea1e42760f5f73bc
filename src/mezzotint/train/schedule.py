"""Learning-rate schedules: pure functions from a step to a factor of the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

RateSchedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """A constant factor of 1 after a linear warm-up.

        factor(s) = min(1, (s + 1) / (warmup + 1))

    Args:
        warmup: steps of warm-up; 0 for none.

    >>> [Constant(warmup=3)(s) for s in (0, 1, 3, 100)]
    [0.25, 0.5, 1.0, 1.0]
    """

    warmup: int = 0

    def __call__(self, step: int) -> float:
        return _warm(step, self.warmup)


@dataclass(frozen=True)
class CosineDecay:
    """A linear warm-up times half a cosine from 1 to `final`, which it keeps after `steps`.

        factor(s) = warm(s) (final + (1 - final) (1 + cos(pi p)) / 2),  p = clip((s - warmup) / (steps - warmup), 0, 1)

    Args:
        steps: length of the run.
        warmup: steps of warm-up, counted in `steps`.
        final: factor at the end, in [0, 1].

    >>> [round(CosineDecay(steps=10)(s), 3) for s in (0, 5, 10, 11)]
    [1.0, 0.5, 0.0, 0.0]
    """

    steps: int
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"expected 0 <= warmup < steps, got warmup={self.warmup}, steps={self.steps}")
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final is a factor in [0, 1], got {self.final}")

    def __call__(self, step: int) -> float:
        progress = min(max((step - self.warmup) / (self.steps - self.warmup), 0.0), 1.0)
        decay = self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))
        return _warm(step, self.warmup) * decay


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / (warmup + 1))
