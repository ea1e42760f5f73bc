"""Encoders of image prompts: an appearance to tokens for cross-attention, a structure to channels beside the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.attention import DecoupledAttention
from mezzotint.core import Condition
from mezzotint.edit.filters import Edges
from mezzotint.nn.conditioner import Conditioner
from mezzotint.nn.conditioner.images import stack_images

__all__ = ["ConvTokens", "ImageTokens", "Picture", "SoftEdge", "Structure"]


@runtime_checkable
class Structure(Protocol):
    """Images (b, 3, h, w) in [-1, 1] to channels (b, c, *size) for the network's "concat"."""

    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor: ...


@dataclass(frozen=True)
class Picture:
    """The picture itself, averaged to the size of what is drawn: colours can leak.

    >>> Picture()(torch.ones(1, 3, 8, 8), (4, 4)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __call__(self, images: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Float[Tensor, "b 3 i j"]:
        """The channels."""
        return _averaged(images, size)


@dataclass(frozen=True)
class SoftEdge:
    """The length of the luma's gradient, one channel, averaged to the size of what is drawn.

    It is computed of the picture that the filters have been over, as a detector of edges or depth is.

    Source: arXiv 2404.13263 takes the edges of a network; Sobel's differences are our choice.

    >>> float(SoftEdge()(torch.ones(1, 3, 8, 8), (8, 8)).max())
    -1.0
    """

    def __call__(self, images: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Float[Tensor, "b 1 i j"]:
        """The channel."""
        return _averaged(Edges()(images)[:, :1], size)


class ImageTokens(Conditioner):
    """An appearance prompt as tokens: c["image"] = E(I), and for nothing the tokens of a grey picture, E(0).

    Args:
        encoder: images (b, 3, h, w) in [-1, 1] -> tokens (b, m, features); a CLIP with a projection, or `ConvTokens`.
            What it expects of sizes and normalisation is its own affair: filters act before it.
        attention: keys and values of its tokens in the network.

    Source: arXiv 2404.13263, sheet sections 3.1 and 3.5 (the null of a zero image).

    >>> from mezzotint.nn import UNet
    >>> tokens = ImageTokens(ConvTokens(6), DecoupledAttention(UNet(4, channels=16, context=8), 6))
    >>> tokens(tokens.prepare([torch.zeros(3, 16, 16)]))
    Condition(image: (1, 8, 6); null for ['image'])
    """

    reads = ("appearance",)

    def __init__(self, encoder: Callable[[Tensor], Tensor], attention: DecoupledAttention) -> None:
        super().__init__()
        self.encoder, self.attention = encoder, attention
        self.config = {}

    def prepare(self, inputs: Sequence[Any] | Tensor) -> Condition:
        """Appearance prompts of a batch, and the grey picture.

        Args:
            inputs: float tensors (3, h, w) in [-1, 1] of one size.

        Raises:
            ValueError: no images, other types or shapes, values outside [-1, 1].
        """
        images = stack_images(list(inputs), 3)
        return Condition({"appearance": images}, {"appearance": torch.zeros_like(images[:1])})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pictures to "image" (b, m, features).

        Raises:
            ValueError: the encoder gave something else.
        """
        tokens = self.encoder(raw["appearance"])
        if tokens.ndim != 3 or tokens.shape[::2] != (len(raw["appearance"]), self.attention.features):
            raise ValueError(
                f"the encoder of appearances gave {tuple(tokens.shape)}; expected (b, m, {self.attention.features})"
            )
        return {"image": tokens}


class ConvTokens(nn.Module):
    """Four convolutions and a mean over 2 x 4 fields of the picture: tokens of an appearance, for small models.

    Args:
        features: of a token.
        channels: of the first convolution; they double.

    Source: arXiv 2404.13263, sheet section 7; the sizes are our choice.

    >>> ConvTokens(6)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 8, 6])
    """

    def __init__(self, features: int, channels: int = 16) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 2 * channels, 2 * channels)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.norm = nn.LayerNorm(widths[-1])
        self.out = nn.Linear(widths[-1], features)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 8 features"]:
        """The tokens."""
        x = images
        for k, layer in enumerate(self.layers):
            x = F.silu(layer(x))
            if k == 0:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
        x = F.adaptive_avg_pool2d(x, (2, 4)).flatten(2).transpose(1, 2)
        return self.out(self.norm(x))


def _averaged(images: Tensor, size: tuple[int, int]) -> Tensor:
    return images if tuple(images.shape[2:]) == tuple(size) else F.interpolate(images, size, mode="area")
