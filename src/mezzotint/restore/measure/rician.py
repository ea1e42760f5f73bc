"""Rician noise: the magnitude of a complex image with Gaussian noise, as MRI shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise, need_positive

__all__ = ["RicianNoise"]


@dataclass(frozen=True, eq=False)
class RicianNoise(MeasurementNoise):
    """low + sqrt((m + s n_1)^2 + (s n_2)^2), m = y - low >= 0 the clean magnitude; dark places come out too bright.

    Args:
        std: s > 0, of the real and of the imaginary part.
        low: the value of magnitude 0: -1 of images in [-1, 1].
        pairs: y is complex, channel pairs real and imaginary, and the result its magnitude (low is not used).

    Raises:
        ValueError: for other settings; when called with pairs, for an odd number of channels.

    Source: arXiv 2211.07804, denoising of magnitude images; Gudbjartsson and Patz 1995.
    """

    std: float | int
    low: float | int = -1.0
    pairs: bool = False

    def __post_init__(self) -> None:
        need_positive(self.std, "RicianNoise", "std")
        if not -math.inf < self.low < math.inf:
            raise ValueError(f"RicianNoise got low={self.low}; expected a finite number")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *n"]:
        """The magnitude, of as many channels as y, or half as many with pairs."""
        self._check(y, noise)
        m = self._parts(y)
        n = noise("measure rician", 0, (2, *m.shape[2:]), dtype=y.dtype, device=y.device)
        magnitude = (m + self.std * n).square().sum(1).sqrt()
        return magnitude if self.pairs else magnitude + self.low

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *n"]:
        """sqrt(E (M - m)^2) = sqrt(2 m^2 + 2 s^2 - 2 m E M) with the Rice distribution's mean E M."""
        self._check(y)
        m = self._parts(y).double().square().sum(1).sqrt()
        v = m**2 / (4 * self.std**2)
        laguerre = (1 + 2 * v) * torch.special.i0e(v) + 2 * v * torch.special.i1e(v)
        mean = math.sqrt(math.pi / 2) * self.std * laguerre
        # for m >> s the difference of large numbers is s^2 + O(s^4 / m^2)
        square = torch.where(v > 1e4, torch.full_like(m, self.std**2), 2 * (m**2 + self.std**2 - m * mean))
        return square.sqrt().to(y)

    def _parts(self, y: Tensor) -> Tensor:
        """The clean real and imaginary part, (b, 2, ...)."""
        if not self.pairs:
            m = (y - self.low).clamp(min=0)
            return torch.stack([m, torch.zeros_like(m)], 1)
        if y.ndim < 2 or y.shape[1] % 2:
            raise ValueError(f"RicianNoise(pairs=True) got {tuple(y.shape)}; expected an even number of channels")
        return torch.stack([y[:, 0::2], y[:, 1::2]], 1)
