"""I2SB: a Brownian bridge between the picture and its degraded twin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.bridge.process import Process, real

__all__ = ["I2SB"]


@dataclass(frozen=True)
class I2SB(Process):
    """x_t ~ N((q x + p y) / (p + q), p q / (p + q)), p = integral of beta from 0 to t, q = from t to 1.

    sqrt(beta) rises linearly from its end to its middle and falls again. Both ends are free of noise: a run starts at y
    itself.

    Args:
        end, middle: beta at t = 0 and 1, and at t = 1/2; 0 <= end <= middle, middle > 0.

    Raises:
        ValueError: for settings out of range.

    Source: arXiv 2302.05872, equation 11; the speeds are in the style of its released configuration.

    >>> I2SB().alpha(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist()
    [1.0, 0.5, 0.0]
    """

    end: float = 0.1
    middle: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.end <= self.middle < math.inf or self.middle == 0:
            raise ValueError(f"I2SB got end={self.end}, middle={self.middle}; expected 0 <= end <= middle, middle > 0")

    def past(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """p(t), which is q(1 - t)."""
        t = real(t)
        low, rise = math.sqrt(self.end), 2 * (math.sqrt(self.middle) - math.sqrt(self.end))
        late = t > 0.5
        u = torch.where(late, 1 - t, t)
        part = u * (self.end + u * (low * rise + u * rise * rise / 3))
        total = self.end + 0.5 * low * rise + rise * rise / 12  # p(1)
        return torch.where(late, total - part, part)

    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p, q = self.past(t), self.past(1 - real(t))
        return p, q, p + q

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """q / (p + q)."""
        _, q, whole = self._shares(t)
        return q / whole

    def shift(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """p / (p + q)."""
        p, _, whole = self._shares(t)
        return p / whole

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """sqrt(p q / (p + q))."""
        p, q, whole = self._shares(t)
        return (p * q / whole).sqrt()

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(q / p (p + q)^-1) / 2."""
        p, q, whole = self._shares(t)
        return 0.5 * (q.log() - p.log() - whole.log())

    def carry(self, s: Float[Tensor, "*b"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """p(s) / p(t): seen from x, the bridge to y is the one to x_t."""
        return self.past(s) / self.past(t)

    def weight(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """1 / p: the network predicts (x_t - x) / sqrt(p)."""
        return 1 / self.past(t)
