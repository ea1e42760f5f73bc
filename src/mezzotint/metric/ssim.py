"""Structural similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["ssim"]


def ssim(
    a: Float[Tensor, "b c h w"],
    b: Float[Tensor, "b c h w"],
    data_range: float = 2.0,
    *,
    size: int = 11,
    sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Float[Tensor, "b"]:
    """Structural similarity of each pair (float64), at most 1; 1 for equal images.

        SSIM = mean (2 mu_a mu_b + c1)(2 s_ab + c2) / ((mu_a^2 + mu_b^2 + c1)(s_a^2 + s_b^2 + c2)),   c_i = (k_i L)^2

    Means, variances and covariance under a Gaussian window of `size` pixels, averaged over the places where the window
    lies inside the image, and over channels (each by itself, no conversion to grey).

    Args:
        a, b: images, by convention in [-1, 1].
        data_range: L, greatest minus least value; 2 for [-1, 1].
        size, sigma: of the window, pixels; size is odd.
        k1, k2: the paper's constants.

    Raises:
        ValueError: for shapes that differ, images smaller than the window, an even window, or a range or sigma that is
            not positive.

    Source: Wang, Bovik, Sheikh, Simoncelli 2004 (IEEE TIP 13), equation 13, with the constants of section III-C.

    >>> x = torch.zeros(1, 1, 16, 16)
    >>> ssim(x, x + 1).round(decimals=6)  # flat images: c1 / (1 + c1)
    tensor([0.0004], dtype=torch.float64)
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"ssim got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal (b, c, h, w)")
    if size < 1 or size % 2 == 0 or not sigma > 0 or not data_range > 0:
        raise ValueError(f"ssim got size={size}, sigma={sigma}, data_range={data_range}; size is odd, all are positive")
    if min(a.shape[2:]) < size:
        raise ValueError(f"images of {tuple(a.shape[2:])} pixels are smaller than the window of {size}; give a smaller")
    place = torch.arange(size, dtype=torch.float64, device=a.device) - size // 2
    window = torch.exp(-place.square() / (2 * sigma**2))
    window = window / window.sum()
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    x, y = a.double(), b.double()
    shift = 0.5 * (x.mean((2, 3), keepdim=True) + y.mean((2, 3), keepdim=True))
    # variances do not change under a shift, and lose less to cancellation near 0
    u, v = x - shift, y - shift
    mean_u, mean_v, uu, vv, uv = (_blur(z, window) for z in (u, v, u * u, v * v, u * v))
    mean_x, mean_y = mean_u + shift, mean_v + shift
    covariance = uv - mean_u * mean_v
    variances = uu - mean_u.square() + vv - mean_v.square()
    light = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (light * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def _blur(x: Tensor, window: Tensor) -> Tensor:
    channels, size = x.shape[1], len(window)
    x = F.conv2d(x, window.view(1, 1, size, 1).expand(channels, 1, size, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, size).expand(channels, 1, 1, size), groups=channels)
