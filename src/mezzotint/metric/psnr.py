"""Peak signal-to-noise ratio."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["psnr"]


def psnr(a: Float[Tensor, "b *s"], b: Float[Tensor, "b *s"], data_range: float = 2.0) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each sample in decibels (float64); equal samples give infinity.

        10 log10(data_range^2 / mean((a - b)^2))

    Args:
        a, b: images, by convention in [-1, 1].
        data_range: greatest minus least value; 2 for [-1, 1].

    Raises:
        ValueError: for shapes that differ or a range that is not positive.

    >>> psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)).round(decimals=4)
    tensor([12.0412], dtype=torch.float64)
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"psnr got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal batches")
    if not data_range > 0:
        raise ValueError(f"psnr got data_range={data_range}; expected a positive number (2 for images in [-1, 1])")
    error = (a.double() - b.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / error)
