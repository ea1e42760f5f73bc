"""Super-resolution: an image of another size, with the exact adjoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from mezzotint.restore.operators.separable import Separable

__all__ = ["Resize", "resize_matrix"]

Kind = Literal["bicubic", "bilinear", "area"]
_BICUBIC = -0.5  # the parameter a of Keys: Pillow's and the released operators'; torch without antialias has -0.75


def _cubic(x: Tensor, a: float = _BICUBIC) -> Tensor:
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "bicubic": (_cubic, 2.0),
    "bilinear": (lambda x: (1 - x.abs()).clamp(min=0), 1.0),
}


@lru_cache(maxsize=64)
def resize_matrix(n: int, m: int, kind: Kind) -> Float64[Tensor, "m n"]:
    """The matrix that makes m pixels of n: a kernel as wide as the larger pixel, normalised at the borders.

    Centres are aligned at half pixels. "bicubic" (a = -0.5) and "bilinear" are antialiased, as in Pillow and in torch
    with antialias=True; "area" is the mean over what a new pixel covers, fractions included, as torch's adaptive
    average where n / m is whole.

    >>> resize_matrix(4, 2, "area").tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    ratio = n / m
    new, old = torch.arange(m, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    if kind == "area":
        covered = torch.minimum((new + 1) * ratio, old + 1) - torch.maximum(new * ratio, old)
        return covered.clamp(min=0) / ratio
    kernel, reach = _KERNELS[kind]
    scale = max(ratio, 1.0)
    centre = (new + 0.5) * ratio
    # as in Pillow: whole pixels whose centre lies within the kernel's reach, the ends rounded
    first, last = (centre - reach * scale + 0.5).floor(), (centre + reach * scale + 0.5).floor()
    weights = kernel((old + 0.5 - centre) / scale) * ((old >= first) & (old < last))
    return weights / weights.sum(1, keepdim=True)


class Resize(Separable):
    """y = an image made smaller (or larger) by a factor: bicubic, bilinear or area; the pseudo-inverse by an SVD.

    Args:
        factor: by which the image is made smaller, > 0: 4 for 4x super-resolution, 1/2 doubles it.
        kind: see `resize_matrix`.

    Raises:
        ValueError: for another factor or kind; when called, for a size that the factor does not divide.

    Source: arXiv 2305.04391, released operators (bicubic); 2406.11138, super-resolution. Their bicubic matrix has
    another boundary; ours is that of Pillow and torch, so that it inverts what users have done.

    >>> Resize(2, "area")(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])).item()
    4.0
    """

    def __init__(self, factor: float | int, kind: Kind = "bicubic") -> None:
        super().__init__()
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
            raise ValueError(f"Resize got factor={factor!r}; expected a number > 0, as 4 (four times smaller)")
        if kind not in ("bicubic", "bilinear", "area"):
            raise ValueError(f"Resize got kind={kind!r}; expected bicubic, bilinear or area")
        self.factor, self.kind = Fraction(factor).limit_denominator(1000), kind
        if not self.factor:
            raise ValueError(f"Resize got factor={factor!r}; expected 1/1000 (a thousand times larger) or more")

    def matrix(self, axis: int, n: int) -> Float64[Tensor, "m n"]:
        """See Separable.matrix."""
        m = n / self.factor
        if m.denominator != 1 or m < 1:
            step = self.factor.numerator
            crop = f"crop to {n // step * step} or " if n >= step else ""
            raise ValueError(
                f"Resize({float(self.factor):g}) got {'height' if axis == 0 else 'width'} {n}, which it does not "
                f"divide; {crop}pad to {max(-(-n // step), 1) * step}"
            )
        return resize_matrix(n, int(m), self.kind)  # type: ignore[arg-type]

    def pixels(self, axis: int, m: int) -> int:
        """See Separable.pixels."""
        n = m * self.factor
        if n.denominator != 1:
            raise ValueError(f"Resize({float(self.factor):g}) measures no image with {m} pixels a side")
        return int(n)
