"""IR-SDE: a mean-reverting process."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.bridge.process import Process, real

__all__ = ["IRSDE"]


@dataclass(frozen=True)
class IRSDE(Process):
    """x_t = y + (x - y) e^-h(t) + level sqrt(1 - e^(-2 h(t))) eps, the solution of dx = theta (y - x) dt + g dw.

    h(t) = integral of theta = log(1 / left) (t - sin(pi t) / pi), g^2 = 2 level^2 theta.

    Args:
        level: standard deviation of the noise in the end, > 0 (0.2 for images in [-1, 1] is our choice).
        left: e^-h(1), what is left of x - y at t = 1, in (0, 0.05].

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2301.11699, as 2406.11138 tells it; the cosine speed without offset is our choice.

    >>> t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> [round(a, 9) for a in IRSDE().alpha(t).tolist()]
    [1.0, 0.005]
    """

    level: float = 0.2
    left: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.level < math.inf or not 0 < self.left <= 0.05:
            raise ValueError(
                f"IRSDE got level={self.level}, left={self.left}; expected level > 0 and left in (0, 0.05]"
            )

    def _reverted(self, t: Tensor) -> Tensor:
        """h(t); near 0 by the sine's series, which nearly cancels t."""
        t = real(t)
        small = t < 0.02
        series = (math.pi * t) ** 2 / 6 * (1 - (math.pi * t) ** 2 / 20) * t
        return -math.log(self.left) * torch.where(small, series, t - (math.pi * t.clamp(max=1)).sin() / math.pi)

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """e^-h."""
        return (-self._reverted(t)).exp()

    def shift(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """1 - e^-h."""
        return -torch.expm1(-self._reverted(t))

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """See above."""
        return self.level * (-torch.expm1(-2 * self._reverted(t))).sqrt()

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """See Process.half_log_snr."""
        return -self._reverted(t) - self.sigma(t).log()

    def carry(self, s: Float[Tensor, "*b"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """e^-(h(t) - h(s)) c(s)^2 / c(t)^2: that of the Ornstein-Uhlenbeck process."""
        return (self._reverted(s) - self._reverted(t)).exp() * (self.sigma(s) / self.sigma(t)).square()

    def weight(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """(a / c)^2: the network predicts eps."""
        return (2 * self.half_log_snr(t)).exp()
