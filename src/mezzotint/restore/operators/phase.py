"""Phase retrieval: the magnitudes of a Fourier transform, without its phases."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.fourier import centred_fft, centred_ifft
from mezzotint.restore.operators.operator import Operator
from mezzotint.restore.operators.paired import need_images, need_wide
from mezzotint.restore.operators.radon import need_size

__all__ = ["PhaseRetrieval"]


class PhaseRetrieval(Operator):
    """y = |F P x|: P pads with zeros by floor(oversample n / 8) on each side, F is centred and orthonormal.

    Any real image, each channel by itself. Not one-to-one: an image, its negative, one turned by 180 degrees and (as
    far as it fits) a shifted one measure the same. The guess |F* y| cropped is a poor one (it throws the phases
    away): take the best of several restarts. The gradient at a magnitude of 0 is taken as 0.

    Args:
        size: of the images, pixels: one number, or (h, w).
        oversample: >= 0; 2 pads a quarter of the side at each side.

    Raises:
        ValueError: for a negative oversample; when called, for images of another size.

    Source: arXiv 2305.04391, phase retrieval (oversample 2), after DPS (arXiv 2209.14687).

    >>> PhaseRetrieval(8)(torch.ones(1, 1, 8, 8)).shape
    torch.Size([1, 1, 12, 12])
    """

    def __init__(self, size: int | tuple[int, int], oversample: float | int = 2.0) -> None:
        super().__init__()
        if not 0 <= oversample < math.inf:
            raise ValueError(f"PhaseRetrieval got oversample={oversample}; expected a number >= 0")
        self.size = need_size(size, "PhaseRetrieval")
        self.pads = tuple(int(oversample * n / 8) for n in self.size)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hp wp"]:
        """Magnitudes >= 0."""
        need_images(x, "PhaseRetrieval", self.size)
        need_wide(x, "PhaseRetrieval")
        tall, wide = self.pads
        x = torch.nn.functional.pad(x, (wide, wide, tall, tall))
        return centred_fft(torch.complex(x, torch.zeros_like(x))).abs()

    def guess(self, y: Float[Tensor, "b c hp wp"]) -> Float[Tensor, "b c h w"]:
        """|F* y|, cropped."""
        (h, w), (tall, wide) = self.size, self.pads
        need_images(y, "PhaseRetrieval's measurement", (h + 2 * tall, w + 2 * wide))
        need_wide(y, "PhaseRetrieval's measurement")
        x = centred_ifft(torch.complex(y, torch.zeros_like(y))).abs()
        return x[..., tall : tall + h, wide : wide + w]
