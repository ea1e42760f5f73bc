"""Salt and pepper: some entries are lost to black or white."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise, need_range

__all__ = ["SaltPepper"]


@dataclass(frozen=True, eq=False)
class SaltPepper(MeasurementNoise):
    """Each entry is `low` with probability share / 2, `high` with share / 2, else untouched. Far from Gaussian.

    Where entries are known to be lost, `Mask` them out instead.

    Args:
        share: in [0, 1].
        low, high: pepper and salt.

    Raises:
        ValueError: for other settings.
    """

    share: float | int
    low: float | int = -1.0
    high: float | int = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"SaltPepper got share={self.share}; expected a share of the entries in [0, 1]")
        need_range(self.low, self.high, "SaltPepper")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        self._check(y, noise)
        u = noise.uniform("measure salt pepper", 0, tuple(y.shape[1:]), dtype=torch.float64, device=y.device)
        y = torch.where(u < self.share / 2, torch.full_like(y, self.low), y)
        return torch.where((u >= self.share / 2) & (u < self.share), torch.full_like(y, self.high), y)

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """sqrt(share ((y - low)^2 + (y - high)^2) / 2)."""
        return math.sqrt(self.share / 2) * ((y - self.low).square() + (y - self.high).square()).sqrt()
