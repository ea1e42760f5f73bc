"""Some pixels of an image are measured and the others are not; and the shapes of what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.operators.paired import need_images
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Mask", "box_mask", "free_form_mask", "outer_mask", "random_pixels"]


class Mask(SpectralOperator):
    """y = m x: inpainting, and outpainting. A = A* = A+; y keeps the full size and is 0 where nothing is measured.

    Args:
        mask: 1 where measured; (h, w), (1 or c, h, w) or (1 or b, 1 or c, h, w), of bools or of 0 and 1.

    Raises:
        ValueError: for another shape, other values, or a mask that measures nothing; when called, for images of
            another size.

    Source: arXiv 2305.04391, section 3.3 of the released operators; 2406.11138, inpainting.

    >>> Mask(torch.tensor([[1, 0]]))(torch.tensor([[[[3.0, 5.0]]]])).tolist()
    [[[[3.0, 0.0]]]]
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4) or mask.numel() == 0 or mask.is_complex():
            shown = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(
                f"Mask got {shown}; expected a tensor (h, w), (c, h, w) or (batch, c, h, w), 1 where measured"
            )
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("Mask got values other than 0 and 1; threshold it first, for example mask > 0.5")
        mask = mask.view(*[1] * (4 - mask.ndim), *mask.shape).bool()
        if not bool(mask.flatten(1).any(1).all()):
            raise ValueError("Mask measures nothing; expected a pixel at least in each image (1 where measured)")
        self.register_buffer("mask", mask)

    def _kept(self, x: Tensor) -> Tensor:
        need_images(x, "Mask", (self.mask.shape[-2], self.mask.shape[-1]))
        if self.mask.shape[1] not in (1, x.shape[1]) or self.mask.shape[0] not in (1, len(x)):
            raise ValueError(
                f"Mask is {tuple(self.mask.shape)} but the images are {tuple(x.shape)}; give one mask, or one each"
            )
        return torch.where(self.mask, x, torch.zeros_like(x))

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """1 where measured."""
        return self.mask.to(x.dtype)

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """x."""
        self._kept(x)
        return x

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """k."""
        return k

    def measured_to_spectrum(self, y: Float[Tensor, "b c h w"]) -> Tensor:
        """y where measured."""
        return self._kept(y)

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """k where measured."""
        return self._kept(k)


def box_mask(height: int, width: int, box: Sequence[int]) -> Bool[Tensor, "h w"]:
    """All but a box (top, left, height, width) is measured.

    >>> box_mask(2, 3, (0, 1, 2, 1)).int().tolist()
    [[1, 0, 1], [1, 0, 1]]
    """
    top, left, tall, wide = box
    if min(top, left) < 0 or min(tall, wide) < 1 or top + tall > height or left + wide > width:
        raise ValueError(f"box {tuple(box)} (top, left, height, width) does not lie inside {height} x {width}")
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top : top + tall, left : left + wide] = False
    return mask


def outer_mask(height: int, width: int, border: int) -> Bool[Tensor, "h w"]:
    """All but a border of so many pixels is measured: outpainting."""
    if border < 1 or 2 * border >= min(height, width):
        raise ValueError(f"border={border} leaves nothing of {height} x {width}, or takes nothing away")
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[border:-border, border:-border] = True
    return mask


def random_pixels(noise: Noise, height: int, width: int, share: float) -> Bool[Tensor, "b 1 h w"]:
    """Each pixel is measured with probability `share`, in every image by its own seed; one at least."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; expected the measured share, above 0 and at most 1")
    u = noise.uniform("mask", 0, (1, height, width))
    return (u < share) | (u == u.amin((-2, -1), keepdim=True))


def free_form_mask(
    noise: Noise, height: int, width: int, missing: tuple[float, float] = (0.2, 0.3)
) -> Bool[Tensor, "b 1 h w"]:
    """Brush strokes are missing, between two shares of the image, by a seed each.

    Strokes are polylines of one to five straight parts, a tenth of the shorter side wide, drawn until the share that
    is missing has reached a number drawn from the range (our choice; the released code reads such masks from files).
    The last stroke may go past it.

    Args:
        noise: one seed an image.
        height, width: pixels.
        missing: least and largest share.

    Raises:
        ValueError: for shares outside (0, 1) or in the wrong order.
    """
    low, high = missing
    if not 0 < low <= high < 1:
        raise ValueError(f"missing={missing}; expected two rising shares inside (0, 1)")
    short = min(height, width)
    radius = max(0.5, short / 20)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    masks = []
    for row in range(len(noise)):
        own = noise.rows([row])
        wanted = low + (high - low) * float(own.uniform("share", 0, (1,))[0, 0])
        gone = torch.zeros(height, width, dtype=torch.bool)
        stroke = 0
        while float(gone.float().mean()) < wanted:
            u = own.uniform("stroke", stroke, (18,))[0].tolist()
            at = (u[0] * height, u[1] * width)
            for part in range(1 + int(5 * u[2])):
                turn, length = 2 * math.pi * u[3 + 2 * part], (0.1 + 0.4 * u[4 + 2 * part]) * short
                to = (at[0] + length * math.sin(turn), at[1] + length * math.cos(turn))
                gone |= _near(y, x, at, to) < radius
                at = to
            stroke += 1
        masks.append(~gone)
    return torch.stack(masks)[:, None]


def _near(y: Tensor, x: Tensor, a: tuple[float, float], b: tuple[float, float]) -> Tensor:
    """Distance of every pixel from a segment."""
    dy, dx = b[0] - a[0], b[1] - a[1]
    along = (((y - a[0]) * dy + (x - a[1]) * dx) / max(dy * dy + dx * dx, 1e-12)).clamp(0, 1)
    return ((y - a[0] - along * dy) ** 2 + (x - a[1] - along * dx) ** 2).sqrt()
