"""Haze: light of the air between the camera and the scene."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.affine import Affine, Scale, pixel_map

__all__ = ["Haze"]

_LEAST = 0.1  # a guess divides by no less (He, Sun and Tang 2009)


class Haze(Affine):
    """y = t x + (1 - t) A, in the range of the image, [-1, 1]. Known: t and A (blind dehazing has to find them).

    Affine: `linear_part` is the gain t. The guess divides y - (1 - t) A by max(t, 0.1).

    Args:
        transmission: t in [0, 1], the share of the scene's light that arrives; a number, (h, w), or
            (1 or b, 1 or c, h, w).
        airlight: A in [-1, 1], one number or one a channel.

    Raises:
        ValueError: for values outside of these; when called, for images of another size.

    Source: arXiv 2406.11138, dehazing (Koschmieder's law). It holds for linear light; applied to images as they are.

    >>> Haze(0.5, airlight=1.0)(torch.zeros(1, 3, 1, 1)).flatten().tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self, transmission: Tensor | float | int, airlight: float | int | Sequence[float] | Tensor = 1.0
    ) -> None:
        t = pixel_map(transmission, "Haze", "a transmission", 0, 1)
        air = torch.as_tensor(airlight, dtype=t.dtype).reshape(1, -1, 1, 1)
        if not air.numel() or not bool(((air >= -1) & (air <= 1)).all()):
            raise ValueError(f"Haze got airlight={airlight}; expected values in [-1, 1], one or one a channel")
        super().__init__(Scale(t), (1 - t) * air)

    @classmethod
    def of_depth(
        cls, depth: Tensor, beta: float | int = 1.0, airlight: float | int | Sequence[float] | Tensor = 1.0
    ) -> Haze:
        """Haze of t = exp(-beta depth).

        Args:
            depth: >= 0, (h, w) or (1 or b, 1, h, w).
            beta: > 0, extinction per unit of depth.
            airlight: see above.
        """
        if not 0 < beta < math.inf:
            raise ValueError(f"Haze got beta={beta}; expected a number > 0")
        return cls((-beta * pixel_map(depth, "Haze", "a depth", 0, math.inf)).exp(), airlight)

    def guess(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See above."""
        t = self.linear_part.gain.to(y)  # type: ignore[union-attr]
        return self.centred(y) / t.clamp(min=_LEAST)  # type: ignore[operator]
