"""Counted photons: Poisson noise of cameras, and of X-rays behind a body."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.measure.model import MeasurementNoise, need_finite, need_positive, need_range

__all__ = ["CTNoise", "PoissonNoise", "poisson_counts"]

_MOST = 1e9  # expected counts; above, steps of one photon are lost in the incomplete gamma function's rounding


def poisson_counts(rate: Float[Tensor, "b *m"], noise: Noise, purpose: str) -> Float[Tensor, "b *m"]:
    """Poisson numbers, one uniform number u each: the least n with P(N <= n) > u.

    The cumulative probability is the regularised gamma function Q(n + 1, rate); the search starts at the
    Cornish-Fisher quantile, which is off by one or two. In float64 on the CPU, so that every device gets the same.

    Args:
        rate: expected numbers in [0, 1e9].
        noise: one seed a row.
        purpose: of the draw.

    Raises:
        ValueError: for other rates.

    >>> poisson_counts(torch.tensor([[0.0, 5.0, 1e6]], dtype=torch.float64), Noise([0]), "doc").shape
    torch.Size([1, 3])
    """
    mean = rate.detach().to("cpu", torch.float64)
    if not bool(((mean >= 0) & (mean <= _MOST)).all()):
        raise ValueError(
            f"Poisson numbers need finite rates in [0, {_MOST:g}], got {float(mean.min()):.4g} to "
            f"{float(mean.max()):.4g}; check the range of the measurement and the photon count"
        )
    u = noise.uniform(purpose, 0, tuple(mean.shape[1:]), dtype=torch.float64)
    z = torch.special.ndtri(u).clamp(-9, 9)
    n = (mean + mean.sqrt() * z + (z * z - 1) / 6).floor().clamp(min=0)
    safe = mean.clamp(min=1e-300)

    def reached(k: Tensor) -> Tensor:
        return torch.special.gammaincc(k + 1, safe) > u  # P(N <= k) > u

    while True:  # down to the least that is reached, then up to it; a few rounds
        lower = (n > 0) & reached((n - 1).clamp(min=0))
        if not bool(lower.any()):
            break
        n = n - lower.to(n)
    while True:
        higher = ~reached(n) & (mean > 0) & (n < mean + 12 * (mean.sqrt() + 1))
        if not bool(higher.any()):
            break
        n = n + higher.to(n)
    return torch.where(mean > 0, n, torch.zeros_like(n)).to(rate)


@dataclass(frozen=True, eq=False)
class PoissonNoise(MeasurementNoise):
    """Photons: N ~ Pois(peak u), u = (y - low) / (high - low), read as low + (high - low) N / peak.

    Args:
        peak: expected photons at `high`, > 0; few photons, much noise.
        low, high: black and white of the measurement. Values below black count as black.

    Raises:
        ValueError: for other settings; when called, for values that are not finite.

    Source: arXiv 2406.11138, denoising (Poisson-Gaussian).
    """

    peak: float | int
    low: float | int = -1.0
    high: float | int = 1.0

    def __post_init__(self) -> None:
        need_positive(self.peak, "PoissonNoise", "peak")
        need_range(self.low, self.high, "PoissonNoise")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        self._check(y, noise)
        need_finite(y, "PoissonNoise")
        return self.low + poisson_counts(self._rate(y), noise, "measure poisson").to(y) * self._unit

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """(high - low) sqrt(u / peak)."""
        return self._unit * self._rate(y).sqrt().to(y)

    @property
    def _unit(self) -> float:
        return (self.high - self.low) / self.peak

    def _rate(self, y: Tensor) -> Tensor:
        return (y.double() - self.low).clamp(min=0) / self._unit


@dataclass(frozen=True, eq=False)
class CTNoise(MeasurementNoise):
    """Line integrals from counted photons: N ~ Pois(I0 exp(-a)), a = scale (y + offset), read as log(I0 / N).

    A ray that no photon passes counts as one. So y may be the projections of an image in [-1, 1], -1 being air: with
    offset = A(1), the projections of ones, a = scale A(x + 1) >= 0, and scale is the attenuation a pixel of x = 0.

    Args:
        photons: I0, sent along each ray, > 0 (1e4 is low dose).
        scale: attenuation per unit of y, > 0.
        offset: a number, or a tensor that can be added to y.

    Raises:
        ValueError: for other settings; when called, for values that are not finite.

    Source: arXiv 2211.07804, reconstruction, CT: y_i ~ Pois(I0 e^(-(A x)_i)).
    """

    photons: float | int = 1e4
    scale: float | int = 1.0
    offset: float | int | Tensor = 0.0

    def __post_init__(self) -> None:
        need_positive(self.photons, "CTNoise", "photons")
        need_positive(self.scale, "CTNoise", "scale")

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        self._check(y, noise)
        need_finite(y, "CTNoise")
        counts = poisson_counts(self._expected(y), noise, "measure ct").clamp(min=1)
        return ((math.log(self.photons) - counts.log()) / self.scale).to(y) - self._offset(y)

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """1 / (scale sqrt(expected photons)): to first order, good above about 10 photons, counted as 1 at least."""
        return (1 / (self.scale * self._expected(y).clamp(min=1).sqrt())).to(y)

    def _offset(self, y: Tensor) -> Tensor | float | int:
        return self.offset.to(y) if isinstance(self.offset, Tensor) else self.offset

    def _expected(self, y: Tensor) -> Tensor:
        y = y.double()
        return self.photons * (-self.scale * (y + self._offset(y))).exp()
