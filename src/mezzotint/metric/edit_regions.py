"""What an edit did where it should have acted and where it should not: object, background and hole, each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.overlap import as_mask

__all__ = ["EditRegions", "edit_regions", "region_error", "region_psnr"]


class EditRegions(NamedTuple):
    """Of each edited picture, (b,) float64; NaN where its region is empty or nothing is known of it.

    Args:
        object_psnr: in m_gen, against the object as it was pasted there, decibels.
        background_psnr: in m_share, against the source, decibels.
        hole_error: in m_ipt, against the truth, in the images' unit.
    """

    object_psnr: Tensor
    background_psnr: Tensor
    hole_error: Tensor


def region_error(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], region: Tensor) -> Float[Tensor, "b"]:
    """Root of the mean squared error over a region, in the images' unit (float64); NaN where the region is empty.

        sqrt(sum_{p in region, c} (a - b)^2 / (c |region|))

    Args:
        a, b: images.
        region: (h, w) for all of them, or (b, h, w); bool, or 0 and 1.

    Raises:
        ValueError: for shapes that differ, or a region with other values.

    >>> region_error(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), torch.eye(2))
    tensor([1.], dtype=torch.float64)
    """
    return _squared("region_error", a, b, region).sqrt()


def region_psnr(
    a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"], region: Tensor, data_range: float | int = 2.0
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio in decibels over a region (float64): infinite where equal, NaN where it is empty.

        10 log10(data_range^2 / mean over the region of (a - b)^2)

    Args:
        a, b, region: as of `region_error`.
        data_range: greatest minus least value; 2 for [-1, 1].

    Raises:
        ValueError: as `region_error`, or for a range that is not positive.

    >>> region_psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.2), torch.eye(2)).round(decimals=4)
    tensor([20.], dtype=torch.float64)
    """
    if not data_range > 0:
        raise ValueError(f"region_psnr got data_range={data_range}; expected a positive number (2 for [-1, 1])")
    return 10 * torch.log10(data_range**2 / _squared("region_psnr", a, b, region))


def edit_regions(
    edited: Float[Tensor, "b c h w"],
    source: Float[Tensor, "c h w"],
    pasted: Float[Tensor, "c h w"],
    masks: Mapping[str, Tensor],
    truth: Float[Tensor, "c h w"] | None = None,
) -> EditRegions:
    """Measures of the results of one edit that moves, resizes or pastes an object.

    Args:
        edited: results of the edit, one a seed, in [-1, 1].
        source: the picture before.
        pasted: the picture with the object laid at its new place.
        masks: "gen" (the object's new place), "ipt" (what it left) and "share" (everything else), each (h, w), as of
            `mezzotint.edit.EditPlan.masks()`.
        truth: what the edit should have given, where that is known; only its hole is looked at.

    Raises:
        ValueError: for a mask that is missing, and as `region_error`.

    Source: arXiv 2412.14283, section 4 of the sheet; the hole's error against a rendered truth is our choice.
    """
    missing = [name for name in ("gen", "ipt", "share") if name not in masks]
    if missing:
        raise ValueError(
            f"edit_regions got no mask {', '.join(missing)}; give gen, ipt and share, as of a plan's masks()"
        )
    for name, x in (("source", source), ("pasted", pasted), ("truth", truth)):
        if x is not None and x.shape[-3:] != edited.shape[1:]:
            raise ValueError(f"edit_regions got a {name} of {tuple(x.shape)} for pictures of {tuple(edited.shape)}")
    like = [None if x is None else x.to(edited).expand_as(edited) for x in (pasted, source, truth)]
    first, second, third = like
    assert first is not None and second is not None
    unknown = torch.full((len(edited),), torch.nan, dtype=torch.float64, device=edited.device)
    return EditRegions(
        region_psnr(edited, first, masks["gen"]),
        region_psnr(edited, second, masks["share"]),
        unknown if third is None else region_error(edited, third, masks["ipt"]),
    )


def _squared(name: str, a: Tensor, b: Tensor, region: Tensor) -> Tensor:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"{name} got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal (b, c, h, w)")
    n, channels, h, w = a.shape
    if tuple(region.shape) not in ((h, w), (n, h, w)):
        raise ValueError(f"{name} got a region of {tuple(region.shape)}; expected ({h}, {w}) or ({n}, {h}, {w})")
    inside = as_mask(name, region).to(a.device).expand(n, h, w)
    error = torch.where(inside[:, None], (a.double() - b.double()).square(), 0.0)
    return error.sum((1, 2, 3)) / (channels * inside.sum((1, 2)))
