"""A low-resolution image as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.images import stack_images


class SuperResolutionConditioner(Conditioner):
    """A low-resolution image at the size of the latent, concatenated to it as it is.

    concat = low;  for x4 with an autoencoder of factor 4, low and latent have the same size.
    There is no null: guidance keeps the image in both halves.

    Args:
        channels: Channels of the image.

    Raises:
        ValueError: Fewer than one channel.

    Source: arXiv 2112.10752, section 4.4 (identity as the encoder).

    >>> import torch
    >>> SuperResolutionConditioner().prepare([degrade(torch.zeros(1, 3, 8, 8), 4)[0]])
    Condition(concat: (1, 3, 2, 2); null for [])
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.config = {"channels": channels}

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Low-resolution images of a batch.

        Args:
            inputs: Float tensors (channels, h, w) in [-1, 1] with the height and width of the latent.

        Returns:
            "concat", (b, channels, h, w), without a null.

        Raises:
            ValueError: No images, other types or shapes, values outside [-1, 1].
        """
        return Condition({"concat": stack_images(inputs, self.config["channels"])})


def degrade(x: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c h2 w2"]:
    """The bicubic degradation: antialiased bicubic reduction, clipped to [-1, 1].

    low = clip(bicubic(x, 1 / factor), -1, 1), Keys' kernel with a = -1/2 stretched by the factor (as Pillow does)

    Args:
        x: Images in [-1, 1].
        factor: Whole factor of the reduction; divides the height and the width.

    Returns:
        (b, c, h / factor, w / factor).

    Raises:
        ValueError: A factor below 1, or one that does not divide the size.

    Source: arXiv 2112.10752, section 4.4 (bicubic degradation, as in SR3).

    >>> import torch
    >>> degrade(torch.full((1, 1, 4, 4), 0.5), 2).unique().tolist()
    [0.5]
    """
    height, width = x.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor must be at least 1 and divide the size {height}x{width}, got {factor}; crop first")
    size = (height // factor, width // factor)
    return F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
