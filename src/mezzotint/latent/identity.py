"""Pixel space as a latent space."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.latent.spec import LatentSpec


class Identity(Autoencoder):
    """The autoencoder of pixel-space models: z = x, factor 1, mean 0, std 1 until statistics are fitted.

    Args:
        channels: channels of the images.

    >>> import torch
    >>> x = torch.zeros(1, 3, 4, 4)
    >>> torch.equal(Identity().decode(Identity().encode(x)), x)
    True
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__(LatentSpec.unit(1, channels), channels, {"channels": channels})

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """The image itself, without variance."""
        return x, None

    def raw_decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latent itself."""
        return z
