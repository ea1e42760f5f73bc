"""Filters of frequency bands: blur, what blur takes away, and gains of the bands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.edit.filters.filter import Filter, Removed
from mezzotint.edit.filters.point import luma
from mezzotint.edit.filters.window import mirrored

__all__ = ["Bands", "Blur", "Edges", "HighPass", "Sharpen"]


@dataclass(frozen=True)
class Blur(Filter):
    """A Gaussian of radius ceil(3 sigma), its weights normalised, along rows and columns; borders are mirrored.

    Args:
        sigma: pixels, > 0; None scales with the image: its shorter side / 64.

    Raises:
        ValueError: for a sigma that is not positive, or a kernel that does not fit into the image.

    >>> bool((Blur(1.0)(torch.full((1, 3, 8, 8), 0.3)) - 0.3).abs().max() < 1e-6)
    True
    """

    sigma: float | None = None
    name: ClassVar[str] = "blur"
    removes: ClassVar[frozenset[Removed]] = frozenset({"texture", "detail"})

    def __post_init__(self) -> None:
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(f"a blur of sigma {self.sigma}; expected a number of pixels > 0")

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Blurred."""
        least = min(x.shape[-2:])
        sigma = least / 64 if self.sigma is None else self.sigma
        radius = math.ceil(3 * sigma)
        if radius >= least:
            raise ValueError(
                f"a blur of sigma {sigma:g} reaches {radius} pixels, the images have {x.shape[-2]} x {x.shape[-1]}; "
                "choose a smaller one"
            )
        place = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (place / sigma) ** 2)
        kernel = (kernel / kernel.sum()).to(x)
        wide = mirrored(x, radius).flatten(0, 1).unsqueeze(1)
        return F.conv2d(F.conv2d(wide, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).view_as(x).clamp(0, 1)


@dataclass(frozen=True)
class HighPass(Filter):
    """x - blur(x) + 1/2, clipped: edges and texture without the layout of colours.

    Args:
        sigma: as of `Blur`.

    >>> bool((HighPass(1.0)(torch.full((1, 3, 8, 8), 0.3))).abs().max() < 1e-6)
    True
    """

    sigma: float | None = None
    name: ClassVar[str] = "highpass"
    removes: ClassVar[frozenset[Removed]] = frozenset({"colour", "background", "layout"})

    def __post_init__(self) -> None:
        Blur(self.sigma)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """What blur takes away, about grey."""
        return (x - Blur(self.sigma).apply(x) + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Sharpen(Filter):
    """x + g (x - blur(x)), clipped: unsharp masking.

    Args:
        gain: g >= 0; 0 is the identity.
        sigma: as of `Blur`.

    Raises:
        ValueError: for a gain that is negative or not finite.

    >>> bool((Sharpen(1.0, 1.0)(torch.full((1, 3, 8, 8), 0.3)) - 0.3).abs().max() < 1e-6)
    True
    """

    gain: float = 1.0
    sigma: float | None = None
    name: ClassVar[str] = "sharpen"

    def __post_init__(self) -> None:
        if not 0 <= self.gain < math.inf:
            raise ValueError(f"sharpen by {self.gain}; expected a number >= 0")
        Blur(self.sigma)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Sharpened."""
        return (x + self.gain * (x - Blur(self.sigma).apply(x))).clamp(0, 1)


@dataclass(frozen=True)
class Edges(Filter):
    """The length of the luma's gradient by Sobel's differences, 1 at a step from black to white; in all channels.

    >>> float(Edges()(torch.full((1, 3, 8, 8), 0.3)).max())
    -1.0
    """

    name: ClassVar[str] = "edges"
    removes: ClassVar[frozenset[Removed]] = frozenset({"colour", "luma-sign", "background"})
    differentiable: ClassVar[bool] = False  # the length has no gradient where there is no edge

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The gradient's length."""
        difference = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
        y = F.conv2d(mirrored(luma(x), 1), torch.stack([difference, difference.T]).unsqueeze(1))
        return y.square().sum(1, keepdim=True).sqrt().clamp(0, 1).expand_as(x)


@dataclass(frozen=True)
class Bands(Filter):
    """Gains of four parts: low and high frequencies of the luma and of the chroma.

        x = grey low + grey high + coloured low + coloured high,  out = sum of g_frequency g_kind part, clipped

    Args:
        low, high: gains of blur(x) and of x - blur(x).
        luma, chroma: gains of the luma and of the differences from it.
        sigma: as of `Blur`.

    Raises:
        ValueError: for a gain that is not finite.

    >>> x = torch.rand(1, 3, 8, 8)
    >>> bool((Bands(sigma=1.0)(x) - x).abs().max() < 1e-6)
    True
    """

    low: float = 1.0
    high: float = 1.0
    luma: float = 1.0
    chroma: float = 1.0
    sigma: float | None = None
    name: ClassVar[str] = "bands"

    def __post_init__(self) -> None:
        if not all(math.isfinite(g) for g in (self.low, self.high, self.luma, self.chroma)):
            raise ValueError("the gains of the bands should be finite numbers")
        Blur(self.sigma)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The parts with their gains, together again."""
        low = Blur(self.sigma).apply(x)
        mixed = self.low * low + self.high * (x - low)
        grey = luma(mixed)
        return (self.luma * grey + self.chroma * (mixed - grey)).clamp(0, 1)
