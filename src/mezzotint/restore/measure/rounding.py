"""Rounding to a few levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise, need_range

__all__ = ["Rounding"]


@dataclass(frozen=True, eq=False)
class Rounding(MeasurementNoise):
    """The nearest of 2^bits levels from low to high; nothing random. As an operator: `operators.Quantise`.

    Args:
        bits: 1 to 16.
        low, high: the range, both levels; values outside are cut.

    Raises:
        ValueError: for other settings.

    >>> round(Rounding(8).level(torch.zeros(1, 1)), 5)  # (2 / 255) / sqrt(12)
    0.00226
    """

    bits: int
    low: float | int = -1.0
    high: float | int = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 1 <= self.bits <= 16:
            raise ValueError(f"Rounding got bits={self.bits!r}; expected a whole number from 1 to 16")
        need_range(self.low, self.high, "Rounding")

    @property
    def step(self) -> float:
        """Between two levels."""
        return (self.high - self.low) / (2**self.bits - 1)

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise; the seeds are not used."""
        self._check(y, noise)
        return self.low + self.step * ((y.clamp(self.low, self.high) - self.low) / self.step).round()

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """step / sqrt(12), of values anywhere between two levels."""
        return torch.full_like(y, self.step / math.sqrt(12))
