"""ResShift: the residual y - x is shifted in, with noise in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.bridge.process import Process, real

__all__ = ["ResShift"]


@dataclass(frozen=True)
class ResShift(Process):
    """x_t = x + eta(t) (y - x) + kappa sqrt(eta(t)) eps.

    sqrt(eta) = sqrt(first) (last / first)^(u^p / 2) with u = (n t - 1) / (n - 1), from t = 1 / n to 1; below, linear in
    t down to 0. A grid of n uniform steps is the paper's.

    Args:
        kappa: standard deviation of the noise in the end, > 0.
        n: the paper's number of steps, >= 2.
        p: > 0; smaller means faster growth at first.
        first, last: eta at t = 1 / n and at t = 1, 0 < first < last < 1; first None: min((0.04 / kappa)^2, 0.001).

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2307.12348, equations 1 and 9 (n = 15, p = 0.3, kappa = 2); times between its steps are our choice.

    >>> import torch
    >>> round(float(ResShift().shift(torch.ones((), dtype=torch.float64))), 9)
    0.999
    """

    kappa: float = 2.0
    n: int = 15
    p: float = 0.3
    first: float | None = None
    last: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.kappa < math.inf or self.n < 2 or not 0 < self.p < math.inf:
            raise ValueError(
                f"ResShift got kappa={self.kappa}, n={self.n}, p={self.p}; expected kappa > 0, n >= 2 and p > 0"
            )
        if not 0 < self._first < self.last < 1:
            raise ValueError(
                f"ResShift got first={self.first}, last={self.last}; expected 0 < first < last < 1, about 0.0004 and "
                "0.999"
            )

    @property
    def _first(self) -> float:
        return min((0.04 / self.kappa) ** 2, 0.001) if self.first is None else self.first

    def _root(self, t: Tensor) -> Tensor:
        """sqrt(eta)."""
        t = real(t)
        u = ((self.n * t - 1) / (self.n - 1)).clamp(0, 1)
        grown = 0.5 * math.log(self._first) + 0.5 * math.log(self.last / self._first) * u**self.p
        return grown.exp() * (self.n * t).clamp(max=1)

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """1 - eta."""
        return 1 - self._root(t).square()

    def shift(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """eta."""
        return self._root(t).square()

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """kappa sqrt(eta)."""
        return self.kappa * self._root(t)

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """See Process.half_log_snr."""
        return self.alpha(t).log() - self.sigma(t).log()

    def carry(self, s: Float[Tensor, "*b"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """eta(s) / eta(t): the noise is a random walk with time eta."""
        return (self._root(s) / self._root(t)).square()
