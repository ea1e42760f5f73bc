"""Operators whose singular value decomposition is closed: A = U diag(s) V*."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import LinearOperator

__all__ = ["SpectralOperator"]

_LEAST = 1e-6  # of the largest singular value: those below count as 0 (our choice)


class SpectralOperator(LinearOperator):
    """A = U diag(s) V*: V unitary over all of the image's space, U with orthonormal columns, s >= 0.

    A subclass gives the four changes of coordinates and `singulars`. Coordinates may have any shape (b, *k), real or
    complex (Fourier); those of a measurement are laid out as those of an image, with zeros where s = 0.
    """

    @abstractmethod
    def singulars(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "..."]:
        """s, (1 or b, *k), for images like x (its shape, dtype and device are used)."""

    @abstractmethod
    def to_spectrum(self, x: Float[Tensor, "b *s"]) -> Tensor:
        """V* x, (b, *k)."""

    @abstractmethod
    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b *s"]:
        """V k, (b, *s), real."""

    @abstractmethod
    def measured_to_spectrum(self, y: Float[Tensor, "b *m"]) -> Tensor:
        """U* y, (b, *k), zero where s = 0."""

    @abstractmethod
    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b *m"]:
        """U k, (b, *m), real; what stands where s = 0 is left out."""

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *m"]:
        """U s V* x."""
        return self.measured_from_spectrum(self.singulars(x) * self.to_spectrum(x))

    def adjoint(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """V s U* y."""
        k, s = self._measured(y)
        return self.from_spectrum(s * k)

    def pinv(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """V s+ U* y; singular values below 1e-6 of the largest count as 0."""
        k, s = self._measured(y)
        seen = self.seen(s)
        return self.from_spectrum(torch.where(seen, k / torch.where(seen, s, 1.0), torch.zeros_like(k)))

    def solve(
        self, y: Float[Tensor, "b *m"], signal: float | Tensor = 1.0, noise: float | Tensor = 0.0
    ) -> Float[Tensor, "b *m"]:
        """U (signal s^2 + noise)^-1 U* y, and y / noise outside of the range of U."""
        k, s = self._measured(y)
        seen = self.seen(s)
        if isinstance(signal, Tensor) or isinstance(noise, Tensor):
            signal, noise = (_beside(q, k) for q in (signal, noise))
        if not isinstance(noise, Tensor) and noise == 0:
            inverse = torch.where(seen, 1 / (signal * torch.where(seen, s, 1.0) ** 2), 0.0)
            return self.measured_from_spectrum(inverse * k)
        inside = self.measured_from_spectrum(k / (signal * s**2 + noise))
        rest = y - self.measured_from_spectrum(k)
        return inside + rest / _beside(noise, y)

    def prox(self, x: Float[Tensor, "b *s"], y: Float[Tensor, "b *m"], weight: float | Tensor) -> Float[Tensor, "b *s"]:
        """x + V s / (s^2 + weight) U* (y - A x): what lies outside of the range of A is never divided by the weight."""
        rest = y - self(x)
        if not isinstance(weight, Tensor) and weight == 0:
            return x + self.pinv(rest)
        k, s = self._measured(rest)
        gain = s / (s**2 + _beside(weight, k))
        return x + self.from_spectrum(torch.where(self.seen(s), gain, torch.zeros_like(gain)) * k)

    def seen(self, s: Tensor) -> Tensor:
        """Which singular values count as more than 0, beside the largest of their row."""
        apart = s.ndim > 1 and len(s) > 1
        return s > _LEAST * (s.flatten(1).amax(1).view(-1, *[1] * (s.ndim - 1)) if apart else s.max())

    def _measured(self, y: Tensor) -> tuple[Tensor, Tensor]:
        k = self.measured_to_spectrum(y)
        return k, self.singulars(self.from_spectrum(torch.zeros_like(k)))


def _beside(q: float | Tensor, like: Tensor) -> float | Tensor:
    """A number a row, shaped to be multiplied with rows."""
    return q.reshape(-1, *[1] * (like.ndim - 1)) if isinstance(q, Tensor) else q
