"""Distances between the surfaces of two masks: Hausdorff, its 95th percentile, the mean, and surface Dice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.overlap import as_mask

__all__ = ["SurfaceDistances", "hausdorff", "surface_dice", "surface_distances"]

_PAIRS = 1 << 24  # distances held at once


class SurfaceDistances(NamedTuple):
    """Of each pair of masks, (b,) float64, in the unit of the spacing.

    Args:
        hd: Hausdorff distance, the greatest from a surface point of one to the nearest of the other.
        hd95: greater of the two directed 95th percentiles (between points, linearly).
        assd: mean distance over the surface points of both.
    """

    hd: Tensor
    hd95: Tensor
    assd: Tensor


def surface_distances(
    a: Tensor,
    b: Tensor,
    spacing: Sequence[float] | None = None,
    *,
    border: bool = False,
    empty: Literal["inf", "nan"] = "inf",
) -> SurfaceDistances:
    """Distances between the surfaces of each pair of masks.

        d_A(p) = min over q in surface(A) of |p - q|;   HD = max(max_{p in S(B)} d_A(p), max_{p in S(A)} d_B(p))

    A surface is the voxels of a mask that have a neighbour along an axis outside it. Distances are exact, between
    centres of voxels; time grows with the product of the two surfaces.

    Args:
        a, b: (b, h, w) or (b, d, h, w), bool or 0 and 1.
        spacing: distance of neighbours along each axis of space, such as `Volume.spacing`; None: 1 (in voxels).
        border: whether the edge of the field counts as outside: False (default) where what is seen goes on beyond the
            field, True as where a mask is eroded with zeros around it.
        empty: value where one mask has no surface: "inf" or "nan". Where neither has, 0 with "inf", else nan.

    Raises:
        ValueError: for shapes that differ or are no images, a spacing of another length or not positive.

    >>> a, b = torch.zeros(1, 8, 8, dtype=torch.bool), torch.zeros(1, 8, 8, dtype=torch.bool)
    >>> a[0, 2:4, 2:4], b[0, 5:7, 2:4] = True, True
    >>> surface_distances(a, b, spacing=(2.0, 1.0)).hd
    tensor([6.], dtype=torch.float64)
    """
    near = []
    for one, other in _surfaces("surface_distances", a, b, spacing, border):
        if len(one) and len(other):
            there, back = _nearest(one, other), _nearest(other, one)
            ends = torch.stack([there.max(), back.max()]).max()
            most = torch.stack([there.quantile(0.95), back.quantile(0.95)]).max()
            near.append(torch.stack([ends, most, torch.cat([there, back]).mean()]))
        else:
            both = len(one) == len(other)
            near.append(one.new_full((3,), torch.nan if empty == "nan" else 0.0 if both else torch.inf))
    if empty not in ("inf", "nan"):
        raise ValueError(f"surface_distances got empty={empty!r}; expected inf or nan")
    return SurfaceDistances(*torch.stack(near).unbind(1))


def hausdorff(
    a: Tensor, b: Tensor, spacing: Sequence[float] | None = None, *, percentile: Literal[95, 100] = 100
) -> Float[Tensor, "b"]:
    """Hausdorff distance of each pair of masks, or its 95th percentile: see `surface_distances`.

    >>> a = torch.eye(4, dtype=torch.bool)[None]
    >>> hausdorff(a, a)
    tensor([0.], dtype=torch.float64)
    """
    if percentile not in (95, 100):
        raise ValueError(f"hausdorff got percentile={percentile}; expected 95 or 100")
    found = surface_distances(a, b, spacing)
    return found.hd if percentile == 100 else found.hd95


def surface_dice(
    a: Tensor, b: Tensor, tolerance: float, spacing: Sequence[float] | None = None, *, border: bool = False
) -> Float[Tensor, "b"]:
    """Share of both surfaces that lies within a tolerance of the other; 1 where neither mask has a surface.

        (|{p in S(A): d_B(p) <= t}| + |{p in S(B): d_A(p) <= t}|) / (|S(A)| + |S(B)|)

    Args:
        a, b, spacing, border: as of `surface_distances`.
        tolerance: t, in the unit of the spacing, >= 0.

    Source: Nikolov et al. 2018 (1809.04430), counted by voxels instead of areas.
    """
    if not tolerance >= 0:
        raise ValueError(f"surface_dice got tolerance={tolerance}; expected a distance >= 0")
    values = []
    for one, other in _surfaces("surface_dice", a, b, spacing, border):
        total = len(one) + len(other)
        if len(one) and len(other):
            close = (torch.cat([_nearest(one, other), _nearest(other, one)]) <= tolerance).sum()
            values.append(close / total)
        else:
            values.append(torch.tensor(float(total == 0)))
    return torch.stack(values).double().to(a.device)


def _surfaces(
    name: str, a: Tensor, b: Tensor, spacing: Sequence[float] | None, border: bool
) -> list[tuple[Tensor, Tensor]]:
    """Of each pair, the places (n, k) of both surfaces in units of the spacing."""
    if a.shape != b.shape or not 2 <= a.ndim <= 4 or len(a) == 0:
        raise ValueError(
            f"{name} got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal batches (b, h, w) or "
            "(b, d, h, w) without a channel"
        )
    axes = a.ndim - 1
    spacing = [1.0] * axes if spacing is None else list(spacing)
    if len(spacing) != axes or any(not 0 < s < math.inf for s in spacing):
        raise ValueError(
            f"{name} got spacing {tuple(spacing)} for masks of {axes} axes; expected one positive number each"
        )
    scale = torch.tensor(spacing, dtype=torch.float64, device=a.device)
    edges = [_edge(as_mask(name, x), border) for x in (a, b)]
    return [(p.nonzero() * scale, q.nonzero() * scale) for p, q in zip(*edges, strict=True)]


def _edge(mask: Tensor, border: bool) -> Tensor:
    inside = mask.clone()
    for axis in range(1, mask.ndim):
        first = torch.full_like(mask.narrow(axis, 0, 1), not border)
        inner = mask.shape[axis] - 1
        before = torch.cat([first, mask.narrow(axis, 0, inner)], axis)
        after = torch.cat([mask.narrow(axis, 1, inner), first], axis)
        inside &= before & after
    return mask & ~inside


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    """Distance from each point to the nearest of the others."""
    rows = max(1, _PAIRS // len(others))
    parts = points.split(rows)
    # no matrix product, which loses what is small beside the coordinates
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(part, others, compute_mode=exact).min(1).values for part in parts])
