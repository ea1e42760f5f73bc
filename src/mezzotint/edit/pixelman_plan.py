"""The plan of an edit: the manipulated picture and every mask, made before any network is asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from mezzotint.edit.pixelman_paste import About, Pasted, Placement, paste_object, place

__all__ = ["EditPlan", "plan_move", "plan_paste"]

_MOST = 0.6
Mask = Bool[Tensor, "h w"]


@dataclass(frozen=True)
class EditPlan:
    """What an edit is about to do; everything in it can be looked at.

    Args:
        source: x_src, the picture (3, h, w) in [-1, 1].
        image: x_man, with the object at its new place too (moved, it is left where it was).
        gud: the object at its source place; empty where it comes from another picture.
        tar: the part of `gud` that stays inside the frame.
        gen: the object at its target place.
        ipt: the vacated region, `gud` without `gen`.
        share: what lies outside both.
        lost: the share of the object's area that fell out of the frame.
        placement: how source pixels go to target pixels; None where the object is not in this picture.

    Source: arXiv 2412.14283, section 3.2 of the sheet (its names, less the m_).
    """

    source: Float[Tensor, "c h w"]
    image: Float[Tensor, "c h w"]
    gud: Mask
    tar: Mask
    gen: Mask
    ipt: Mask
    share: Mask
    lost: float
    placement: Placement | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.source.shape[1], self.source.shape[2]

    def masks(self) -> dict[str, Mask]:
        """Every mask by its name, in pixels."""
        return {name: getattr(self, name) for name in ("gud", "tar", "gen", "ipt", "share")}

    def at(self, name: str, size: tuple[int, int]) -> Mask:
        """A mask on another grid: the share of each cell that it covers, cut at 1/2.

        It may be empty there, of an object that is smaller than a cell.
        """
        return at_size(getattr(self, name), size)

    def pairs(self, size: tuple[int, int]) -> Float64[Tensor, "1 i j 2"]:
        """For each cell of a grid, where the object that lies there comes from: the input of `F.grid_sample`
        (align_corners=False). In an edit that is no move, each cell itself."""
        axes = []
        for axis in (0, 1):
            n, cells = self.size[axis], size[axis]
            centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * (n / cells) - 0.5  # in pixels
            if self.placement is not None:
                centres = self.placement.source_of(axis, centres)
            axes.append((centres + 0.5) * (2 / n) - 1)
        y, x = torch.meshgrid(axes[0], axes[1], indexing="ij")
        return torch.stack([x, y], -1)[None]

    def to(self, device: torch.device | str) -> EditPlan:
        """The same plan on a device."""
        moved = {name: mask.to(device) for name, mask in self.masks().items()}
        return EditPlan(
            self.source.to(device), self.image.to(device), **moved, lost=self.lost, placement=self.placement
        )


def at_size(mask: Bool[Tensor, "h w"], size: tuple[int, int]) -> Bool[Tensor, "i j"]:
    """A mask on another grid: the share of each cell that it covers, cut at 1/2.

    >>> at_size(torch.tensor([[True, False], [True, True]]), (1, 1)).tolist()
    [[True]]
    """
    return F.adaptive_avg_pool2d(mask[None, None].float(), size)[0, 0] >= 0.5


def plan_move(
    image: Float[Tensor, "*one c h w"],
    mask: Tensor,
    shift: tuple[int, int] = (0, 0),
    scale: float = 1.0,
    *,
    about: About = "object",
) -> EditPlan:
    """Plan to move or resize the object under a mask.

    Args:
        image: (c, h, w) or (1, c, h, w) in [-1, 1].
        mask: (h, w), (1, h, w) or (1, 1, h, w), booleans or numbers of which those above 1/2 are the object.
        shift: (dx, dy) in pixels, right and down.
        scale: the object's.
        about: what the scale leaves where it is; see `place`.

    Raises:
        ValueError: for a mask that is empty, covers more than 60 % of the image or has another size; for an object
            that would leave the frame, or leave nothing of it uncovered.

    >>> x, m = torch.zeros(3, 8, 8), torch.zeros(8, 8)
    >>> m[2:4, 2:4] = 1
    >>> plan = plan_move(x, m, shift=(5, 0))
    >>> int(plan.gen.sum()), plan.lost
    (2, 0.5)
    """
    picture = _picture(image, "image")
    object_ = _object(mask, picture, "image")
    pasted = paste_object(picture, picture, object_, place(object_, shift, scale, about=about))
    return _plan(picture, pasted, object_, pasted.kept, pasted.placement)


def plan_paste(
    image: Float[Tensor, "*one c h w"],
    reference: Float[Tensor, "*one c i j"],
    mask: Tensor,
    at: tuple[int, int] | None = None,
    scale: float = 1.0,
) -> EditPlan:
    """Plan to lay the object of another picture onto an image.

    Nothing is vacated, so that no attention is blocked and the energy has no terms of a hole.

    Args:
        image: (c, h, w) or (1, c, h, w) in [-1, 1].
        reference: the other picture, of any size.
        mask: the object in the reference, as for `plan_move`.
        at: (x, y), where in the image the object's centre goes; None for where it is in the reference.
        scale: the object's.

    Raises:
        ValueError: as for `plan_move`.

    Source: the paper states the task; the released code has moves alone, so that what the energy does here (the
    object is compared with itself in the pasted picture) is our choice.
    """
    picture, other = _picture(image, "image"), _picture(reference, "reference").to(image)
    if other.shape[0] != picture.shape[0]:
        raise ValueError(f"the image has {picture.shape[0]} channels but the reference {other.shape[0]}; give both one")
    object_ = _object(mask, other, "reference")
    pasted = paste_object(picture, other, object_, place(object_, scale=scale, at=at))
    none = torch.zeros_like(pasted.mask)
    return _plan(picture, pasted, none, none, None)


def _plan(picture: Tensor, pasted: Pasted, gud: Tensor, tar: Tensor, placement: Placement | None) -> EditPlan:
    share = ~(gud | pasted.mask)
    if not bool(share.any()):
        raise ValueError(
            "the object, here and there, covers the whole image: no background is left to fill from; take a smaller "
            "mask, scale or shift"
        )
    return EditPlan(picture, pasted.image, gud, tar, pasted.mask, gud & ~pasted.mask, share, pasted.lost, placement)


def _picture(image: Tensor, name: str) -> Tensor:
    single = image[0] if image.ndim == 4 and len(image) == 1 else image
    if single.ndim != 3 or not single.is_floating_point():
        raise ValueError(
            f"the {name} is {tuple(image.shape)} of {image.dtype}; expected floats (c, h, w) in [-1, 1], one picture"
        )
    return single


def _object(mask: Tensor, picture: Tensor, name: str) -> Tensor:
    h, w = picture.shape[1:]
    if tuple(mask.shape[-2:]) != (h, w) or mask.numel() != h * w:
        shown = " x ".join(map(str, mask.shape))
        raise ValueError(f"the mask is {shown} but the {name} {h} x {w}; give one size")
    mask = (mask.reshape(h, w) if mask.dtype == torch.bool else mask.reshape(h, w) > 0.5).to(picture.device)
    share = float(mask.float().mean())
    if share == 0:
        raise ValueError("the mask is empty: no object to move; mark its pixels (white, or above 1/2)")
    if share > _MOST:
        raise ValueError(
            f"the mask covers {100 * share:.0f} % of the {name}, more than {100 * _MOST:.0f} %; mark one object, and "
            "mind that white is the object"
        )
    return mask
