"""Order statistics of a window: median, maximum, minimum and all between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.edit.filters.filter import Filter, Removed

__all__ = ["Maximum", "Minimum", "Rank"]


@dataclass(frozen=True)
class Rank(Filter):
    """The q-th order statistic of each k x k window, a channel at a time; borders are mirrored.

        out = sorted(window)[round(q (k^2 - 1))]

    Args:
        size: k, odd, pixels; None scales with the image: the odd number next to its shorter side / 100, 3 at least.
        q: 0 is the minimum, 1/2 the median, 1 the maximum.

    Raises:
        ValueError: for an even or empty window, one that does not fit into the image, or q outside [0, 1].

    >>> import torch
    >>> float(Rank(3, 0.5)(torch.eye(5).expand(1, 3, 5, 5))[0, 0, 2, 2])
    0.0
    """

    size: int | None = None
    q: float = 0.5
    name: ClassVar[str] = "rank"
    removes: ClassVar[frozenset[Removed]] = frozenset({"texture"})

    def __post_init__(self) -> None:
        if self.size is not None and (self.size < 1 or self.size % 2 == 0):
            raise ValueError(f"a window of {self.size} pixels; expected an odd number, as 3 or 5")
        if not 0 <= self.q <= 1:
            raise ValueError(f"rank {self.q}; expected 0 (minimum) to 1 (maximum)")

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The statistic at every pixel."""
        k = window(self.size, x)
        b, c, h, w = x.shape
        rows = F.unfold(mirrored(x, k // 2), k).view(b, c, k * k, h * w)
        return rows.kthvalue(1 + round(self.q * (k * k - 1)), dim=2).values.view(b, c, h, w)


@dataclass(frozen=True)
class Maximum(Filter):
    """The greatest value of each k x k window: light spreads. `Rank` with q = 1.

    Args:
        size: as of `Rank`.

    >>> import torch
    >>> float(Maximum(3)(torch.eye(5).expand(1, 3, 5, 5))[0, 0, 0, 1])
    1.0
    """

    size: int | None = None
    name: ClassVar[str] = "max"
    removes: ClassVar[frozenset[Removed]] = frozenset({"texture"})

    def __post_init__(self) -> None:
        Rank(self.size)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The greatest value about every pixel."""
        k = window(self.size, x)
        return F.max_pool2d(mirrored(x, k // 2), k, stride=1)


@dataclass(frozen=True)
class Minimum(Filter):
    """The least value of each k x k window: dark spreads. `Rank` with q = 0.

    Args:
        size: as of `Rank`.

    >>> import torch
    >>> float(Minimum(3)(torch.eye(5).expand(1, 3, 5, 5))[0, 0, 2, 2])
    0.0
    """

    size: int | None = None
    name: ClassVar[str] = "min"
    removes: ClassVar[frozenset[Removed]] = frozenset({"texture"})

    def __post_init__(self) -> None:
        Rank(self.size)

    def apply(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The least value about every pixel."""
        return -Maximum(self.size).apply(-x)


def window(size: int | None, x: Tensor) -> int:
    """The window's side for these images."""
    least = min(x.shape[-2:])
    k = max(3, 2 * round((least / 100 - 1) / 2) + 1) if size is None else size
    if k // 2 >= least:
        raise ValueError(f"a window of {k} pixels for images of {x.shape[-2]} x {x.shape[-1]}; choose a smaller one")
    return k


def mirrored(x: Tensor, margin: int) -> Tensor:
    """The images with a margin that mirrors them about their border pixels."""
    return F.pad(x, (margin,) * 4, mode="reflect") if margin else x
