"""Peak signal-to-noise ratio of brightness alone, as super-resolution papers state it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.psnr import psnr

__all__ = ["luma", "luma_psnr"]


def luma(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Brightness of RGB images in [-1, 1], in [16, 235] (float64): Y of ITU-R BT.601, not rounded.

        Y = 16 + 65.481 R + 128.553 G + 24.966 B,   R, G, B in [0, 1]

    >>> import torch
    >>> luma(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten().round(decimals=4).tolist()
    [16.0, 235.0]
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"luma got shape {tuple(x.shape)}; expected RGB images (b, 3, h, w)")
    weights = x.new_tensor([65.481, 128.553, 24.966], dtype=torch.float64)
    return 16 + (((x.double() + 1) / 2) * weights.view(3, 1, 1)).sum(1, keepdim=True)


def luma_psnr(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"], border: int = 0) -> Float[Tensor, "b"]:
    """`psnr` of `luma` with a peak of 255, a border left out: the convention of super-resolution tables.

    Args:
        a, b: RGB images in [-1, 1], as they are (the tables round to 8 bits first).
        border: pixels left out on each side; the tables leave out as many as the factor.

    Raises:
        ValueError: for shapes that differ, or a border that leaves nothing.

    >>> import torch
    >>> x = torch.zeros(1, 3, 8, 8)
    >>> luma_psnr(x, x + 2 / 219, border=2).round(decimals=4)  # brightness differs by 1
    tensor([48.1308], dtype=torch.float64)
    """
    if a.shape != b.shape:
        raise ValueError(f"luma_psnr got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal batches")
    height, width = a.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(f"a border of {border} leaves nothing of images of {height} by {width} pixels")
    part = (slice(None), slice(None), slice(border, height - border), slice(border, width - border))
    return psnr(luma(a)[part], luma(b)[part], data_range=255.0)
