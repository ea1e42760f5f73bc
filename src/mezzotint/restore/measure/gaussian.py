"""Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise

__all__ = ["GaussianNoise"]


@dataclass(frozen=True, eq=False)
class GaussianNoise(MeasurementNoise):
    """y + std n, n standard normal, on every entry.

    Of Fourier samples as pairs of channels each part gets std, and entries that are not sampled get noise too:
    `operator.keep` zeroes them again.

    Args:
        std: >= 0, in units of y.

    Raises:
        ValueError: for a negative or infinite std.

    >>> y = torch.zeros(2, 3)
    >>> torch.equal(GaussianNoise(0.5)(y, Noise([4, 7]))[1:], GaussianNoise(0.5)(y[:1], Noise([7])))
    True
    """

    std: float | int

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise ValueError(f"GaussianNoise got std={self.std}; expected a finite number >= 0")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        self._check(y, noise)
        return y + self.std * noise("measure", 0, tuple(y.shape[1:]), dtype=y.dtype, device=y.device)

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """The std everywhere."""
        return torch.full_like(y, self.std)
