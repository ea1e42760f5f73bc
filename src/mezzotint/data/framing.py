"""From a decoded image of any size to the frame a model sees: resize, crop, mirror; what was done is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mezzotint.core.noise import Noise

__all__ = ["Cover", "Filter", "Framing", "Placed", "flip", "resize"]

Filter = Literal["box", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Placed:
    """A frame, and where in its image it lies.

    Attributes:
        pixels: (3, h, w) uint8.
        original: height and width of the image before anything was done.
        top, left: of the frame in the resized image, in pixels of the frame; of the mirrored one where `flipped`.
        flipped: whether the image was mirrored first.
    """

    pixels: UInt8[Tensor, "3 h w"]
    original: tuple[int, int]
    top: int = 0
    left: int = 0
    flipped: bool = False

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """Original height and width, crop top and left, target height and width: SDXL's micro-conditioning."""
        return (*self.original, self.top, self.left, self.pixels.shape[1], self.pixels.shape[2])


@runtime_checkable
class Framing(Protocol):
    """What a loader does with a decoded image; `size` is the bucket's, where there are buckets."""

    def __call__(self, image: UInt8[Tensor, "3 h w"], noise: Noise, size: tuple[int, int] | None = None) -> Placed: ...


def resize(
    image: UInt8[Tensor, "3 h w"],
    size: Sequence[int],
    filter: Filter = "bicubic",
    box: Sequence[float] | None = None,
) -> UInt8[Tensor, "3 H W"]:
    """Resample with the filter stretched by the reduction, so that what the new grid cannot hold is removed.

        out[i] = sum_j k((j + 1/2 - c_i) / s) x[j] / sum_j k(...),    c_i = box_0 + (i + 1/2) s_0,    s = max(s_0, 1)

    s_0 = side of the box / side of the result. Pillow does the width first, then the height, and rounds and clips to 8
    bits after each.

    Args:
        image: any size.
        size: (height, width) of the result.
        filter: the kernel k: box, bilinear (triangle), bicubic (a = -1/2), lanczos (3 lobes).
        box: (top, left, bottom, right) in the image, fractions of pixels allowed; None is all of it. Pixels outside
            the box but inside the kernel are read.

    Raises:
        ValueError: for an unknown filter, a size below 1, or a box that is empty or reaches outside.

    >>> resize(torch.full((3, 5, 7), 9, dtype=torch.uint8), (2, 3)).unique().tolist()
    [9]
    """
    from PIL import Image

    kernels = {"box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR}
    kernels |= {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    if filter not in kernels:
        raise ValueError(f"unknown filter {filter!r}; choose one of {', '.join(kernels)}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"resize got a size of {height} x {width}; expected 1 x 1 or more")
    top, left, bottom, right = (0, 0, image.shape[1], image.shape[2]) if box is None else box
    if not (0 <= top < bottom <= image.shape[1] and 0 <= left < right <= image.shape[2]):
        raise ValueError(
            f"resize got the box (top, left, bottom, right) = {(top, left, bottom, right)}; expected one inside the "
            f"image of {image.shape[1]} x {image.shape[2]}"
        )
    whole = (top, left, bottom, right) == (0, 0, height, width) == (0, 0, *image.shape[1:])
    if whole:  # nothing to do, and the interpolating filters would do nothing
        return image
    source = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    scaled = source.resize((width, height), kernels[filter], box=(left, top, right, bottom))
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)


def flip(image: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    """The image as in a mirror, left and right exchanged."""
    return image.flip(2)


@dataclass(frozen=True)
class Cover:
    """Scale an image, its shape kept, until it just covers the frame; cut the frame out of it; perhaps mirror it.

        scale = max(H / h, W / w);   top in {0 ... floor(h scale - H)},   left in {0 ... floor(w scale - W)}

    Args:
        size: side of the (square) frame in pixels, or (height, width).
        crop: "centre", or "random" (uniform, from the sample's noise; purpose "crop").
        flip: probability of a mirrored image (purpose "flip").
        filter: see `resize`.

    Raises:
        ValueError: for a size below 1, another crop, or a probability outside [0, 1].

    >>> Cover(4)(torch.zeros(3, 8, 12, dtype=torch.uint8), Noise([0])).time_ids
    (8, 12, 0, 1, 4, 4)
    """

    size: int | tuple[int, int]
    crop: Literal["centre", "random"] = "centre"
    flip: float = 0.0
    filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        if min(self.frame) < 1:
            raise ValueError(f"Cover got size={self.size}; expected 1 pixel or more")
        if self.crop not in ("centre", "random"):
            raise ValueError(f"Cover got crop={self.crop!r}; expected 'centre' or 'random'")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"Cover got flip={self.flip}; expected a probability in [0, 1]")

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the frame."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def fixed(self) -> bool:
        """Whether nothing is left to chance, so that one result serves all steps."""
        return self.crop == "centre" and self.flip in (0, 1)

    def __call__(self, image: UInt8[Tensor, "3 h w"], noise: Noise, size: tuple[int, int] | None = None) -> Placed:
        """One frame of one image.

        Args:
            image: decoded.
            noise: of the sample, one seed; read only where something is random.
            size: (height, width) in place of the frame's own.
        """
        height, width = self.frame if size is None else size
        h, w = image.shape[1:]
        scale = max(height / h, width / w)
        spare = [max(0, math.floor(h * scale - height + 1e-6)), max(0, math.floor(w * scale - width + 1e-6))]
        if self.crop == "random":
            u = noise.uniform("crop", 0, (2,), dtype=torch.float64)[0].tolist()
            top, left = (min(int(part * (room + 1)), room) for part, room in zip(u, spare))
        else:
            top, left = (room // 2 for room in spare)
        box = (top / scale, left / scale, min((top + height) / scale, h), min((left + width) / scale, w))
        pixels = resize(image, (height, width), self.filter, box)
        mirrored = self.flip == 1 or (self.flip > 0 and bool(noise.uniform("flip", 0)[0] < self.flip))
        if mirrored:
            pixels, left = flip(pixels), spare[1] - left
        return Placed(pixels, (h, w), top, left, mirrored)
