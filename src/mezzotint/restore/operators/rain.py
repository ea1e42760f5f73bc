"""Rain: bright streaks over the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.operators.affine import Affine, Scale, pixel_map
from mezzotint.restore.operators.radon import need_size

__all__ = ["Rain", "rain_layer"]


def rain_layer(
    size: int | Sequence[int],
    noise: Noise,
    *,
    density: float | int = 0.01,
    length: float | int = 9.0,
    angle: float | int = 10.0,
    strength: float | int = 0.6,
) -> Float[Tensor, "b 1 h w"]:
    """Straight streaks: random drops, each smeared along one direction.

    Args:
        size: height and width, pixels.
        noise: one seed a layer (purpose "rain").
        density: share of the pixels where a drop is, [0, 1].
        length: of a streak, pixels, > 0.
        angle: of the fall from the vertical, degrees, in (-90, 90); positive ones fall to the right.
        strength: brightness of a streak where one drop passes, >= 0; drops vary between half of it and all of it.

    Source: our choice, in the style of Rain100's synthetic streaks (arXiv 2406.11138, deraining).

    >>> rain_layer(8, Noise([0, 1]), density=0.1).shape
    torch.Size([2, 1, 8, 8])
    """
    h, w = need_size(size, "rain_layer")
    if not (0 <= density <= 1 and 0 < length < math.inf and -90 < angle < 90 and 0 <= strength < math.inf):
        raise ValueError(
            f"rain_layer got density={density}, length={length}, angle={angle}, strength={strength}; expected a share "
            "in [0, 1], a length > 0, degrees in (-90, 90) and a strength >= 0"
        )
    half = math.ceil(length / 2)
    wide = (1, h + 2 * half, w + 2 * half)  # drops beside the image reach into it
    here = noise.uniform("rain", 0, wide, dtype=torch.float64) < density
    drops = here * (0.5 + 0.5 * noise.uniform("rain", 1, wide, dtype=torch.float64))
    reach = torch.arange(-half, half + 1, dtype=torch.float64)
    fall, right = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along = reach[:, None] * fall + reach * right
    aside = reach[:, None] * right - reach * fall
    kernel = (1 - aside.abs()).clamp(min=0) * (length / 2 + 0.5 - along.abs()).clamp(0, 1)
    streaks = torch.nn.functional.conv2d(drops, kernel.flip(0, 1)[None, None])
    return (strength * streaks).float()


class Rain(Affine):
    """y = x + layer: streaks add light. Known: the layer (blind deraining has to find it). Nothing is cut at white.

    Args:
        layer: in units of the image, (h, w) or (1 or b, 1 or c, h, w), >= 0; `rain_layer` makes one.

    Raises:
        ValueError: for a layer with negative or infinite values; when called, for images of another size.

    Source: arXiv 2406.11138, deraining (y = x + sum of streaks).

    >>> Rain(torch.full((1, 1), 0.5))(torch.zeros(1, 1, 1, 1)).item()
    0.5
    """

    def __init__(self, layer: Tensor) -> None:
        super().__init__(Scale(1.0), pixel_map(layer, "Rain", "a layer", 0, torch.finfo(torch.float32).max))
