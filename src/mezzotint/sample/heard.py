"""What a denoiser says at the start of a step, listened to while a solver runs: guided, but not yet thresholded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.guide import DynamicThreshold, GuidedDenoiser, StaticThreshold

__all__ = ["Heard", "Threshold", "check_branch", "moved", "number_of", "parts_of", "regime_at", "unthresholded"]

Threshold = DynamicThreshold | StaticThreshold


class Heard(Denoiser):
    """Passes predictions on and remembers the first: the one at the start of the step, guided but not thresholded."""

    def __init__(self, denoiser: Denoiser, branch: str) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.branch = denoiser, branch
        self.prediction: Prediction | None = None
        self.first: Tensor | None = None
        self.gain = 1.0  # of the branch in the guided estimate

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        if self.first is not None:
            return self.denoiser(x_t, t, c)
        if self.branch == "guided":
            p = alone = self.denoiser(x_t, t, c)
        else:
            p, alone = check_branch(self.denoiser).pair(x_t, t, c)
            self.gain = number_of(self.denoiser, "w") or 0.0
        self.prediction, self.first = p, alone.x0
        return p


class _Said(Denoiser):
    """Says one prediction, whatever it is asked."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__(prediction.schedule)
        self.prediction = prediction

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        return self.prediction


def moved(p: Prediction | None, by: Tensor, threshold: Threshold) -> Tensor:
    """How far adding `by` to the data prediction moves it, both thresholded."""
    assert p is not None
    now, was = (threshold(_Said(p.with_x0(x0)))(p.x_t, p.t).x0 for x0 in (p.x0 + by, p.x0))
    return (now - was).to(by.dtype)


def check_branch(d: Denoiser) -> GuidedDenoiser:
    if not isinstance(d, GuidedDenoiser) or number_of(d, "w") is None:
        raise ValueError(
            f"branch='condition' needs a denoiser guided by CFG, got {type(d).__name__}; use CFG(w)(denoiser), with "
            "nothing but a threshold around it, or branch='guided'"
        )
    return d


def unthresholded(d: Denoiser) -> tuple[Denoiser, Threshold | None]:
    """The denoiser under an outermost threshold, and that threshold."""
    rule, inner = getattr(d, "rule", None), getattr(d, "denoiser", None)
    if isinstance(rule, Threshold) and isinstance(inner, Denoiser):
        return inner, rule
    return d, None


def parts_of(d: Denoiser) -> Iterator[Any]:
    """A guided denoiser, what it guides, and so on inwards; at an interval also what is used inside it."""
    part: Any = d
    while isinstance(part, Denoiser):
        yield part
        if isinstance(getattr(part, "guided", None), Denoiser):
            yield part.guided
        part = getattr(part, "denoiser", None)


def number_of(part: Any, name: str) -> float | None:
    value = getattr(part, name, None)
    return float(value) if isinstance(value, (int, float)) else None


def regime_at(d: Denoiser, t: float) -> tuple[bool, ...]:
    """For each interval of guidance in the denoiser, whether t lies inside."""
    ends = [(number_of(part, "t_low"), number_of(part, "t_high")) for part in parts_of(d)]
    return tuple(low <= t <= high for low, high in ends if low is not None and high is not None)
