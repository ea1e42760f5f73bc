"""Low light: less of it, on a curve."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.affine import fits, pixel_map
from mezzotint.restore.operators.operator import Operator

__all__ = ["LowLight"]


class LowLight(Operator):
    """y = 2 gain u^gamma - 1 with the light u = (x + 1) / 2. Known: gain and gamma; sensor noise is of `measure`.

    The guess is the inverse. Below black, where restorers may stray, the curve goes on oddly, -|u|^gamma, so that
    gradients lead back.

    Args:
        gain: in (0, 1], the illumination: a number, (h, w), or (1 or b, 1 or c, h, w).
        gamma: in [1, 10]; above 1 shadows lose more.

    Raises:
        ValueError: for values outside these; when called, for images of another size.

    Source: arXiv 2406.11138, low light (Retinex y = R L, and gamma).

    >>> LowLight(0.5, gamma=2.0)(torch.ones(1, 1, 1, 1)).item()
    0.0
    """

    gain: Tensor
    value_range = (-1.0, 1.0)

    def __init__(self, gain: Tensor | float | int = 0.3, gamma: float | int = 1.0) -> None:
        super().__init__()
        if not 1 <= gamma <= 10:
            raise ValueError(f"LowLight got gamma={gamma}; expected a number from 1 to 10")
        self.gamma = float(gamma)
        self.register_buffer("gain", pixel_map(gain, "LowLight", "a gain", torch.finfo(torch.float32).tiny, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See above."""
        fits(x, self.gain, "LowLight")
        u = (x + 1) / 2
        return 2 * self.gain.to(x) * u.sign() * u.abs() ** self.gamma - 1

    def guess(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The inverse, of light below 0 too."""
        fits(y, self.gain, "LowLight")
        v = (y + 1) / 2 / self.gain.to(y)
        return 2 * v.sign() * v.abs() ** (1 / self.gamma) - 1
