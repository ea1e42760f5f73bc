"""Thresholding of the data prediction: pixels have a range, and strong guidance leaves it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction

__all__ = ["DynamicThreshold", "StaticThreshold"]


def _check_limit(name: str, limit: float) -> None:
    if not 0 < limit < math.inf:
        raise ValueError(f"{name} got limit={limit}; expected a finite number > 0 (1 for images in [-1, 1])")


@dataclass(frozen=True)
class StaticThreshold:
    """x0 <- clamp(x0, -limit, limit).

    For data with a known range: pixels, not latents. Put it after guidance.

    Args:
        limit: > 0.

    Source: arXiv 2205.11487, section 2.3.

    >>> StaticThreshold()._apply(torch.tensor([[-3.0, 0.5]]))
    tensor([[-1.0000,  0.5000]])
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        _check_limit("StaticThreshold", self.limit)

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The thresholded denoiser."""
        return _ThresholdedDenoiser(denoiser, self)

    def _apply(self, x0: Tensor) -> Tensor:
        return x0.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class DynamicThreshold:
    """x0 <- clamp(x0, -s, s) limit / s with s = max(quantile_q(|x0|), limit), s per sample.

    Equal to StaticThreshold where the quantile lies within the limit. For pixels; put it after guidance.

    Args:
        q: quantile, in (0, 1]; linear between order statistics, as torch.quantile but of any size.
        limit: > 0. The official code forgets to multiply by it; for limit = 1 that is the same.

    Source: arXiv 2205.11487, section 2.3; arXiv 2211.01095, section 5.1.

    >>> DynamicThreshold(q=1.0)._apply(torch.tensor([[-4.0, 2.0]]))
    tensor([[-1.0000,  0.5000]])
    """

    q: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise ValueError(f"DynamicThreshold got q={self.q}; expected a quantile in (0, 1], for example 0.995")
        _check_limit("DynamicThreshold", self.limit)

    def __call__(self, denoiser: Denoiser) -> Denoiser:
        """The thresholded denoiser."""
        return _ThresholdedDenoiser(denoiser, self)

    def _apply(self, x0: Tensor) -> Tensor:
        s = _quantile(x0.abs().flatten(1), self.q).clamp(min=self.limit).view(-1, *[1] * (x0.ndim - 1))
        return torch.minimum(torch.maximum(x0, -s), s) * (self.limit / s)


class _ThresholdedDenoiser(Denoiser):
    def __init__(self, denoiser: Denoiser, rule: StaticThreshold | DynamicThreshold) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.rule = denoiser, rule

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        p = self.denoiser(x_t, t, c)
        return p.with_x0(self.rule._apply(p.x0))


def _quantile(rows: Float[Tensor, "b n"], q: float) -> Float[Tensor, " b"]:
    """The q-quantile of each row (torch.quantile refuses more than 16 million numbers)."""
    last = rows.shape[1] - 1
    place = q * last
    below = math.floor(place)
    top = rows.topk(last - below + 1, dim=1).values
    lower = top[:, -1]
    return lower if below == last else torch.lerp(lower, top[:, -2], place - below)
