"""How near a reconstruction is to its reference, in the values' own unit, and to its measurement."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["consistency", "mean_absolute_error", "nmse", "spectral_angle", "volume_psnr"]


def nmse(a: Float[Tensor, "b *s"], reference: Float[Tensor, "b *s"], mask: Tensor | None = None) -> Float[Tensor, "b"]:
    """Squared error of each sample over the reference's square (float64); 0 for equal ones, 1 for all zeros.

        |a - reference|^2 / |reference|^2

    In the values' own unit, where 0 means nothing: not for images in [-1, 1], unless as complex values in two channels.

    Args:
        a, reference: (b, *s).
        mask: what to look at, bool, of their shape or one that expands to it; None: everything.

    Raises:
        ValueError: for shapes that differ, or a reference that is 0 everywhere.

    >>> nmse(torch.zeros(1, 4), torch.ones(1, 4))
    tensor([1.], dtype=torch.float64)
    """
    x, y, inside = _checked("nmse", a, reference, mask)
    size = (y.square() * inside).sum(1)
    if bool((size == 0).any()):
        raise ValueError("nmse got a reference that is 0 everywhere (inside the mask); it has no relative error")
    return ((x - y).square() * inside).sum(1) / size


def volume_psnr(
    a: Float[Tensor, "b *s"], reference: Float[Tensor, "b *s"], mask: Tensor | None = None
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio in decibels (float64) whose peak is the reference volume's own maximum.

        10 log10(max(reference)^2 / mean((a - reference)^2))

    The peak is of the whole reference, also under a mask. For values >= 0 in their own unit (MR magnitude); `psnr` is
    for a stated range.

    Args:
        a, reference, mask: as of `nmse`; give one row a volume, not a slice: its peak is all its slices'.

    Raises:
        ValueError: for shapes that differ, an empty mask, or a reference without a positive value.

    Source: fastMRI (1811.08839), section 5.

    >>> volume_psnr(torch.full((1, 4), 9.0), torch.full((1, 4), 10.0))
    tensor([20.], dtype=torch.float64)
    """
    x, y, inside = _checked("volume_psnr", a, reference, mask)
    peak = y.max(1).values
    if bool((peak <= 0).any()):
        raise ValueError("volume_psnr got a reference without a positive value; its maximum is no peak: use psnr")
    error = ((x - y).square() * inside).sum(1) / inside.sum(1)
    return 10 * torch.log10(peak.square() / error)


def mean_absolute_error(
    a: Float[Tensor, "b *s"], reference: Float[Tensor, "b *s"], mask: Tensor | None = None
) -> Float[Tensor, "b"]:
    """Mean |a - reference| of each sample (float64), in the values' unit (Hounsfield units for CT).

    Args:
        a, reference, mask: as of `nmse`.

    >>> mean_absolute_error(torch.tensor([[1.0, -1.0]]), torch.zeros(1, 2))
    tensor([1.], dtype=torch.float64)
    """
    x, y, inside = _checked("mean_absolute_error", a, reference, mask)
    return ((x - y).abs() * inside).sum(1) / inside.sum(1)


def consistency(operator: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Float[Tensor, "b"]:
    """How far a restoration is from its measurement (float64): about std sqrt(m) / |y| where all that is left is noise.

        |y - A(x)| / |y|

    Args:
        operator: A.
        x: restorations, (b, *s).
        y: the measurement, (b, *m) or (1, *m).

    Raises:
        ValueError: for a measurement of another shape than A(x), or one that is 0.

    >>> consistency(lambda x: 2 * x, torch.ones(1, 4), torch.full((1, 4), 4.0))
    tensor([0.5000], dtype=torch.float64)
    """
    made = operator(x)
    if made.shape[1:] != y.shape[1:] or len(y) not in (1, len(made)):
        raise ValueError(f"the operator makes {tuple(made.shape)} of the images; the measurement is {tuple(y.shape)}")
    y = y.double().flatten(1)
    size = y.norm(dim=1)
    if bool((size == 0).any()):
        raise ValueError("consistency got a measurement that is 0; it has no relative error")
    return (y - made.double().flatten(1)).norm(dim=1) / size


def spectral_angle(a: Float[Tensor, "b c *s"], b: Float[Tensor, "b c *s"]) -> Float[Tensor, "b"]:
    """Mean angle in degrees between the channel vectors of each pixel (SAM, float64): 0 where only brightness differs.

        mean over pixels of arccos(<a, b> / (|a| |b|))

    Args:
        a, b: (b, c, *s), c >= 2, in a unit where 0 is dark: give (x + 1) / 2 of images in [-1, 1]. Pixels where either
            is all 0 have no direction and are left out (NaN where none is left).

    Raises:
        ValueError: for shapes that differ or a single channel.

    Source: Kruse et al. 1993 (spectral image processing system).

    >>> spectral_angle(torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[1.0], [1.0]]])).round(decimals=6)
    tensor([45.], dtype=torch.float64)
    """
    if a.shape != b.shape or a.ndim < 3 or a.shape[1] < 2:
        raise ValueError(f"spectral_angle got {tuple(a.shape)} and {tuple(b.shape)}; expected equal (b, c, *s), c >= 2")
    x, y = a.double().flatten(2), b.double().flatten(2)
    sizes = x.norm(dim=1), y.norm(dim=1)
    there = (sizes[0] > 0) & (sizes[1] > 0)
    one, two = (z / size.clamp(min=1e-300)[:, None] for z, size in zip((x, y), sizes, strict=True))
    # exact for small angles, where the arc cosine is not
    angle = 2 * torch.atan2((one - two).norm(dim=1), (one + two).norm(dim=1))
    return (angle * there).sum(1) / there.sum(1) * (180 / math.pi)


def _checked(name: str, a: Tensor, b: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"{name} got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal batches")
    inside = torch.ones(a.shape, dtype=torch.bool, device=a.device) if mask is None else mask.expand(a.shape)
    inside = inside.flatten(1)
    if not bool(inside.any(1).all()):
        raise ValueError(f"{name} got a mask with nothing inside")
    return a.double().flatten(1), b.double().flatten(1), inside
