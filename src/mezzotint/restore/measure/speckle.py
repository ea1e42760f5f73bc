"""Speckle: multiplicative noise of coherent light and radar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise

__all__ = ["Speckle"]


@dataclass(frozen=True, eq=False)
class Speckle(MeasurementNoise):
    """low + (y - low) g, g ~ Gamma(L, 1/L): mean 1, variance 1 / L. L looks are averaged, each exponential.

    Args:
        looks: L >= 1, a whole number.
        low: the value of intensity 0: -1 of images in [-1, 1].

    Raises:
        ValueError: for other settings.

    Source: arXiv 2406.11138, SAR despeckling.
    """

    looks: int
    low: float | int = -1.0

    def __post_init__(self) -> None:
        if isinstance(self.looks, bool) or not isinstance(self.looks, int) or self.looks < 1:
            raise ValueError(f"Speckle got looks={self.looks!r}; expected a whole number >= 1")
        if not -math.inf < self.low < math.inf:
            raise ValueError(f"Speckle got low={self.low}; expected a finite number")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        self._check(y, noise)
        u = noise.uniform("measure speckle", 0, (self.looks, *y.shape[1:]), dtype=torch.float64)
        return self.low + (y - self.low) * (-torch.log1p(-u)).mean(1).to(y)

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """|y - low| / sqrt(L)."""
        return (y - self.low).abs() / math.sqrt(self.looks)
