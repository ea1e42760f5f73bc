"""What the KL and the VQ autoencoder share: encoder, decoder and the 1x1 convolutions around the latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.latent.blocks import Decoder, Encoder
from mezzotint.latent.spec import LatentSpec
from mezzotint.nn.site import name_sites


class ConvolutionalAutoencoder(Autoencoder):
    """Encoder and decoder of arXiv 2112.10752 with ``quant_conv`` and ``post_quant_conv``.

    factor = patch * 2**(len(mult) - 1).

    Args:
        doubled: outputs of the encoder for each latent channel (2 for mean and log-variance).
        codes: size of the codebook, if there is one.
        config: as in :class:`Autoencoder`; the remaining arguments are described in
            :class:`mezzotint.latent.blocks.Encoder`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        mult: Sequence[int],
        blocks: int,
        latent: int,
        patch: int,
        attention: bool,
        attention_at: Sequence[int],
        groups: int,
        doubled: int,
        codes: int | None,
        config: dict[str, Any],
    ) -> None:
        sizes = {
            "in_channels": in_channels,
            "channels": channels,
            "blocks": blocks,
            "latent": latent,
            "patch": patch,
            "groups": groups,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not mult or min(mult) < 1:
            raise ValueError(f"mult needs one positive width a level, such as (1, 2, 4), got {tuple(mult)}")
        factors = [patch * 2**level for level in range(len(mult))]
        if set(attention_at) - set(factors):
            raise ValueError(f"attention_at names levels by factor, of {factors}, got {tuple(attention_at)}")
        super().__init__(LatentSpec.unit(factors[-1], latent, codes), in_channels, config)
        shape = (channels, mult, blocks, patch, attention, attention_at, groups)
        self.encoder = Encoder(in_channels, doubled * latent, *shape)
        self.quant_conv = nn.Conv2d(doubled * latent, doubled * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)
        self.decoder = Decoder(in_channels, latent, *shape)
        name_sites(self)

    @property
    def last_layer(self) -> Tensor:
        """Weight of the decoder's last convolution, for the adaptive adversarial weight."""
        return self.decoder.conv_out.weight

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k hz wz"]:
        """quant_conv(encoder(x))."""
        return self.quant_conv(self.encoder(x))

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """decoder(post_quant_conv(z))."""
        return self.decoder(self.post_quant_conv(z))
