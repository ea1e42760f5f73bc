"""Prediction: what a denoiser says, in any of the five languages of the field, converted in one place.

x_t = alpha x0 + sigma eps; v = alpha eps - sigma x0; flow u = eps - x0; score = -eps / sigma.
Each is linear in the two unknowns (x0, eps), and x_t is known: any one of them gives the others.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.known import known_levels
from mezzotint.core.schedule import Schedule

__all__ = ["Prediction"]

_WIDE = (torch.float32, torch.float64)


def _divide(numerator: Tensor, denominator: Tensor | float) -> Tensor:
    """numerator / denominator, 0 where the denominator is exactly 0 (there the unknown is free)."""
    if isinstance(denominator, Tensor):
        return numerator / torch.where(denominator == 0, torch.inf, denominator)
    return numerator / (denominator or torch.inf)


def _mix(a: Any, x: Tensor, b: Any, y: Tensor, over: Any) -> Tensor:
    """(a x + b y) / over, 0 where `over` is 0; one or two kernels where the coefficients are floats."""
    if isinstance(over, Tensor):
        return _divide(a * x + b * y, over)
    if a != 1.0 and over:
        return torch.mul(x, a / over).add_(y, alpha=b / over)
    total = torch.add(x, y, alpha=b)  # before the division: where `over` is small the two nearly cancel
    return total if over == 1.0 else total.div_(over or torch.inf)


class Prediction:
    """One native value and the conversions from it; float32 or wider; computed when asked for, once.

    Where the native value says nothing about another (x0 from eps at alpha = 0; eps from x0 at sigma = 0) that other
    one is 0. At those ends v and flow stay exact for the side that is determined.

    >>> from mezzotint.core.schedule import Flow
    >>> p = Prediction.from_flow(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.5]), Flow())
    >>> p.x0.tolist(), p.eps.tolist()
    ([[1.0, 1.0]], [[1.0, 1.0]])
    """

    kinds: ClassVar[tuple[str, ...]] = ("x0", "eps", "v", "flow", "score")

    def __init__(self, kind: str, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> None:
        if kind not in self.kinds:
            raise ValueError(f"unknown prediction kind {kind!r}; expected one of {', '.join(self.kinds)}")
        if value.shape != x_t.shape:
            raise ValueError(
                f"a prediction of {kind} has shape {tuple(value.shape)} but x_t has {tuple(x_t.shape)}; "
                "a network that also predicts a variance must be cut to its mean first"
            )
        if t.shape != x_t.shape[:1]:
            raise ValueError(f"times have shape {tuple(t.shape)}; expected ({len(x_t)},), one a sample")
        self.kind, self.t, self.schedule = kind, t, schedule
        if value.dtype is not x_t.dtype or value.dtype not in _WIDE:
            dtype = torch.promote_types(torch.promote_types(value.dtype, x_t.dtype), torch.float32)
            value, x_t = value.to(dtype), x_t.to(dtype)
        self.value, self.x_t = value, x_t
        self._cache: dict[str, Tensor] = {kind: value}

    @classmethod
    def from_x0(cls, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Prediction:
        """From the clean data, (b, *s)."""
        return cls("x0", value, x_t, t, schedule)

    @classmethod
    def from_eps(cls, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Prediction:
        """From the noise, (b, *s)."""
        return cls("eps", value, x_t, t, schedule)

    @classmethod
    def from_v(cls, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Prediction:
        """From v = alpha eps - sigma x0 (arXiv 2202.00512), (b, *s)."""
        return cls("v", value, x_t, t, schedule)

    @classmethod
    def from_flow(cls, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Prediction:
        """From u = eps - x0, the velocity of Flow() with time from data to noise, (b, *s)."""
        return cls("flow", value, x_t, t, schedule)

    @classmethod
    def from_score(cls, value: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Prediction:
        """From the gradient of log p_t, -eps / sigma, (b, *s)."""
        return cls("score", value, x_t, t, schedule)

    def with_x0(self, x0: Float[Tensor, "b *s"]) -> Prediction:
        """The same x_t and t with another data prediction (thresholding, replacement)."""
        return Prediction("x0", x0, self.x_t, self.t, self.schedule)

    def with_eps(self, eps: Float[Tensor, "b *s"]) -> Prediction:
        """The same x_t and t with another noise prediction (guidance)."""
        return Prediction("eps", eps, self.x_t, self.t, self.schedule)

    def __repr__(self) -> str:
        return f"Prediction({self.kind}, {tuple(self.value.shape)}, {self.value.dtype})"

    def _coefficient(self, name: str) -> Tensor:
        if name not in self._cache:
            value = getattr(self.schedule, name)(self.t.to(torch.float64)).to(self.x_t.dtype)
            self._cache[name] = value.view(-1, *[1] * (self.x_t.ndim - 1))
        return self._cache[name]

    @property
    def alpha(self) -> Tensor:
        """alpha(t), (b, 1, ...)."""
        return self._coefficient("alpha")

    @property
    def sigma(self) -> Tensor:
        """sigma(t), (b, 1, ...)."""
        return self._coefficient("sigma")

    def _levels(self) -> tuple[float, float] | tuple[Tensor, Tensor]:
        """alpha and sigma: floats where the time carries them (a sampler's does), else tensors (b, 1, ...)."""
        return known_levels(self.t, self.schedule) or (self.alpha, self.sigma)

    def _get(self, kind: str) -> Tensor:
        if kind not in self._cache:
            self._cache[kind] = getattr(self, f"_as_{kind}")()
        return self._cache[kind]

    @property
    def x0(self) -> Tensor:
        """The clean data."""
        return self._get("x0")

    @property
    def eps(self) -> Tensor:
        """The noise."""
        return self._get("eps")

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma x0."""
        return self._get("v")

    @property
    def flow(self) -> Tensor:
        """eps - x0."""
        return self._get("flow")

    @property
    def score(self) -> Tensor:
        """-eps / sigma; 0 at sigma = 0, where it does not exist."""
        return self._get("score")

    def _as_x0(self) -> Tensor:
        a, s = self._levels()
        if self.kind == "v":
            return _mix(a, self.x_t, -s, self.value, a * a + s * s)
        if self.kind == "flow":
            return _mix(1.0, self.x_t, -s, self.value, a + s)
        return _mix(1.0, self.x_t, -s, self.eps, a)

    def _as_eps(self) -> Tensor:
        a, s = self._levels()
        if self.kind == "score":
            return -s * self.value
        if self.kind == "v":
            return _mix(s, self.x_t, a, self.value, a * a + s * s)
        if self.kind == "flow":
            return _mix(1.0, self.x_t, a, self.value, a + s)
        return _mix(1.0, self.x_t, -a, self.value, s)

    def _as_v(self) -> Tensor:
        a, s = self._levels()
        return a * self.eps - s * self.x0

    def _as_flow(self) -> Tensor:
        return self.eps - self.x0

    def _as_score(self) -> Tensor:
        return -_divide(self.eps, self._levels()[1])
