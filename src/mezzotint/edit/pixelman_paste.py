"""Pixel manipulation: an object cut out by its mask, resized, and laid onto a picture somewhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["About", "Pasted", "Placement", "paste_object", "place"]

About = Literal["object", "centre"]


@dataclass(frozen=True)
class Placement:
    """Where an object goes: pixel s of the source lies at ((s - corner) + 1/2) ratio - 1/2 + offset of the target.

    All pairs are (y, x). Without resizing corner, size and scaled are equal sides and pixels go to pixels.

    Args:
        corner, size: of the part of the source that is cut out: the object's box and a margin.
        scaled: size of that part in the target.
        offset: of its corner in the target.
    """

    corner: tuple[int, int]
    size: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]

    def target_of(self, axis: int, places: Tensor) -> Tensor:
        """Where the rows (axis 0) or columns (axis 1) of the source lie in the target."""
        ratio = self.scaled[axis] / self.size[axis]
        return (places - self.corner[axis] + 0.5) * ratio - 0.5 + self.offset[axis]

    def source_of(self, axis: int, places: Tensor) -> Tensor:
        """Where the rows or columns of the target come from."""
        ratio = self.scaled[axis] / self.size[axis]
        return (places - self.offset[axis] + 0.5) / ratio - 0.5 + self.corner[axis]


@dataclass(frozen=True)
class Pasted:
    """A picture with an object laid onto it.

    Args:
        image: x_man = x (1 - m_gen) + placed object m_gen.
        mask: m_gen, where the object lies now.
        kept: m_tar, the part of the object's mask, at its source place, that is inside the frame now.
        lost: the share of the object's area that fell out of the frame, in [0, 1).
        placement: how it got there.
    """

    image: Float[Tensor, "c h w"]
    mask: Bool[Tensor, "h w"]
    kept: Bool[Tensor, "i j"]
    lost: float
    placement: Placement


def place(
    mask: Bool[Tensor, "h w"],
    shift: tuple[int, int] = (0, 0),
    scale: float = 1.0,
    *,
    about: About = "object",
    at: tuple[int, int] | None = None,
) -> Placement:
    """Where an object goes by a shift and a scale.

    Args:
        mask: the object's.
        shift: (dx, dy) in pixels, right and down.
        scale: rho, from 1/16 to 16.
        about: what stays where it is under resizing alone: the centre of the object's mask (our choice), or
            "centre", that of the picture, when the shift is multiplied by rho too (the released code).
        at: (x, y), where the object's centre goes, in place of `shift`.

    Raises:
        ValueError: for an empty mask, or a shift or a scale that is none.
    """
    if not bool(mask.any()):
        raise ValueError("the mask is empty: no object to move; mark its pixels")
    if about not in ("object", "centre"):
        raise ValueError(f"about={about!r}; expected 'object' or 'centre'")
    for name, pair in (("shift", shift), ("at", at or (0, 0))):
        if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) for v in pair):
            raise ValueError(f"{name}={pair!r}; expected two whole numbers of pixels, right and down")
    if not 1 / 16 <= scale <= 16:  # also NaN
        raise ValueError(f"scale={scale:g}; expected a factor from 1/16 to 16")
    margin = 0 if scale == 1 else math.ceil(4 / min(scale, 1))  # what bicubic interpolation looks at
    corner, size, scaled, offset = [], [], [], []
    for axis in (0, 1):
        inside = mask.any(1 - axis).nonzero().flatten().cpu()
        n = mask.shape[axis]
        first, last = max(0, int(inside[0]) - margin), min(n - 1, int(inside[-1]) + margin)
        span = last - first + 1
        grown = span if scale == 1 else max(1, round(span * scale))
        middle = (n - 1) / 2 if about == "centre" and at is None else _centre(mask, axis)
        move = shift[1 - axis] * (scale if about == "centre" else 1)
        goal = middle + move if at is None else at[1 - axis]
        corner.append(first)
        size.append(span)
        scaled.append(grown)
        offset.append(round(goal - ((middle - first + 0.5) * grown / span - 0.5)))
    return Placement(*((pair[0], pair[1]) for pair in (corner, size, scaled, offset)))


def paste_object(
    image: Float[Tensor, "c h w"],
    source: Float[Tensor, "c i j"],
    mask: Bool[Tensor, "i j"],
    placement: Placement,
) -> Pasted:
    """Lay the masked object of a source picture onto an image.

    x_man = x (1 - m_gen) + m_gen (placed source); what falls out of the frame is cut off, never wrapped. Resizing is
    bicubic and antialiased, of the picture and of the mask, which is then cut at 1/2; without it pixels are copied.

    Args:
        image: what it is laid onto; the source itself when an object is moved.
        source: where the object is.
        mask: the object in the source.
        placement: as `place` tells.

    Raises:
        ValueError: nothing of the object would be inside the frame.

    Source: arXiv 2412.14283, section 3.1 of the sheet.

    >>> x = torch.arange(16.0).view(1, 4, 4)
    >>> m = x[0] == 5
    >>> paste_object(x, x, m, place(m, (1, 2))).image[0, 3, 2].item()
    5.0
    """
    (top, left), (height, width) = placement.corner, placement.size
    cut = (slice(top, top + height), slice(left, left + width))
    part, shape = source[(slice(None), *cut)], mask[cut]
    if placement.scaled != placement.size:
        resized = F.interpolate(part[None], placement.scaled, mode="bicubic", antialias=True)[0]
        # bicubic interpolation overshoots; colours stay those of the picture
        part = resized.clamp(float(source.min()), float(source.max()))
        soft = F.interpolate(shape[None, None].to(part.dtype), placement.scaled, mode="bicubic", antialias=True)
        shape = soft[0, 0] >= 0.5
    h, w = image.shape[1:]
    (y, x), (tall, wide) = placement.offset, placement.scaled
    rows, columns = slice(max(y, 0), min(y + tall, h)), slice(max(x, 0), min(x + wide, w))
    placed = torch.zeros((h, w), dtype=torch.bool, device=image.device)
    made = image.clone()
    if rows.start < rows.stop and columns.start < columns.stop:
        inner = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
        placed[rows, columns] = shape[inner]
        made[:, rows, columns] = torch.where(shape[inner], part[(slice(None), *inner)], made[:, rows, columns])
    total, left_over = int(shape.sum()), int(placed.sum())
    if left_over == 0:
        why = f"its corner would be at x {x}, y {y}" if total else "nothing of its mask is left at this size"
        raise ValueError(
            f"nothing of the object would be inside the frame of {h} x {w} pixels: {why}; shift it less, or take a "
            "larger scale"
        )
    axes = [placement.target_of(a, torch.arange(mask.shape[a], device=mask.device)) for a in (0, 1)]
    stays = [(axis > -0.5) & (axis < n - 0.5) for axis, n in zip(axes, (h, w), strict=True)]
    kept = mask & stays[0][:, None] & stays[1][None, :]
    return Pasted(made, placed, kept, 1 - left_over / total, placement)


def _centre(mask: Tensor, axis: int) -> float:
    weight = mask.sum(1 - axis).double()
    return float((weight * torch.arange(len(weight), device=weight.device)).sum() / weight.sum())
