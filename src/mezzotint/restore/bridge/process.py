"""Process: how a picture x becomes its degraded twin y, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Process", "check_ends"]

_HALVINGS = 60
_END = 0.05  # what may be left of x at t = 1


class Process(ABC):
    """x_t = a(t) x + b(t) y + c(t) eps, with eps standard normal: at t = 0 the picture, at t = 1 about y.

    With y known, z_t = x_t - b(t) y is an ordinary diffusion: a Process is a `Schedule` with alpha = a and sigma = c,
    and every objective and sampler of a denoiser works on z_t once the denoiser knows y (`BridgeDenoiser`). A subclass
    states a, b, c, lambda = log(a / c), and how a reverse step carries the noise that it finds (`carry`).

    Source: arXiv 2406.11138, section on supervised models; the common form is our choice.
    """

    curve: ClassVar[str] = "bridge"

    @abstractmethod
    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """a(t), the share of x."""

    @abstractmethod
    def shift(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """b(t), the share of y."""

    @abstractmethod
    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """c(t), the standard deviation of the noise."""

    @abstractmethod
    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(a / c), which falls strictly with t."""

    @abstractmethod
    def carry(self, s: Float[Tensor, "*b"], t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """cov(r_s, r_t) / c(t)^2 for s < t and the noise r = c eps: what a reverse step from t to s keeps of r_t.

        Where c(t) = 0 the limit.
        """

    def weight(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The paper's weight of |x - F|^2: 1 where the network predicts x."""
        return torch.ones_like(t)

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam, by bisection; 1 for a lam below half_log_snr(1)."""
        wide = lam.to(torch.float64)
        low, high = torch.zeros_like(wide), torch.ones_like(wide)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            above = self.half_log_snr(middle) > wide
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (0.5 * (low + high)).to(lam.dtype)


def check_ends(process: Process) -> None:
    """Refuse a process that does not lead from x to y: a, b, c = 1, 0, 0 at t = 0 and a, b = 0, 1 (nearly) at t = 1.

    Raises:
        ValueError: names the end and what it found.

    >>> from mezzotint.restore.bridge import ResShift
    >>> check_ends(ResShift())
    """
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    (a0, a1), (b0, b1), (c0, _) = (f(t).tolist() for f in (process.alpha, process.shift, process.sigma))
    name = type(process).__name__
    if (a0, b0, c0) != (1.0, 0.0, 0.0):
        raise ValueError(f"{name} has a, b, c = {a0:g}, {b0:g}, {c0:g} at t = 0; expected 1, 0, 0: x itself")
    if abs(a1) > _END or abs(b1 - 1) > _END:
        raise ValueError(
            f"{name} has a = {a1:g} and b = {b1:g} at t = 1; expected 0 and 1 within {_END}, or what a sampler starts "
            "from, y, is not what the network was trained on"
        )


def real(t: Tensor) -> Tensor:
    """At least float32."""
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)
