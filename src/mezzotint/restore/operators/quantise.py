"""Few grey levels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import Operator
from mezzotint.restore.operators.straight import straight_through

__all__ = ["Quantise"]


class Quantise(Operator):
    """y = the nearest of 2^bits levels, even from low to high, both included; values outside are cut.

    Rounding passes the gradient of the identity (straight-through), cutting passes 0.

    Args:
        bits: 1 to 16.
        low, high: the range, low < high.

    Raises:
        ValueError: for other settings; when called, for tensors that are not real floats.

    Source: arXiv 2305.04391 (quantise, guess y), arXiv 2406.11138 (dequantisation).

    >>> Quantise(1)(torch.tensor([[-0.3, 0.2]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(self, bits: int, low: float | int = -1.0, high: float | int = 1.0) -> None:
        super().__init__()
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
            raise ValueError(f"Quantise got bits={bits!r}; expected a whole number from 1 to 16")
        if not low < high:
            raise ValueError(f"Quantise got low={low}, high={high}; expected low < high")
        self.bits, self.low, self.high = bits, low, high
        self.value_range = low, high

    @property
    def step(self) -> float:
        """Between two levels."""
        return (self.high - self.low) / (2**self.bits - 1)

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """See above."""
        if not x.is_floating_point():
            raise ValueError(f"Quantise got a {x.dtype} tensor; expected real floats, for 8 bits x.float() / 127.5 - 1")
        cut = x.clamp(self.low, self.high)
        return straight_through(self.low + self.step * ((cut - self.low) / self.step).round(), cut)

    def guess(self, y: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """y."""
        return y

    def project(self, x: Float[Tensor, "b *s"], y: Float[Tensor, "b *s"]) -> Float[Tensor, "b *s"]:
        """The nearest image to x, within the range, that rounds to y (half a step less or more, but for ties)."""
        half = self.step / 2
        return torch.minimum(torch.maximum(x, y - half), y + half).clamp(self.low, self.high)
