"""The vector-quantised autoencoders (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.latent._check import check_image
from mezzotint.latent.convolutional import ConvolutionalAutoencoder
from mezzotint.latent.quantise import Codebook, EMACodebook, GradientCodebook, Quantised
from mezzotint.latent.usage import Usage

__all__ = ["AutoencoderVQ", "AutoencoderVQEMA"]


class AutoencoderVQ(ConvolutionalAutoencoder):
    """Convolutional autoencoder whose decoder first snaps the latent to a codebook trained by gradients.

    Diffusion sees the latent before quantisation: ``encode`` does not quantise, ``decode`` does. Factor
    patch * 2**(len(mult) - 1). The paper's: channels 128, blocks 2, groups 32, attention, and mult (1, 2, 4)
    latent 3 codes 8192 for f = 4; (1, 2, 2, 4) latent 4 codes 16384 attention_at (8,) for f = 8 (its "32" is the
    side of the level at 256 pixels).

    Args: see :class:`mezzotint.latent.blocks.Encoder`; ``latent`` is the length of a code, ``codes`` their number.

    Source: arXiv 2112.10752, section 3.1 and released code; ``patch`` and the small defaults are our choice.

    >>> net = AutoencoderVQ(channels=8, mult=(1, 2), latent=3, codes=16)
    >>> net.tokens(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 4, 4])
    """

    quantiser: Codebook

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 32,
        mult: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        latent: int = 4,
        codes: int = 1024,
        patch: int = 1,
        attention: bool = False,
        attention_at: Sequence[int] = (),
        groups: int = 8,
    ) -> None:
        config = {
            "in_channels": in_channels,
            "channels": channels,
            "mult": list(mult),
            "blocks": blocks,
            "latent": latent,
            "codes": codes,
            "patch": patch,
            "attention": attention,
            "attention_at": list(attention_at),
            "groups": groups,
        }
        super().__init__(**config, doubled=1, config=config)
        self.quantiser = GradientCodebook(codes, latent)

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """The latent before quantisation, without variance."""
        return self.features(x), None

    def quantised(self, x: Float[Tensor, "b c h w"]) -> Quantised:
        """Encode and quantise images, for training; in training mode an averaged codebook learns from them."""
        check_image(x, self.image_channels, self.spec.factor)
        z = self.features(x)
        result = self.quantiser(z)
        if self.training:
            self.quantiser.update(z, result.index)
        return result

    def raw_decode(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Quantise, straight through for gradients, then decode."""
        return super().raw_decode(self.quantiser(z).z)

    def decode_quantised(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b c h w"]:
        """Decode what is already quantised (the ``z`` of :meth:`quantised`)."""
        return super().raw_decode(z)

    def tokens(self, x: Float[Tensor, "b c h w"]) -> Int[Tensor, "b hz wz"]:
        """Codes of images, each in [0, codes)."""
        check_image(x, self.image_channels, self.spec.factor)
        return self.quantiser.nearest(self.features(x))

    def decode_tokens(self, index: Int[Tensor, "b hz wz"]) -> Float[Tensor, "b c h w"]:
        """Images of codes.

        Raises:
            ValueError: for indices that are no integers or, on the CPU, outside [0, codes).
        """
        codes = len(self.quantiser.entries)
        if index.ndim != 3 or index.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"expected integer codes (batch, height, width), got {index.dtype} {tuple(index.shape)}")
        if index.device.type == "cpu" and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < codes:
            raise ValueError(f"codes must be in [0, {codes}), got {int(index.min())} to {int(index.max())}")
        return self.decode_quantised(self.quantiser.lookup(index))

    def snap(self, z: Float[Tensor, "b k hz wz"]) -> Float[Tensor, "b k hz wz"]:
        """Normalised latents to the nearest codes, normalised again (``quantize_denoised`` of the paper's code)."""
        return self.normalise(self.quantiser(self.denormalise(z)).z)

    def usage(self, index: Int[Tensor, "*n"]) -> Usage:
        """Perplexity and dead codes of some tokens."""
        return Usage.of(index, len(self.quantiser.entries))


class AutoencoderVQEMA(AutoencoderVQ):
    """The same with a codebook of running averages, which needs no codebook term in the loss.

    Args: those of :class:`AutoencoderVQ`, by keyword, and ``decay`` of :class:`EMACodebook`.
    """

    def __init__(self, *, decay: float = 0.99, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.config["decay"] = decay
        codes, latent = self.quantiser.entries.shape
        self.quantiser = EMACodebook(codes, latent, decay)
