"""Guidance in a limited interval of noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.known import known_time
from mezzotint.guide.guided import Guide, GuidedDenoiser

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval:
    """Guides where t_low <= t <= t_high; elsewhere the denoiser is called as it is, with the condition.

    Outside the interval only the plain denoiser is evaluated, so classifier-free guidance there costs half.

    Args:
        guide: what is applied inside.
        t_low, t_high: times, 0 <= t_low < t_high <= 1 (0 = data); of a noise level sigma/alpha = s:
            schedule.t_of(-log(s)).

    Raises:
        ValueError: for other bounds.

    Source: arXiv 2404.07724, equation 5, with times in place of noise levels.
    """

    guide: Guide
    t_low: float = 0.0
    t_high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.t_low < self.t_high <= 1:
            raise ValueError(
                f"Interval got t_low={self.t_low}, t_high={self.t_high}; expected 0 <= t_low < t_high <= 1"
            )

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The denoiser that is guided inside the interval."""
        return _IntervalDenoiser(denoiser, self.guide(denoiser), self.t_low, self.t_high)


class _IntervalDenoiser(GuidedDenoiser):
    def __init__(self, denoiser: Denoiser, guided: Denoiser, t_low: float, t_high: float) -> None:
        super().__init__(denoiser)
        self.guided, self.t_low, self.t_high = guided, t_low, t_high

    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """See GuidedDenoiser.pair."""
        low, high = _span(t)
        if high < self.t_low or low > self.t_high:
            plain = self.denoiser(x_t, t, c)
            return plain, plain
        if isinstance(self.guided, GuidedDenoiser):
            guided, plain = self.guided.pair(x_t, t, c)
        else:
            guided, plain = self.guided(x_t, t, c), self.denoiser(x_t, t, c)
        return self._mixed(guided, plain, t, low, high), plain

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        low, high = _span(t)
        if self.t_low <= low and high <= self.t_high:
            return self.guided(x_t, t, c)
        return self.pair(x_t, t, c)[0]

    def _mixed(self, guided: Prediction, plain: Prediction, t: Tensor, low: float, high: float) -> Prediction:
        if self.t_low <= low and high <= self.t_high:
            return guided
        inside = ((t >= self.t_low) & (t <= self.t_high)).view(-1, *[1] * (guided.x_t.ndim - 1))
        return guided.with_x0(torch.where(inside, guided.x0, plain.x0))


def _span(t: Tensor) -> tuple[float, float]:
    """Smallest and largest time. Samplers' times carry their number; others are read back from the device."""
    known = known_time(t)
    return (known, known) if known is not None else (float(t.min()), float(t.max()))
