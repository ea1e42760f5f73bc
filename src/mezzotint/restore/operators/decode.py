"""Any operator on latents: the decoder comes first."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.restore.operators.operator import Operator

__all__ = ["Decode"]


class Decode(Operator):
    """y = decode(z), so that `Mask(m) @ Decode(autoencoder)` measures latents. Gradients pass; no closed forms.

    The guess is the encoder's mean latent of the image cut to [-1, 1]. A pseudo-inverse in pixels is no projection
    among latents: consistency is approximate.

    Args:
        autoencoder: any of `mezzotint.latent`; used as it is, and left as it is.

    Raises:
        ValueError: for something else; when called, for latents (or images) that do not suit it.

    Source: arXiv 2305.04391 as an extension (our choice); arXiv 2406.11138, latent models.

    >>> from mezzotint.latent import Identity
    >>> import torch
    >>> Decode(Identity(1)).guess(torch.full((1, 1, 1, 1), 2.0)).item()
    1.0
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        if not isinstance(autoencoder, Autoencoder):
            raise ValueError(
                f"Decode got {type(autoencoder).__name__}; expected an Autoencoder, such as model.autoencoder"
            )
        self.autoencoder = autoencoder

    def forward(self, x: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """decode(x), about [-1, 1], not clipped."""
        return self.autoencoder.decode(x)

    def guess(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k hz wz"]:
        """encode(y cut to [-1, 1])."""
        return self.autoencoder.encode(y.clamp(-1, 1))
