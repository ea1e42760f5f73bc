"""High dynamic range: an image too bright for what recorded it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import Operator

__all__ = ["Clip"]


class Clip(Operator):
    """y = clip(gain x, low, high). Differentiable but where it clips, where the gradient is 0.

    Args:
        gain: > 0.
        low, high: the range recorded, low < high.

    Raises:
        ValueError: for other settings; when called, for tensors that are not real floats.

    Source: HDR of arXiv 2305.04391 (gain 2, range [-1, 1], guess y / 2).

    >>> Clip()(torch.tensor([[-0.25, 0.75]])).tolist()
    [[-0.5, 1.0]]
    """

    def __init__(self, gain: float | int = 2.0, low: float | int = -1.0, high: float | int = 1.0) -> None:
        super().__init__()
        if not (0 < gain < math.inf and low < high):
            raise ValueError(f"Clip got gain={gain}, low={low}, high={high}; expected gain > 0 and low < high")
        self.gain, self.low, self.high = gain, low, high
        self.value_range = low, high

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """See above."""
        if not x.is_floating_point():
            raise ValueError(f"Clip got a {x.dtype} tensor; expected real floats, for 8 bits x.float() / 127.5 - 1")
        return (self.gain * x).clamp(self.low, self.high)

    def guess(self, y: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """y / gain."""
        return y / self.gain

    def project(self, x: Float[Tensor, "b *s"], y: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """The nearest image to x that explains a measurement without noise: brighter where y stands at the top, ..."""
        top, bottom = y >= self.high, y <= self.low
        exact = y / self.gain
        return torch.where(top, torch.maximum(x, exact), torch.where(bottom, torch.minimum(x, exact), exact))
