"""diffusers' AutoencoderDC as an autoencoder of ours."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mezzotint.io.diffusers.autoencoder import latent_spec
from mezzotint.latent import Autoencoder

__all__ = ["DiffusersDC"]


class DiffusersDC(Autoencoder):
    """The deep-compression autoencoder of Sana: factor 32, no posterior. Runs in the dtype of its weights, gives
    float32.

    Args:
        module: an AutoencoderDC of diffusers.

    Source: arXiv 2410.10733; statistics as in `latent_spec`.
    """

    def __init__(self, module: Any) -> None:
        config = module.config
        factor = 2 ** (len(config.encoder_block_out_channels) - 1)
        super().__init__(latent_spec(config, factor, config.latent_channels), config.in_channels, {})
        self.module = module

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """The latent, without variance."""
        return self.module.encode(x.to(self.module.dtype), return_dict=False)[0].float(), None

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Images of raw latents."""
        return self.module.decode(z.to(self.module.dtype), return_dict=False)[0].float()
