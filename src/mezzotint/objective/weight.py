"""How much each noise level counts: weights stated on the data prediction's error, carried to the target's space.

x0, eps, v and flow are linear in one another, so an error d in one is an error d |dx0/d(target)| in x0. With
r = {x0: 1/sigma, eps: 1/alpha, v: 1/(alpha^2 + sigma^2), flow: 1/(alpha + sigma)} that factor is sigma r, and a
weight w on |x0 error|^2 becomes w (sigma r)^2. Written so that neither end of the schedule divides by zero in
the target's natural space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["EDMWeight", "MinSNR", "Unweighted", "Weighting"]


def _r(kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    if kind == "x0":
        return 1 / sigma
    if kind == "eps":
        return 1 / alpha
    return 1 / (alpha**2 + sigma**2) if kind == "v" else 1 / (alpha + sigma)


@runtime_checkable
class Weighting(Protocol):
    """A weight for each noise level."""

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The factor on |target error|^2 for target `kind` at levels alpha, sigma, (b,)."""
        ...


@dataclass(frozen=True)
class Unweighted:
    """1 in the target's own space: DDPM's simple loss for eps, flow matching's for flow."""

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(alpha)


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma) on the x0 error, SNR = alpha^2 / sigma^2.

    In eps: min(SNR, gamma) / SNR; in v: min(SNR, gamma) / (SNR + 1) on a variance-preserving schedule.

    Args:
        gamma: > 0.

    Raises:
        ValueError: if gamma is not positive.

    Source: arXiv 2303.09556, section 3.4.

    >>> half = torch.tensor([0.5], dtype=torch.float64).sqrt()
    >>> round(MinSNR(5.0)("v", half, half).item(), 6)
    0.5
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"MinSNR got gamma={self.gamma}; expected a number > 0")

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """min((alpha r)^2, gamma (sigma r)^2)."""
        r = _r(kind, alpha, sigma)
        return torch.minimum((alpha * r) ** 2, self.gamma * (sigma * r) ** 2)


@dataclass(frozen=True)
class EDMWeight:
    """EDM's lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2 on the x0 error, sigma there being sigma / alpha.

    With EDMDenoiser it makes the loss on the raw network output 1 at every level.

    Args:
        sigma_data: s, > 0.

    Raises:
        ValueError: if sigma_data is not positive.

    Source: arXiv 2206.00364, table 1.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(f"EDMWeight got sigma_data={self.sigma_data}; expected a number > 0")

    def __call__(self, kind: str, alpha: Tensor, sigma: Tensor) -> Tensor:
        """r^2 (sigma^2 + alpha^2 s^2) / s^2."""
        r = _r(kind, alpha, sigma)
        return r**2 * (sigma**2 + (alpha * self.sigma_data) ** 2) / self.sigma_data**2
