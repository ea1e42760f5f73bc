"""How noisy a measurement is, from the measurement alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["estimate_kspace_std", "estimate_std"]

_MEDIAN = 0.6744897501960817  # of |n|, n standard normal
_FEWEST = 16  # numbers of which a median says anything


def estimate_std(y: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The std of white noise on each image of a batch: median |D y| / (6 * 0.6745).

    D is the mixed second difference (1, -2, 1) x (1, -2, 1), of norm 6, at every pixel: 0 on whatever is linear along
    rows or columns, so that of smooth images only noise is left; the median passes over edges. Fine texture is taken
    for noise. Within 10 % on smooth images from 64 x 64 pixels, in colour from 32 x 32 (tested); smaller ones hold too
    few numbers for that.

    Args:
        y: (b, c, h, w), at least 3 x 3; its channels are pooled.

    Returns:
        (b,), in units of y.

    Raises:
        ValueError: for other shapes, or fewer than 16 differences.

    Source: the kernel of Immerkaer 1996 with the median of Donoho and Johnstone 1994.

    >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> estimate_std(ramp).item()
    0.0
    """
    if y.is_complex() or not y.is_floating_point() or y.ndim != 4:
        raise ValueError(f"estimate_std got {y.dtype} of shape {tuple(y.shape)}; expected real floats (b, c, h, w)")
    if min(y.shape[-2:]) < 3 or y.shape[1] * (y.shape[2] - 2) * (y.shape[3] - 2) < _FEWEST:
        raise ValueError(f"estimate_std got images {tuple(y.shape)}; too few pixels to tell noise from image")
    d = y.detach()
    for axis in (-2, -1):
        d = d.diff(2, dim=axis)
    return d.flatten(1).abs().median(1).values / (6 * _MEDIAN)


def estimate_kspace_std(
    y: Float[Tensor, "b k2 h w"], mask: Tensor | None = None, *, share: float | int = 0.25
) -> Float[Tensor, " b"]:
    """The std of white noise on Fourier samples (each of the real and imaginary parts), from the highest frequencies.

    median |y| / 0.6745 over the share of the sampled entries that are farthest from zero frequency, where images have
    little left; in an orthonormal transform it is the noise's std in the image as well. Too high for small images
    whose edges reach that far.

    Args:
        y: (b, 2 coils, h, w), pairs of channels, zero frequency at (h // 2, w // 2).
        mask: 1 where sampled, (h, w) or (1 or b, 1, h, w); None takes all.
        share: in (0, 1].

    Returns:
        (b,), in units of y.

    Raises:
        ValueError: for other shapes, or fewer than 16 numbers.

    Source: our choice.
    """
    if y.is_complex() or not y.is_floating_point() or y.ndim != 4 or y.shape[1] % 2:
        raise ValueError(
            f"estimate_kspace_std got {y.dtype} of shape {tuple(y.shape)}; expected real floats (b, 2 coils, h, w), "
            "pairs of channels real and imaginary"
        )
    if not 0 < share <= 1:
        raise ValueError(f"estimate_kspace_std got share={share}; expected a share of the samples in (0, 1]")
    h, w = y.shape[-2:]
    mask = torch.ones(h, w, device=y.device) if mask is None else mask.to(y.device)
    mask = (mask if mask.ndim == 4 else mask[None, None]) > 0
    if mask.ndim != 4 or tuple(mask.shape[-2:]) != (h, w) or mask.shape[0] not in (1, len(y)):
        raise ValueError(f"estimate_kspace_std got samples {tuple(y.shape)} and a mask {tuple(mask.shape)}")
    i = (torch.arange(h, device=y.device)[:, None] - h // 2) / h
    j = (torch.arange(w, device=y.device) - w // 2) / w
    far = (i**2 + j**2).flatten()
    levels = []
    for row, sampled in zip(y.detach(), mask.flatten(1).expand(len(y), -1), strict=True):
        places = sampled.nonzero()[:, 0]
        places = places[far[places].argsort(descending=True, stable=True)[: max(1, round(share * len(places)))]]
        values = row.flatten(1)[:, places]
        if values.numel() < _FEWEST:
            raise ValueError(f"estimate_kspace_std has {values.numel()} numbers to look at; expected {_FEWEST} or more")
        levels.append(values.abs().median() / _MEDIAN)
    return torch.stack(levels)
