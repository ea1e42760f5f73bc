"""Light augmentation of image batches: what a feature should not care about."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.noise import fold

__all__ = ["augment"]

_BLUR = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def augment(
    x: Float[Tensor, "b 3 h w"], seed: int, step: int, *, strength: float = 1.0, flip: bool = True
) -> Float[Tensor, "b 3 h w"]:
    """Flip, shift, turn, scale, blur, brightness and grain, a pure function of (x, seed, step) (our choice).

    At strength 1: shift up to 6 % of the side, turn up to 10 degrees, scale 0.9 to 1.1, a binomial blur mixed in by
    0 to 1, brightness and contrast by 10 %, grain of standard deviation 0.03. Outside the image its border goes on.

    Args:
        x: images in [-1, 1].
        seed, step: key of the randomness.
        strength: scales every effect; 0 leaves all but the flip out.
        flip: mirror half of the images.
    """
    generator = torch.Generator().manual_seed(fold(seed, "augment", step))
    b, channels = x.shape[:2]
    u = strength * (2 * torch.rand(8, b, generator=generator) - 1)
    angle, scale = u[0] * math.radians(10), 1 + 0.1 * u[1]
    mirror = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(b)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack([cos * mirror, -sin, 0.12 * u[2], sin * mirror, cos, 0.12 * u[3]], 1).view(b, 2, 3)
    places = F.affine_grid(rows, list(x.shape), align_corners=False)
    x = F.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)
    kernel = torch.outer(_BLUR, _BLUR).expand(channels, 1, 5, 5)
    soft = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)
    x = torch.lerp(x, soft, u[4].abs().view(b, 1, 1, 1))
    x = x * (1 + 0.1 * u[5]).view(b, 1, 1, 1) + (0.1 * u[6]).view(b, 1, 1, 1)
    return x + 0.03 * strength * torch.randn(x.shape, generator=generator)
