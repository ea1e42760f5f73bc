"""Filters of single pixels' colours: desaturation, inversion, contrast, recolouring, posterising, turning the hue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.edit.filters.filter import Filter, Removed

__all__ = ["LUMA", "Contrast", "Desaturate", "HueRotate", "Invert", "Posterise", "Recolour", "luma"]

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def luma(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """0.299 R + 0.587 G + 0.114 B (Rec. 601)."""
    return (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


@dataclass(frozen=True)
class Desaturate(Filter):
    """The luma in all three channels: 0.299 R + 0.587 G + 0.114 B.

    >>> round(float(Desaturate()(torch.full((1, 3, 1, 1), 0.5))[0, 0, 0, 0]), 6)
    0.5
    """

    name: ClassVar[str] = "desaturate"
    removes: ClassVar[frozenset[Removed]] = frozenset({"colour"})

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The luma, three times."""
        return luma(x).clamp(0, 1).expand_as(x)


@dataclass(frozen=True)
class Invert(Filter):
    """1 - x: complementary colours, and the sign of light and dark turned round.

    >>> float(Invert()(torch.full((1, 3, 1, 1), 0.25))[0, 0, 0, 0])
    -0.25
    """

    name: ClassVar[str] = "invert"
    removes: ClassVar[frozenset[Removed]] = frozenset({"luma-sign"})

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """1 - x."""
        return 1 - x


@dataclass(frozen=True)
class Contrast(Filter):
    """clip(p + g (x - p), 0, 1), about the mean p of each image over pixels and channels, or about 1/2.

    Args:
        gain: g >= 0; 1 is the identity.
        pivot: "mean" or "half".

    Raises:
        ValueError: for a gain that is negative or not finite, or another pivot.

    >>> float(Contrast(2.0, "half")(torch.full((1, 3, 1, 1), 0.25))[0, 0, 0, 0])
    0.5
    """

    gain: float = 1.5
    pivot: Literal["mean", "half"] = "mean"
    name: ClassVar[str] = "contrast"
    removes: ClassVar[frozenset[Removed]] = frozenset({"background"})

    def __post_init__(self) -> None:
        if not 0 <= self.gain < math.inf:
            raise ValueError(f"contrast of gain {self.gain}; expected a number >= 0")
        if self.pivot not in ("mean", "half"):
            raise ValueError(f"contrast about {self.pivot!r}; expected 'mean' or 'half'")

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Stretched, then clipped."""
        p = x.mean((1, 2, 3), keepdim=True) if self.pivot == "mean" else 0.5
        return (p + self.gain * (x - p)).clamp(0, 1)


@dataclass(frozen=True)
class Recolour(Filter):
    """The luma through a ramp of colours: r(y), linear between colours at equal distances, dark first.

    Args:
        palette: two colours or more, as "#rrggbb" joined by "-".

    Raises:
        ValueError: for fewer than two colours, or what is none.

    >>> Recolour("#000000-#ff0000")(torch.ones(1, 3, 1, 1)).flatten().tolist()
    [1.0, -1.0, -1.0]
    """

    palette: str
    name: ClassVar[str] = "recolour"
    removes: ClassVar[frozenset[Removed]] = frozenset({"colour"})

    def __post_init__(self) -> None:
        if len(self.colours) < 2:
            raise ValueError(f"a palette of {self.palette!r}; expected two colours or more, as #000000-#ff8800")

    @property
    def colours(self) -> tuple[tuple[float, float, float], ...]:
        """Red, green, blue in [0, 1] of each."""
        found = []
        for text in self.palette.split("-"):
            digits = text.strip().removeprefix("#")
            if len(digits) != 6 or any(d not in "0123456789abcdefABCDEF" for d in digits):
                raise ValueError(f"{text!r} is no colour; expected #rrggbb")
            found.append(tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)))
        return tuple(found)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """r(luma)."""
        colours = x.new_tensor(self.colours)
        place = luma(x)[:, 0].clamp(0, 1) * (len(colours) - 1)
        below = place.detach().floor().long().clamp(max=len(colours) - 2)
        share = (place - below).unsqueeze(-1)
        return ((1 - share) * colours[below] + share * colours[below + 1]).movedim(-1, 1)


@dataclass(frozen=True)
class Posterise(Filter):
    """round(x (n - 1)) / (n - 1): n levels a channel.

    Args:
        levels: n >= 2.

    Raises:
        ValueError: for fewer than two.

    >>> Posterise(2)(torch.tensor([-0.9, 0.1, 0.7]).view(1, 3, 1, 1)).flatten().tolist()
    [-1.0, 1.0, 1.0]
    """

    levels: int = 4
    name: ClassVar[str] = "posterise"
    removes: ClassVar[frozenset[Removed]] = frozenset({"detail"})
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ValueError(f"posterise to {self.levels} levels; expected 2 or more")

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The nearest of the levels."""
        return (x * (self.levels - 1)).round() / (self.levels - 1)


@dataclass(frozen=True)
class HueRotate(Filter):
    """Colour differences turned by an angle while the luma stays: y + R(angle) (x - y), clipped.

    The plane of colours of luma 0 is turned about the grey axis, along it (Rec. 601); a turn by 360 is the identity.

    Args:
        degrees: the angle.

    Raises:
        ValueError: for an angle that is not finite.

    >>> x = torch.tensor([0.2, 0.0, -0.2]).view(1, 3, 1, 1)
    >>> bool((HueRotate(360.0)(x) - x).abs().max() < 1e-6)
    True
    """

    degrees: float = 90.0
    name: ClassVar[str] = "hue"
    removes: ClassVar[frozenset[Removed]] = frozenset({"colour"})

    def __post_init__(self) -> None:
        if not math.isfinite(self.degrees):
            raise ValueError(f"a turn of the hue by {self.degrees} degrees; expected a finite number")

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Turned, then clipped."""
        w = torch.tensor(LUMA, dtype=torch.float64)
        first = torch.tensor([w[1], -w[0], 0.0], dtype=torch.float64)  # both span the colours of luma 0
        first = first / first.norm()
        second = torch.linalg.cross(w / w.norm(), first)
        turn, grey = math.radians(self.degrees), torch.ones(3, 3, dtype=torch.float64) * w  # rows: the luma
        chroma = torch.eye(3, dtype=torch.float64) - grey
        plane = torch.stack([first, second], 1)
        spin = plane @ torch.tensor(
            [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64
        )
        matrix = (grey + spin @ plane.T @ chroma).to(x)
        return torch.einsum("ij,bjhw->bihw", matrix, x).clamp(0, 1)
