"""Which frequencies are sampled: masks of accelerated MRI, zero frequency at (h // 2, w // 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.operators.radon import need_size

__all__ = ["cartesian_mask", "radial_mask", "random_mask"]


def _share(kept: int, count: int, acceleration: float | int, what: str) -> int:
    """How many of `count` are sampled in all; at least `kept`."""
    if not 1 <= acceleration < math.inf:
        raise ValueError(f"a k-space mask got acceleration={acceleration}; expected a number >= 1 (1 samples all)")
    total = max(1, round(count / acceleration))
    if kept > total:
        raise ValueError(
            f"the centre alone has {kept} of {count} {what} but acceleration {acceleration:g} leaves {total}; take a "
            "smaller centre or acceleration"
        )
    return total


def _picked(fixed: Tensor, total: int, noise: Noise) -> Tensor:
    """The fixed ones and, of the others, as many as make `total`, chosen uniformly: (b, n) bool."""
    place = noise.uniform("k-space", 0, (len(fixed),), dtype=torch.float64)
    rank = torch.where(fixed, -torch.ones_like(place), place).argsort(1).argsort(1)
    return rank < total


def cartesian_mask(
    size: int | Sequence[int], acceleration: float | int, noise: Noise, *, centre: float | int = 0.08
) -> Bool[Tensor, "b 1 h w"]:
    """Columns of k-space (phase encoding runs along the width): round(w / acceleration) of them, exactly.

    The round(centre w) columns about zero frequency are all there (at least one), the others chosen uniformly.

    Args:
        size: height and width.
        acceleration: R >= 1.
        noise: one seed a mask (purpose "k-space").
        centre: share of the columns, [0, 1].

    Raises:
        ValueError: for an acceleration below 1, or one that leaves fewer lines than the centre has.

    Source: fastMRI (arXiv 1811.08839), random masks: centre 0.08 with R = 4 and 0.04 with R = 8. There the number of
    lines is random about w / R.

    >>> cartesian_mask(32, 4, Noise([0, 1]))[:, 0, 0].sum(1).tolist()
    [8, 8]
    """
    h, w = need_size(size, "cartesian_mask")
    if not 0 <= centre <= 1:
        raise ValueError(f"cartesian_mask got centre={centre}; expected a share of the columns in [0, 1]")
    kept = max(1, round(centre * w))
    total = _share(kept, w, acceleration, "columns")
    column = torch.arange(w)
    start = w // 2 - kept // 2
    picked = _picked((column >= start) & (column < start + kept), total, noise)
    return picked[:, None, None].expand(len(noise), 1, h, w).clone()


def random_mask(
    size: int | Sequence[int], acceleration: float | int, noise: Noise, *, centre: float | int = 0.02
) -> Bool[Tensor, "b 1 h w"]:
    """Single frequencies, round(h w / acceleration) of them, exactly: those nearest zero, the others uniformly chosen.

    Args:
        size, acceleration, noise: as of `cartesian_mask`.
        centre: share of the frequencies that are the nearest to zero, in [0, 1].

    >>> int(random_mask(16, 4, Noise([0])).sum())
    64
    """
    h, w = need_size(size, "random_mask")
    if not 0 <= centre <= 1:
        raise ValueError(f"random_mask got centre={centre}; expected a share of the frequencies in [0, 1]")
    kept = max(1, round(centre * h * w))
    total = _share(kept, h * w, acceleration, "frequencies")
    i, j = torch.arange(h)[:, None] - h // 2, torch.arange(w) - w // 2
    near = ((i / h) ** 2 + (j / w) ** 2).flatten().argsort(stable=True).argsort(stable=True) < kept
    return _picked(near, total, noise).reshape(len(noise), 1, h, w)


def radial_mask(size: int | Sequence[int], spokes: int, *, start: float | int = 0.0) -> Bool[Tensor, "1 1 h w"]:
    """Lines through zero frequency, evenly turned: the frequencies of the grid that each passes nearest.

    A radial scan moved to the grid; true radial samples lie between grid points.

    Args:
        size: height and width.
        spokes: how many lines >= 1.
        start: angle of the first, radians.

    >>> int(radial_mask(8, 2).sum())
    15
    """
    h, w = need_size(size, "radial_mask")
    if isinstance(spokes, bool) or not isinstance(spokes, int) or spokes < 1:
        raise ValueError(f"radial_mask got spokes={spokes!r}; expected a whole number >= 1")
    i = (torch.arange(h, dtype=torch.float64)[:, None] - h // 2).expand(h, w)
    j = (torch.arange(w, dtype=torch.float64) - w // 2).expand(h, w)
    mask = torch.zeros(h, w, dtype=torch.bool)
    for k in range(spokes):
        angle = start + math.pi * k / spokes
        c, s = math.cos(angle), math.sin(angle)
        off, half = j * s + i * c, max(abs(c), abs(s)) / 2 + 1e-9
        mask |= (off > 2e-9 - half) & (off <= half)  # one point a row or column, ties on one side
    return mask[None, None]
