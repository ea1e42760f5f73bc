"""A pyramid of resolutions: block means downwards, interpolation upwards, one scale a level.

Level 0 is the smallest. In the units of a level data have the standard deviation that denoisers count on:

    x_l = A_l x / a_l,    A_l the mean over blocks of factor^dims,    a_l = std(A_l x) / sigma_data.

What a level is told of the one below is U(a_(l-1) x_(l-1)) / a_l, U nearest or (bi)linear. Works on images and on
latents, which are pooled as they are: the latents of a small image have other statistics than small latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["AveragePool", "ResolutionPyramid"]

_POOL: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
Up = Literal["nearest", "bilinear"]


@dataclass(frozen=True)
class AveragePool:
    """y = A x, the mean over blocks of factor^dims places: the linear operator of super-resolution.

    A A^T = 1 / factor^dims, so that the pseudo-inverse is A^T times factor^dims, which is repetition.

    Args:
        factor: side of a block, >= 1.
        dims: of the places, 1 to 3; x is (b, c, *places).

    Raises:
        ValueError: for another factor or dims; when called, for places that the factor does not divide.

    >>> AveragePool(2, dims=1)(torch.tensor([[[1.0, 3.0, 5.0, 5.0]]])).tolist()
    [[[2.0, 5.0]]]
    """

    factor: int
    dims: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1 or self.dims not in _POOL:
            raise ValueError(
                f"AveragePool got factor={self.factor}, dims={self.dims}; expected a factor >= 1 and 1 to 3 dimensions"
            )

    def __call__(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *r"]:
        """A x."""
        _check_places(x, self.dims)
        if any(n % self.factor for n in x.shape[2:]):
            raise ValueError(
                f"resolution {_sides(x)} is not divisible by the pooling factor {self.factor}; crop or pad it first"
            )
        return x if self.factor == 1 else _POOL[self.dims](x, self.factor)

    def adjoint(self, y: Float[Tensor, "b c *r"]) -> Float[Tensor, "b c *s"]:
        """A^T y, with <A x, y> = <x, A^T y>."""
        return self.pinv(y) / self.factor**self.dims

    def pinv(self, y: Float[Tensor, "b c *r"]) -> Float[Tensor, "b c *s"]:
        """A^+ y: every value repeated; A A^+ y = y."""
        _check_places(y, self.dims)
        return y if self.factor == 1 else F.interpolate(y, scale_factor=self.factor, mode="nearest")


@dataclass(frozen=True)
class ResolutionPyramid:
    """The levels of a cascade, with everything that training and sampling must agree on.

    Args:
        levels: sides in places (the first of several), rising, each a multiple of the one before.
        scales: a_l, one a level; () for ones. `measured` finds them.
        up: how a level is enlarged to the next; bilinear stands for linear in one and trilinear in three dimensions.
        dims: of the places, 1 to 3.

    Raises:
        ValueError: for levels that do not rise or divide, scales that are not positive, an unknown `up`.

    Source: in the style of arXiv 2509.15342; levels, means, scales and enlargement are our choice.

    >>> pyramid = ResolutionPyramid((2, 4), scales=(0.5, 1.0), up="nearest")
    >>> pyramid.down(torch.ones(1, 1, 4, 4), 0).unique().tolist()
    [2.0]
    """

    levels: Sequence[int]
    scales: Sequence[float] = ()
    up: Up = "bilinear"
    dims: int = 2

    def __post_init__(self) -> None:
        levels = tuple(self.levels)
        scales = tuple(float(a) for a in self.scales) or (1.0,) * len(levels)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "scales", scales)
        if not levels or levels[0] < 1 or any(a >= b for a, b in zip(levels, levels[1:])):
            raise ValueError(f"a pyramid got levels {list(levels)}; expected rising sides, as [16, 32]")
        for low, high in zip(levels, levels[1:]):
            if high % low:
                raise ValueError(f"resolution {high} is not divisible by {low}: no whole pyramid factor between them")
        if len(scales) != len(levels) or not all(0 < a < math.inf for a in scales):
            raise ValueError(f"a pyramid of levels {list(levels)} got scales {list(scales)}; expected one > 0 a level")
        if self.up not in ("nearest", "bilinear") or self.dims not in _POOL:
            raise ValueError(
                f"a pyramid got up={self.up!r}, dims={self.dims}; expected nearest or bilinear, and 1 to 3 dimensions"
            )

    @classmethod
    @torch.no_grad()
    def measured(
        cls,
        batches: Iterable[Float[Tensor, "b c *s"]],
        levels: Sequence[int],
        *,
        sigma_data: float = 0.5,
        up: Up = "bilinear",
        dims: int = 2,
    ) -> ResolutionPyramid:
        """The pyramid whose scales give every level the standard deviation sigma_data (about its mean, which stays).

        Args:
            batches: clean data of the highest level, images or latents; some thousands are enough.
            levels, up, dims: as of the class.
            sigma_data: > 0.

        Raises:
            ValueError: for no data, data without any spread, or of another resolution.
        """
        plain = cls(levels, (), up, dims)
        sums, count = torch.zeros(len(plain.levels), 3, dtype=torch.float64), 0
        for x in batches:
            count += len(x)
            for level in range(len(plain.levels)):
                y = plain.down(x, level).double()
                sums[level] += torch.stack([torch.tensor(float(y.numel())), y.sum().cpu(), y.square().sum().cpu()])
        variance = sums[:, 2] / sums[:, 0] - (sums[:, 1] / sums[:, 0]) ** 2
        if not count or not sigma_data > 0 or not bool((variance > 0).all()):
            raise ValueError(
                f"scales were measured on {count} samples with variances {variance.tolist()} for "
                f"sigma_data={sigma_data}; expected data with some spread, and sigma_data > 0"
            )
        return cls(plain.levels, (variance.sqrt() / sigma_data).tolist(), up, dims)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor keywords, as JSON has them."""
        return {"levels": list(self.levels), "scales": list(self.scales), "up": self.up, "dims": self.dims}

    def __len__(self) -> int:
        return len(self.levels)

    def factor(self, level: int) -> int:
        """How many times smaller than the highest."""
        return self.levels[-1] // self.levels[level]

    def noise_factor(self, level: int) -> float:
        """k_l = factor^(-dims/2): what pooling leaves of the standard deviation of white noise."""
        return self.factor(level) ** (-self.dims / 2)

    def area(self, level: int) -> float:
        """(r_l / r_L)^dims: the cost of a network evaluation there, the highest level's being 1."""
        return self.factor(level) ** -float(self.dims)

    def level_of(self, x: Float[Tensor, "b c *s"]) -> int:
        """The level that a batch has, by its first side.

        Raises:
            ValueError: where it has none of them.
        """
        _check_places(x, self.dims)
        if x.shape[2] not in self.levels:
            raise ValueError(f"this model was trained for levels {list(self.levels)}, and got resolution {_sides(x)}")
        return self.levels.index(x.shape[2])

    def down(self, x: Float[Tensor, "b c *s"], level: int) -> Float[Tensor, "b c *r"]:
        """x_l = A_l x / a_l of clean data of the highest level."""
        _check_places(x, self.dims)
        if x.shape[2] != self.levels[-1]:
            raise ValueError(f"data have resolution {_sides(x)}; this pyramid begins at {self.levels[-1]}")
        y = AveragePool(self.factor(level), self.dims)(x)
        return y if self.scales[level] == 1 else y / self.scales[level]

    def data(self, x: Float[Tensor, "b c *s"], level: int) -> Float[Tensor, "b c *s"]:
        """a_l x_l: what a level holds, as data."""
        return x if self.scales[level] == 1 else x * self.scales[level]

    def lift(self, low: Float[Tensor, "b c *r"], level: int) -> Float[Tensor, "b c *s"]:
        """U(a_(l-1) x_(l-1)) / a_l: the level below at the size and in the units of level `level`.

        Raises:
            ValueError: at level 0, and for a `low` that has not the size of the level below.
        """
        if not 0 < level < len(self.levels):
            raise ValueError(f"level {level} of {list(self.levels)} has no level below to be told of")
        if low.ndim != self.dims + 2 or low.shape[2] != self.levels[level - 1]:
            raise ValueError(
                f"the condition of level {level} has shape {tuple(low.shape)}; expected (b, c, ...) of resolution "
                f"{self.levels[level - 1]}, in the units of that level"
            )
        step = self.levels[level] // self.levels[level - 1]
        ratio = self.scales[level - 1] / self.scales[level]
        if self.up == "nearest":
            big = F.interpolate(low, scale_factor=step, mode="nearest")
        else:
            big = F.interpolate(low, scale_factor=step, mode=_LINEAR[self.dims], align_corners=False)
        return big if ratio == 1 else big * ratio


def _check_places(x: Tensor, dims: int) -> None:
    if x.ndim != dims + 2:
        raise ValueError(f"expected (b, c, *places) with {dims} dimensions of places, got {tuple(x.shape)}")


def _sides(x: Tensor) -> str:
    return "x".join(map(str, x.shape[2:]))
