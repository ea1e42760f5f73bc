"""Noise schedules: x_t = alpha(t) x + sigma(t) eps with t in [0, 1], 0 = data, 1 = noise.

A schedule is four pure functions of time. Every schedule here obeys three rules that samplers rely on:
sigma(0) = 0 exactly (so lambda(0) = +inf), lambda = log(alpha / sigma) falls strictly with t, and dtype and device
of the argument are kept (float64 able, half precision is computed in float32). Cosine and Flow reach
alpha(1) = 0 exactly (lambda(1) = -inf); the others stop at a finite lambda(1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["Cosine", "Flow", "Schedule", "VE", "VP"]


@runtime_checkable
class Schedule(Protocol):
    """What every part of the library knows of a noise schedule.

    `curve` names the family of (alpha, sigma) pairs: "variance" (alpha^2 + sigma^2 = 1), "straight"
    (alpha + sigma = 1) or "exploding" (alpha = 1).
    """

    curve: ClassVar[str]

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...

    def half_log_snr(self, t: Tensor) -> Tensor: ...

    def t_of(self, lam: Tensor) -> Tensor:
        """The time at which half_log_snr equals lam; 1 for a lam below half_log_snr(1)."""
        ...


def _real(t: Tensor | float) -> Tensor:
    """A tensor of at least float32; Python numbers become float64."""
    t = t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)


def _require(good: bool, what: str, expected: str) -> None:
    if not good:
        raise ValueError(f"{what}; expected {expected}")


@dataclass(frozen=True)
class VP:
    """Variance-preserving diffusion with linear beta(t).

    log alpha = -(beta_max - beta_min) t^2 / 4 - beta_min t / 2, sigma = sqrt(1 - alpha^2).

    Args:
        beta_min: beta at t = 0, > 0.
        beta_max: beta at t = 1, > beta_min.

    Raises:
        ValueError: unless 0 < beta_min < beta_max.

    Source: arXiv 2011.13456, equation 32; inverse in closed form, arXiv 2206.00927, appendix D.4.

    >>> t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    >>> vp = VP()
    >>> bool(torch.allclose(vp.t_of(vp.half_log_snr(t)), t, atol=1e-12))
    True
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    curve: ClassVar[str] = "variance"

    def __post_init__(self) -> None:
        _require(
            0 < self.beta_min < self.beta_max < math.inf,
            f"VP got beta_min={self.beta_min}, beta_max={self.beta_max}",
            "0 < beta_min < beta_max",
        )

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * (self.beta_max - self.beta_min) * t * t - 0.5 * self.beta_min * t

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """exp(log alpha)."""
        return self._log_alpha(_real(t)).exp()

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """sqrt(1 - alpha^2), by expm1 so that small t keeps its digits."""
        return torch.expm1(2 * self._log_alpha(_real(t))).abs().sqrt()

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(alpha / sigma); +inf at t = 0."""
        log_alpha = self._log_alpha(_real(t))
        return log_alpha - 0.5 * (-torch.expm1(2 * log_alpha)).log()

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam."""
        span = self.beta_max - self.beta_min
        # q at t = 1 is its greatest value; lambda = -inf would otherwise give inf / inf
        q = (2 * span * softplus(-2 * _real(lam), threshold=50)).clamp(max=self.beta_max**2 - self.beta_min**2)
        return (q / (((self.beta_min**2 + q).sqrt() + self.beta_min) * span)).clamp(max=1)


@dataclass(frozen=True)
class Cosine:
    """The cosine schedule: alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)), sigma = sqrt(1 - alpha^2).

    alpha(1) = 0 exactly: there the data cannot be read off a noise prediction; use v, flow or x0.

    Args:
        s: offset, >= 0, so that sigma is not too small near t = 0.

    Raises:
        ValueError: if s is negative or not finite.

    Source: arXiv 2102.09672, equation 17 (in continuous time, no clipping of beta).

    >>> float(Cosine().alpha(torch.tensor(1.0)))
    0.0
    """

    s: float = 0.008
    curve: ClassVar[str] = "variance"

    def __post_init__(self) -> None:
        _require(0 <= self.s < math.inf, f"Cosine got s={self.s}", "a finite number >= 0")

    @property
    def _start(self) -> float:
        return 0.5 * math.pi * self.s / (1 + self.s)

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Written as a sine of 1 - t, so that alpha(1) is exactly zero."""
        t = _real(t)
        value = (0.5 * math.pi / (1 + self.s) * (1 - t)).sin() / math.cos(self._start)
        return torch.where(t == 0, torch.ones_like(value), value)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """cos^2 b - cos^2 a = sin(a + b) sin(a - b): no cancellation near t = 0."""
        step = 0.5 * math.pi / (1 + self.s) * _real(t)
        return ((step + 2 * self._start).sin() * step.sin()).clamp_min(0).sqrt() / math.cos(self._start)

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(alpha / sigma); +inf at t = 0 and -inf at t = 1."""
        return self.alpha(t).log() - self.sigma(t).log()

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam."""
        lam = _real(lam)
        cos_b, sin_b = math.cos(self._start), math.sin(self._start)
        cos_a = torch.sigmoid(2 * lam).sqrt() * cos_b
        sin_a = (sin_b**2 + torch.sigmoid(-2 * lam) * cos_b**2).sqrt()
        # the angle a - b itself, so that nothing cancels near t = 0
        gap = torch.atan2(sin_a * cos_b - cos_a * sin_b, cos_a * cos_b + sin_a * sin_b)
        return (gap * (1 + self.s) / (0.5 * math.pi)).clamp(0, 1)


@dataclass(frozen=True)
class VE:
    """Variance-exploding diffusion: alpha = 1, sigma = sigma_min sqrt((sigma_max/sigma_min)^(2t) - 1).

    This is the exact transition kernel of the VE equation started from data, hence sigma(0) = 0.

    Args:
        sigma_min: scale at which the geometric growth begins, > 0, in units of the data.
        sigma_max: > sigma_min; sigma(1) = sqrt(sigma_max^2 - sigma_min^2).

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max.

    Source: arXiv 2011.13456, equations 29 and 31.

    >>> float(VE(0.002, 80.0).sigma(torch.tensor(0.0)))
    0.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    curve: ClassVar[str] = "exploding"

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max < math.inf,
            f"VE got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}",
            "0 < sigma_min < sigma_max",
        )

    @property
    def _rate(self) -> float:
        return 2 * math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """One."""
        return torch.ones_like(_real(t))

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Standard deviation of the noise, in units of the data."""
        return self.sigma_min * torch.expm1(self._rate * _real(t)).sqrt()

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """-log sigma; +inf at t = 0."""
        return -self.sigma(t).log()

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam."""
        # log(1 + (sigma/sigma_min)^2) as a softplus: no overflow at any lambda
        return softplus(2 * (-_real(lam) - math.log(self.sigma_min)), threshold=50).div(self._rate).clamp(max=1)


@dataclass(frozen=True)
class Flow:
    """Rectified flow / flow matching: alpha = 1 - t, sigma = t.

    Source: arXiv 2209.03003; time runs from data (0) to noise (1), as in arXiv 2403.03206.

    >>> float(Flow().t_of(torch.tensor(0.0)))
    0.5
    """

    curve: ClassVar[str] = "straight"

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """1 - t."""
        return 1 - _real(t)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """t."""
        return _real(t) * 1

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log((1 - t) / t); +inf at t = 0 and -inf at t = 1."""
        t = _real(t)
        return torch.log1p(-t) - t.log()

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """sigmoid(-lambda)."""
        return torch.sigmoid(-_real(lam))
