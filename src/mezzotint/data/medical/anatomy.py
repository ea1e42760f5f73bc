"""A head of random ellipses in any number of dimensions: which tissue is where, and how it looks in a contrast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mezzotint.core.noise import Noise
from mezzotint.core.simplex import Simplex

__all__ = ["CONTRASTS", "TISSUES", "draw_anatomy", "look"]

TISSUES = ("air", "skin", "bone", "fluid", "grey", "white")
# what a tissue is worth in each contrast, and how deep its texture is: [-1, 1] for the two of MR, Hounsfield units for
# CT, where cavities are given air so that all can be seen in one window (our choice throughout)
CONTRASTS = {
    "t1": ((-1.0, 0.7, -0.8, -0.55, 0.05, 0.45), (0.0, 0.03, 0.02, 0.02, 0.06, 0.04)),
    "t2": ((-1.0, 0.1, -0.85, 0.9, 0.35, 0.0), (0.0, -0.03, 0.02, 0.03, -0.06, -0.05)),
    "ct": ((-1000.0, -100.0, 800.0, -650.0, 40.0, 260.0), (0.0, 20.0, 40.0, 30.0, 35.0, 40.0)),
}
_SHELLS = ((1.0, 1), (0.93, 2), (0.85, 3), (0.80, 4), (0.60, 5))  # of the head's radii, and the tissue inside
_INNER = (3, 3, 4, 5, 3, 4)  # tissues of the structures inside
_NUMBERS = 6 + 7 * len(_INNER)
_TEXTURE = Simplex(frequency=0.125, octaves=2, decay=0.6, purposes=("texture",))


def places(size: Sequence[int]) -> Tensor:
    """Coordinates in [-1, 1] of the centres of pixels, (n, *size) float64, axes in the order of the size."""
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def draw_anatomy(noise: Noise, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Share of each tissue in each pixel, and texture.

    Args:
        noise: one seed a head.
        size: (h, w) or (d, h, w).

    Returns:
        shares (b, 6, *size) in [0, 1], summing to 1; texture (b, *size) of variance 1.
    """
    n, place = len(size), places(size)
    u = noise.uniform("phantom", 0, (_NUMBERS,), dtype=torch.float64)
    column = u.view(len(u), -1, *[1] * n).unbind(1)
    half = min(size[-2:]) / 2  # pixels in a unit of the coordinates
    centre = [0.06 * (column[a] - 0.5) for a in range(2)]
    radii = [0.78 + 0.12 * column[2], 0.64 + 0.14 * column[3]]
    angle = 0.5 * (column[4] - 0.5)
    turned = _turned(place, centre, angle)
    shares = torch.zeros(len(u), len(TISSUES), *size, dtype=torch.float64)
    shares[:, 0] = 1
    for factor, tissue in _SHELLS:
        _put(shares, _cover(turned, [factor * r for r in radii], half), tissue)
    for k, tissue in enumerate(_INNER):
        c = column[6 + 7 * k :]
        reach, around = 0.42 * c[0].sqrt(), 2 * math.pi * c[1]
        at = [reach * radii[0] * around.sin(), reach * radii[1] * around.cos()]
        if n == 3:
            at = [0.5 * (c[2] - 0.5), *at]
        own = _turned(turned, at, math.pi * c[3])
        _put(shares, _cover(own, [0.06 + 0.16 * c[4], 0.06 + 0.12 * c[5]], half), tissue)
    texture = _TEXTURE(noise.seeds)("texture", 0, (1, *size), dtype=torch.float64)[:, 0]
    return shares, texture


def look(shares: Tensor, texture: Tensor, contrast: str) -> Tensor:
    """The image of an anatomy in a contrast, (b, *size), in the contrast's own unit."""
    if contrast not in CONTRASTS:
        raise ValueError(f"unknown contrast {contrast!r}; expected one of {', '.join(CONTRASTS)}")
    values, depths = (shares.new_tensor(row) for row in CONTRASTS[contrast])
    return torch.einsum("bk...,k->b...", shares, values) + texture * torch.einsum("bk...,k->b...", shares, depths)


def _turned(place: Tensor | list[Tensor], centre: Sequence[Tensor], angle: Tensor) -> list[Tensor]:
    """Coordinates about a centre, the last two turned; a leading axis (depth) stays."""
    shifted = [p - c for p, c in zip(list(place)[-len(centre) :], centre, strict=True)]
    *first, y, x = [*list(place)[: len(place) - len(centre)], *shifted]
    return [*first, angle.cos() * y - angle.sin() * x, angle.sin() * y + angle.cos() * x]


def _norm(place: list[Tensor], radii: Sequence[Tensor], power: int = 1) -> Tensor:
    """|(p_a / r_a^power)_a| over the axes a."""
    parts = [p / r**power for p, r in zip(place, _all(place, radii), strict=True)]
    return torch.stack(torch.broadcast_tensors(*parts)).norm(dim=0)


def _cover(place: list[Tensor], radii: Sequence[Tensor], half: float) -> Tensor:
    """Share of each pixel inside an ellipse, by its first-order distance; the edge is one pixel wide."""
    f = _norm(place, radii).clamp(min=1e-3)
    slope = _norm(place, radii, 2) / f
    return (0.5 - (f - 1) / slope.clamp(min=1e-6) * half).clamp(0, 1)


def _all(place: list[Tensor], radii: Sequence[Tensor]) -> list[Tensor]:
    """Radii of every axis: that of depth, where there is one, is the mean of the others, a fifth longer."""
    own = list(radii)
    return own if len(own) == len(place) else [1.2 * (own[-2] + own[-1]) / 2, *own]


def _put(shares: Tensor, cover: Tensor, tissue: int) -> None:
    shares *= (1 - cover)[:, None]
    shares[:, tissue] += cover
