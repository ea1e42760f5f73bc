"""InDI: inversion by direct iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.bridge.process import Process, real

__all__ = ["InDI"]


@dataclass(frozen=True)
class InDI(Process):
    """x_t = (1 - t) x + t (y + noise eps), undone by x_s = (s / t) x_t + (1 - s / t) F(x_t, t).

    No step draws noise. With noise = 0 and a network that is told y the result is the posterior's mean, in one step
    and in any number; a network that sees x_t alone (`BlindBridgeDenoiser`) gives samples of the data, one a
    measurement. With noise > 0 and a network that is told y it is flow matching from y + noise eps: samples of the
    posterior.

    Args:
        noise: standard deviation of what is added to y, >= 0.

    Raises:
        ValueError: for a negative noise.

    Source: arXiv 2303.11435, equations 7 and 10. At noise = 0 half_log_snr, infinite there, is log((1 - t) / t).

    >>> import torch
    >>> InDI(0.1).carry(torch.tensor(0.25), torch.tensor(0.5))
    tensor(0.5000)
    """

    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"InDI got noise={self.noise}; expected a finite number >= 0, about 0.01")

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """1 - t."""
        return 1 - real(t)

    def shift(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """t."""
        return real(t)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """noise t."""
        return self.noise * real(t)

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log((1 - t) / (noise t))."""
        return (1 - real(t)).log() - real(t).log() - math.log(self.noise or 1.0)

    def carry(self, s: Float[Tensor, "*b"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """s / t: one draw, scaled."""
        return real(s) / real(t)
