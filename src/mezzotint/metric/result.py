"""What a measure returns: a value, its error where a simple estimator exists, and the card of how it was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mezzotint.metric.card import MetricCard

__all__ = ["Estimate", "MetricResult", "mean_of"]


class Estimate(NamedTuple):
    """A number and its standard error; None where no estimator applies."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class MetricResult:
    """A measured value with its card.

    Args:
        value: the number.
        card: what it was measured with.
        error: its standard error, None where there is no simple estimator.

    >>> MetricResult(20.0, MetricCard("psnr", n=4), error=0.5).interval
    (19.02, 20.98)
    """

    value: float
    card: MetricCard
    error: float | None = None

    @property
    def name(self) -> str:
        """The measure and the extractor it was taken on: never a published metric's name by itself."""
        extractor = self.card.extractor
        return self.card.metric if extractor == "none" else f"{self.card.metric} on {extractor}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % normal interval, value -+ 1.96 error; None without an error."""
        return None if self.error is None else (self.value - 1.96 * self.error, self.value + 1.96 * self.error)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: name, value, error, and the card's entries. What is not finite (PSNR of equal images) is a string,
        as JSON has no word for it."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        return {"name": self.name, "value": value, "error": self.error, "card": self.card.to_dict()}


def mean_of(values: Tensor) -> Estimate:
    """Mean of one number a sample, with the standard error s / sqrt(n); no error for one sample or an infinite mean.

    >>> mean_of(torch.tensor([1.0, 3.0]))
    Estimate(value=2.0, error=1.0)
    """
    rows = values.detach().cpu().double()
    mean = float(rows.mean())
    if len(rows) < 2 or not math.isfinite(mean):
        return Estimate(mean)
    return Estimate(mean, float(rows.std()) / math.sqrt(len(rows)))


def spread(jackknife: Tensor) -> float:
    """Variance of an estimator from its n leave-one-out values: (n - 1)/n sum (v_i - mean)^2 (Efron 1982)."""
    return float((jackknife - jackknife.mean()).square().sum()) * (len(jackknife) - 1) / len(jackknife)


def finite(name: str, value: Tensor) -> Tensor:
    """`value`, or ValueError if it holds NaN or infinity."""
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} has NaN or infinite values; look where they were made")
    return value
