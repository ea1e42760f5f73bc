"""Shifted: a schedule with its noise level moved, for other resolutions and for SD3's time shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.schedule import Schedule, _real, _require

__all__ = ["Shifted"]


@dataclass(frozen=True)
class Shifted:
    """A schedule with its noise level moved: lambda(t) = base lambda(t) - log(shift), on the base's own curve.

    sigma/alpha grows by `shift`; then (alpha, sigma) is brought back to the base's curve. On Flow this is
    SD3's t' = shift t / (1 + (shift - 1) t); on a variance-preserving base it is the resolution shift of
    simple diffusion.

    Args:
        base: the schedule that is shifted.
        shift: factor on sigma/alpha, > 0; above 1 means more noise at every t.

    Raises:
        ValueError: if shift is not a positive finite number.

    Source: arXiv 2403.03206, section 5.3.2; arXiv 2301.11093, equation 4.

    >>> from mezzotint.core import Flow
    >>> float(Shifted(Flow(), 3.0).sigma(torch.tensor(0.5)))
    0.75
    """

    base: Schedule
    shift: float

    def __post_init__(self) -> None:
        _require(0 < self.shift < math.inf, f"Shifted got shift={self.shift}", "a finite number > 0")

    @property
    def curve(self) -> str:  # type: ignore[override]
        """The base's curve."""
        return self.base.curve

    @classmethod
    def for_resolution(cls, base: Schedule, size: int, base_size: int) -> Shifted:
        """The shift that keeps the noise level per object: size / base_size (both are side lengths, > 0)."""
        _require(size > 0 and base_size > 0, f"for_resolution got size={size}, base_size={base_size}", "sizes > 0")
        return cls(base, size / base_size)

    def _norm(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        a, s = self.base.alpha(t), self.shift * self.base.sigma(t)
        if self.curve == "variance":
            return a, s, torch.hypot(a, s)
        return a, s, a + s if self.curve == "straight" else 1.0

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """alpha of the shifted pair."""
        a, _, norm = self._norm(_real(t))
        return a / norm

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """sigma of the shifted pair."""
        _, s, norm = self._norm(_real(t))
        return s / norm

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """base lambda - log(shift)."""
        return self.base.half_log_snr(t) - math.log(self.shift)

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam."""
        return self.base.t_of(_real(lam) + math.log(self.shift))
