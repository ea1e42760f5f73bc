"""How images are brought to the size of a feature network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["eight_bits", "resize_centre", "resize_clean", "resize_tensorflow"]


def eight_bits(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images in [-1, 1] as the whole numbers 0 to 255 that a saved file holds (floating).

    >>> eight_bits(torch.tensor([-2.0, 0.0, 1.0]).view(1, 1, 1, 3)).flatten().tolist()
    [0.0, 128.0, 255.0]
    """
    return ((x + 1) * 127.5).round().clamp(0, 255)


def resize_tensorflow(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Bilinear resize of TensorFlow 1: corner-aligned to the top left, no half pixel, no antialiasing.

        out[i] = (1 - f) x[floor(s)] + f x[min(floor(s) + 1, n - 1)],   s = i n / size,   f = s - floor(s)

    It aliases and shifts; it is here because published FIDs were measured through it.

    >>> resize_tensorflow(torch.tensor([0.0, 2.0, 0.0, 2.0]).view(1, 1, 2, 2), 4)[0, 0, 0].tolist()
    [0.0, 1.0, 2.0, 2.0]
    """
    for axis in (2, 3):
        n = x.shape[axis]
        place = torch.arange(size, dtype=x.dtype, device=x.device) * (n / size)
        low = place.long().clamp(max=n - 1)
        part = place - low
        part = part[:, None] if axis == 2 else part
        left, right = (x.index_select(axis, rows) for rows in (low, (low + 1).clamp(max=n - 1)))
        x = left + (right - left) * part
    return x


def resize_clean(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Antialiased bicubic resize of values 0 to 255, clamped to that range: what clean-fid does (arXiv 2104.11222)."""
    return F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)


def resize_centre(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c s s"]:
    """Shorter side to `size` by an antialiased bicubic filter, then the middle square; values stay in [-1, 1]."""
    height, width = x.shape[2:]
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    if shape != (height, width):
        x = F.interpolate(x, shape, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return x[..., top : top + size, left : left + size]
