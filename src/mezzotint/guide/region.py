"""Regions of an image, for guides that treat places differently: discs with a soft or a hard edge, and boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Box", "Disc", "Region", "crop", "region_masks"]


@runtime_checkable
class Region(Protocol):
    """A part of an image, in shares of its width (x, to the right) and height (y, down)."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the smallest rectangle around it inside the image."""
        ...

    def mask(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """How much of each cell of a grid belongs to it, 0 to 1, float64."""
        ...


@dataclass(frozen=True)
class Disc:
    """mask(p) = [|p - (x, y)| < radius], p the middle of a cell; with an edge e it falls as exp(-d^2 / (2 e^2)).

    Distances are in shares of the sides, so that on a wide image it is an ellipse.

    Args:
        x, y: the centre, 0 to 1.
        radius: > 0.
        edge: width of the fall outside the radius, >= 0 (our choice; the paper's regions have none).

    Raises:
        ValueError: for values out of range.

    Source: arXiv 2304.03869, sheet section 3.1 (radius 0.2; cells by their middle are our choice).

    >>> abs(float(Disc(0.5, 0.5, 0.2).mask(256, 256).mean()) - math.pi * 0.2**2) < 0.001
    True
    """

    x: float | int
    y: float | int
    radius: float | int = 0.2
    edge: float | int = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(
                f"the centre ({self.x}, {self.y}) is outside the image; expected shares of its width and height from "
                "0 to 1, x to the right and y down: divide pixels by the sides"
            )
        if not (0 < self.radius < math.inf and 0 <= self.edge < math.inf):
            raise ValueError(f"Disc got radius={self.radius}, edge={self.edge}; expected > 0 and >= 0")

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """See Region.bounds."""
        x, y, r = self.x, self.y, self.radius
        return max(0.0, x - r), max(0.0, y - r), min(1.0, x + r), min(1.0, y + r)

    def mask(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """See Region.mask."""
        x, y = _middles(height, width)
        away = ((x - self.x).square() + (y - self.y).square()).sqrt()
        if not self.edge:
            return (away < self.radius).double()
        return (-0.5 * ((away - self.radius).clamp_min(0) / self.edge).square()).exp()


@dataclass(frozen=True)
class Box:
    """mask(p) = [left <= p_x < right and top <= p_y < bottom], p the middle of a cell.

    Args:
        left, top, right, bottom: shares of the width and height, 0 to 1.

    Raises:
        ValueError: for a rectangle outside the image, or without an area.

    >>> Box(0.5, 0.0, 1.0, 1.0).mask(1, 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """

    left: float | int
    top: float | int
    right: float | int
    bottom: float | int

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(
                f"box {self.bounds} must satisfy 0 <= left < right <= 1 and 0 <= top < bottom <= 1; divide pixels by "
                "the sides"
            )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """See Region.bounds."""
        return float(self.left), float(self.top), float(self.right), float(self.bottom)

    def mask(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """See Region.mask."""
        x, y = _middles(height, width)
        return ((x >= self.left) & (x < self.right) & (y >= self.top) & (y < self.bottom)).double()


def region_masks(regions: list[Region], height: int, width: int) -> Float[Tensor, "k h w"]:
    """The masks of several regions on one grid.

    >>> region_masks([Disc(0.5, 0.5), Box(0, 0, 1, 1)], 4, 4).sum((1, 2)).tolist()
    [4.0, 16.0]
    """
    return torch.stack([region.mask(height, width) for region in regions])


def crop(image: Float[Tensor, "b c h w"], region: Region) -> Float[Tensor, "b c i j"]:
    """The pixels inside a region's bounds, at least one; gradients flow.

    >>> crop(torch.zeros(1, 3, 10, 20), Box(0.5, 0.2, 1.0, 0.6)).shape
    torch.Size([1, 3, 4, 10])
    """
    height, width = image.shape[2:]
    left, top, right, bottom = region.bounds
    i, j = min(round(top * height), height - 1), min(round(left * width), width - 1)
    return image[:, :, i : max(i + 1, round(bottom * height)), j : max(j + 1, round(right * width))]


def _middles(height: int, width: int) -> tuple[Tensor, Tensor]:
    y = ((torch.arange(height, dtype=torch.float64) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) / width).expand(height, width)
    return x, y
