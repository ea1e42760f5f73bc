"""How finely the noise axis is divided while a consistency function is trained: step -> number of levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["CeilDoubling", "Curriculum", "Doubling", "FixedLevels"]


@runtime_checkable
class Curriculum(Protocol):
    """A pure function of the training step; `first` is what it begins with."""

    @property
    def first(self) -> int: ...

    def __call__(self, step: int) -> int:
        """The number of noise levels N >= 2 of step `step`, from 0."""
        ...


def _check(name: str, steps: int, s0: int, s1: int) -> None:
    if steps < 1:
        raise ValueError(f"{name} got steps={steps}; expected the length of the training, at least 1")
    if not 1 <= s0 <= s1:
        raise ValueError(f"{name} got s0={s0}, s1={s1}; expected 1 <= s0 <= s1")


def _from_zero(step: int) -> int:
    if step < 0:
        raise ValueError(f"a curriculum got step={step}; steps count from 0")
    return step


@dataclass(frozen=True)
class FixedLevels:
    """N levels from beginning to end.

    Args:
        levels: N >= 2.

    Raises:
        ValueError: for fewer than two levels.
    """

    levels: int = 40

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(f"FixedLevels got levels={self.levels}; a pair needs at least 2")

    @property
    def first(self) -> int:
        """N."""
        return self.levels

    def __call__(self, step: int) -> int:
        """N."""
        return self.levels


@dataclass(frozen=True)
class Doubling:
    """iCT's curriculum: N - 1 doubles from s0 to s1 in stages of equal length.

        K' = floor(K / (log2 floor(s1 / s0) + 1)),   N(k) = min(s0 2^floor(k / K'), s1) + 1

    Args:
        steps: K, the length of the training; later steps stay at s1 + 1.
        s0, s1: N - 1 at the beginning and at most. 10 and 1280 in iCT, 10 and 640 for 32x32 latents.

    Raises:
        ValueError: unless 1 <= s0 <= s1 and there is at least one step a stage; for a negative step.

    Source: arXiv 2310.14189, equation 8 (section 3.4).

    >>> [Doubling(1400, 10, 640)(k) for k in (0, 199, 200, 1399, 5000)]
    [11, 11, 21, 641, 641]
    """

    steps: int
    s0: int = 10
    s1: int = 1280

    def __post_init__(self) -> None:
        _check("Doubling", self.steps, self.s0, self.s1)
        if self.stage < 1:
            raise ValueError(
                f"Doubling has {self.steps} steps for the stages from s0={self.s0} to s1={self.s1}, which is less than "
                "one a stage; train longer or lower s1"
            )

    @property
    def stage(self) -> int:
        """K', steps in a stage."""
        return math.floor(self.steps / (math.log2(self.s1 // self.s0) + 1))

    @property
    def first(self) -> int:
        """s0 + 1."""
        return self.s0 + 1

    def __call__(self, step: int) -> int:
        """N(k)."""
        return min(self.s0 * 2 ** (_from_zero(step) // self.stage), self.s1) + 1


@dataclass(frozen=True)
class CeilDoubling:
    """The doubling curriculum with every floor a ceiling, so that the first value stands at step 0 alone.

        K' = ceil(K / log2(ceil(s1 / s0) + 1)),   N(k) = min(s0 2^ceil(k / K'), s1) + 1

    Args:
        steps: K, the length of the training.
        s0, s1: N - 1 at step 0 and at most.

    Raises:
        ValueError: unless 1 <= s0 <= s1 and steps >= 1; for a negative step.

    Source: arXiv 2303.01469, appendix C (the ceilings); as in the code of 2510.12586.

    >>> [CeilDoubling(600_000)(k) for k in (0, 1, 99_629, 99_630, 599_999)]
    [21, 41, 41, 81, 1281]
    """

    steps: int
    s0: int = 20
    s1: int = 1280

    def __post_init__(self) -> None:
        _check("CeilDoubling", self.steps, self.s0, self.s1)

    @property
    def stage(self) -> int:
        """K', steps in a stage."""
        return math.ceil(self.steps / math.log2(math.ceil(self.s1 / self.s0) + 1))

    @property
    def first(self) -> int:
        """s0 + 1 (s1 + 1 where it is the same)."""
        return self.s0 + 1

    def __call__(self, step: int) -> int:
        """N(k)."""
        return min(self.s0 * 2 ** -(-_from_zero(step) // self.stage), self.s1) + 1
