"""Discrete(betas): the schedule of a model that was trained on N integer steps (DDPM, Stable Diffusion)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from mezzotint.core.schedule import _real

__all__ = ["Discrete"]


class Discrete:
    """A table of N betas, made continuous: log alpha is linear in t between the steps.

    DDPM step i = 0 .. N-1 lies at t = (i + 1) / N, where alpha^2 = prod_{j <= i} (1 - beta_j) exactly; t = 0 is the
    clean image. A network trained on integer steps receives `timestep(t)` = t N - 1.

    Args:
        betas: (N,) each in (0, 1).

    Raises:
        ValueError: for an empty table or a beta outside (0, 1).

    Source: arXiv 2006.11239, section 2; interpolation: arXiv 2211.01095, official code.

    >>> schedule = Discrete.linear(1000)
    >>> round(float(schedule.alpha(torch.tensor(1.0, dtype=torch.float64))) ** 2, 8)
    4.036e-05
    """

    curve: ClassVar[str] = "variance"

    def __init__(self, betas: Sequence[float] | Tensor) -> None:
        table = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        if table.ndim != 1 or table.numel() == 0:
            raise ValueError(f"Discrete got betas of shape {tuple(table.shape)}; expected a list of N numbers")
        if not bool(((table > 0) & (table < 1)).all()):
            bad = int((~((table > 0) & (table < 1))).nonzero()[0])
            raise ValueError(f"Discrete got beta[{bad}]={float(table[bad])}; expected every beta inside (0, 1)")
        self.betas: tuple[float, ...] = tuple(table.tolist())
        log_alpha = torch.cat([table.new_zeros(1), 0.5 * torch.cumsum(torch.log1p(-table), 0)])
        self._tables = {torch.device("cpu"): log_alpha}

    @classmethod
    def linear(cls, n: int = 1000, first: float = 1e-4, last: float = 0.02) -> Discrete:
        """beta rises linearly from first to last (arXiv 2006.11239)."""
        return cls(torch.linspace(first, last, n, dtype=torch.float64))

    @classmethod
    def scaled_linear(cls, n: int = 1000, first: float = 0.00085, last: float = 0.012) -> Discrete:
        """sqrt(beta) rises linearly: what latent diffusion calls "linear" (arXiv 2112.10752, code)."""
        return cls(torch.linspace(math.sqrt(first), math.sqrt(last), n, dtype=torch.float64) ** 2)

    @classmethod
    def cosine(cls, n: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Discrete:
        """1 - beta_i = f((i+1)/n) / f(i/n), f(t) = cos^2(pi/2 (t+s)/(1+s)), beta clipped (arXiv 2102.09672, eq. 17)."""
        f = torch.cos(0.5 * math.pi * (torch.linspace(0, 1, n + 1, dtype=torch.float64) + s) / (1 + s)) ** 2
        return cls((1 - f[1:] / f[:-1]).clamp(max=max_beta))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Discrete) and self.betas == other.betas

    def __hash__(self) -> int:
        return hash(self.betas)

    def __repr__(self) -> str:
        return f"Discrete({self.steps} betas, {self.betas[0]:.3g} to {self.betas[-1]:.3g})"

    @property
    def steps(self) -> int:
        """N, the number of steps the model was trained on."""
        return len(self.betas)

    def timestep(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The DDPM step t N - 1, a real number in [-1, N - 1]."""
        return _real(t) * self.steps - 1

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def _log_alpha(self, t: Tensor) -> Tensor:
        table = self._table(t.device)
        place = (t.to(torch.float64) * self.steps).clamp(0, self.steps)
        # times are quotients i / N that need not be exact in binary: within rounding of a step means the step
        near = place.round()
        place = torch.where((place - near).abs() < 1e-9, near, place)
        low = place.floor().clamp(max=self.steps - 1).long()
        return torch.lerp(table[low], table[low + 1], place - low)

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """exp(log alpha), exact at the integer steps."""
        t = _real(t)
        return self._log_alpha(t).exp().to(t.dtype)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """sqrt(1 - alpha^2)."""
        t = _real(t)
        return torch.expm1(2 * self._log_alpha(t)).abs().sqrt().to(t.dtype)

    def half_log_snr(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(alpha / sigma); +inf at t = 0."""
        t = _real(t)
        log_alpha = self._log_alpha(t)
        return (log_alpha - 0.5 * torch.expm1(2 * log_alpha).abs().log()).to(t.dtype)

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam (clamped to [0, 1])."""
        lam = _real(lam)
        table = -self._table(lam.device)  # rises from 0
        target = 0.5 * softplus(-2 * lam.to(torch.float64), threshold=50)
        high = torch.searchsorted(table, target).clamp(1, self.steps)
        low_value, high_value = table[high - 1], table[high]
        t = (high - 1 + (target - low_value) / (high_value - low_value)) / self.steps
        return t.clamp(0, 1).to(lam.dtype)
