"""Whether the latents of an autoencoder may be pooled, as the lower levels of a cascade need it."""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.pyramid import ResolutionPyramid, Up
from mezzotint.latent import Autoencoder

__all__ = ["check_pooled_latents"]


@torch.no_grad()
def check_pooled_latents(
    autoencoder: Autoencoder,
    x: Float[Tensor, "b c h w"],
    factor: int = 2,
    *,
    up: Up = "bilinear",
    least: float = 20.0,
) -> float:
    """PSNR of decode(U(pool(z))) against U(pool(x)): how far pooled latents are those of a blurred image, in dB.

        10 log10(4 / mean |decode(U(A z)) - U(A x)|^2),   z = encode(x), A the mean over blocks of factor^2

    Some latent spaces carry detail between neighbours, whose mean then means nothing. Warns below `least`.

    Args:
        autoencoder: encodes without noise.
        x: images in [-1, 1]; sides that the autoencoder's factor times `factor` divides.
        factor: of the pooling, >= 2.
        up: enlargement, as in the pyramid.
        least: dB.

    Raises:
        ValueError: for sides that do not divide.

    Source: our choice for arXiv 2509.15342, whose latent levels are not described.

    >>> from mezzotint.latent import Identity
    >>> check_pooled_latents(Identity(3), torch.rand(1, 3, 8, 8))
    inf
    """
    if factor < 2:
        raise ValueError(f"check_pooled_latents got factor={factor}; expected at least 2")
    made = autoencoder.decode(_blurred(autoencoder.encode(x), factor, up))
    error = float((made - _blurred(x, factor, up)).square().mean())
    found = 10 * math.log10(4 / error) if error > 0 else math.inf
    if not found >= least:
        warnings.warn(
            f"pooled latents of this autoencoder decode to {found:.1f} dB of the blurred image, {least:g} expected: "
            f"the mean of neighbouring latents is no latent of a smaller image here; do not train a cascade on them",
            stacklevel=2,
        )
    return found


def _blurred(x: Tensor, factor: int, up: Up) -> Tensor:
    """U(A x)."""
    side = x.shape[2]
    if side % factor:
        raise ValueError(f"resolution {side} is not divisible by the pooling factor {factor}; crop or pad it first")
    pyramid = ResolutionPyramid((side // factor, side), up=up)
    return pyramid.lift(pyramid.down(x, 0), 1)
