"""Shadow: a share of the light is missing."""

from __future__ import annotations

import torch
from torch import Tensor

from mezzotint.restore.operators.affine import Affine, Scale, pixel_map

__all__ = ["Shadow"]


class Shadow(Affine):
    """(y + 1) = s (x + 1): the light, 0 at x = -1, is multiplied. Known: the matte s.

    Affine: y = s x + (s - 1). The guess undoes it; where s = 0 nothing is known and the guess is 0.

    Args:
        matte: s in [0, 1], 1 where no shadow falls; a number, (h, w), or (1 or b, 1 or c, h, w).

    Raises:
        ValueError: for values outside [0, 1]; when called, for images of another size.

    Source: arXiv 2406.11138, shadow removal (y = x s on light).

    >>> Shadow(0.5)(torch.ones(1, 1, 1, 1)).item()
    0.0
    """

    def __init__(self, matte: Tensor | float | int) -> None:
        s = pixel_map(matte, "Shadow", "a matte", 0, 1)
        super().__init__(Scale(s), s - torch.ones_like(s))
