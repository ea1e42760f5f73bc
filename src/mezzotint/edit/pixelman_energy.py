"""The energy of an edit: how unlike the object's features are to what they were, and the hole's to the background's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.edit.pixelman_plan import EditPlan

__all__ = ["EditEnergy"]

Features = Sequence[Float[Tensor, "b _c _i _j"]]


@dataclass(frozen=True)
class EditEnergy:
    """The energies of an object and of what is around it, from features F of a target and of the pasted picture.

        E_edit = sum_l  edit/2 h(mean_gen cos(F_tgt(p), F_man(source of p)))
        E_con  = sum_l  content/2 h(mean_share cos(F_tgt, F_man)) + contrast/2 mean_ipt (cos(F_tgt, F_man) + 1)/2
                        + inpaint h((cos(mean_ipt F_tgt, mean_share F_man) + 1)/2)
        h(c) = 1 / (1 + 4 c)

    h goes on as 1 - 4 c below c = 0, as smooth: the paper's has a pole at -1/4 (our choice). A mask that is empty on
    the grid of the features drops its terms. Object pixels are paired through the placement, bilinearly (our choice
    where it resizes or shifts by fractions of a cell).

    Args:
        edit, content, contrast, inpaint: weights, 0 or more.
        scale: of the gradient; the paper's 0.08 * 500.

    Raises:
        ValueError: for a negative weight.

    Source: arXiv 2412.14283, section 3.5 of the sheet; after DragonDiffusion (arXiv 2307.02421).
    """

    edit: float = 4.0
    content: float = 6.0
    contrast: float = 0.2
    inpaint: float = 0.8
    scale: float = 40.0

    def __post_init__(self) -> None:
        for name in ("edit", "content", "contrast", "inpaint", "scale"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}; expected a finite number of 0 or more")

    def of_object(self, target: Features, anchor: Features, plan: EditPlan, grid: tuple[int, int]) -> Tensor:
        """E_edit, (b,): whether the object looks as it did before it was moved.

        Args:
            target, anchor: maps of the target's and of the pasted picture's evaluation, one a layer.
            plan: with the masks.
            grid: (height, width) on which masks and features meet.
        """
        gen = plan.at("gen", grid)
        total = target[0].new_zeros(len(target[0]))
        if not bool(gen.any()):
            return total
        places = plan.pairs(grid).expand(len(target[0]), -1, -1, -1)
        for f, g in _resized(target, anchor, grid):
            moved = F.grid_sample(g, places.to(g), padding_mode="border", align_corners=False)
            total = total + 0.5 * self.edit * _h(_mean(F.cosine_similarity(f, moved, 1), gen))
        return total

    def of_rest(self, target: Features, anchor: Features, plan: EditPlan, grid: tuple[int, int]) -> Tensor:
        """E_con, (b,): whether the background stays, and the hole looks like it and unlike the object."""
        share, ipt = plan.at("share", grid), plan.at("ipt", grid)
        total = target[0].new_zeros(len(target[0]))
        for f, g in _resized(target, anchor, grid):
            alike = F.cosine_similarity(f, g, 1)
            if bool(share.any()):
                total = total + 0.5 * self.content * _h(_mean(alike, share))
            if not bool(ipt.any()):
                continue
            total = total + 0.5 * self.contrast * (_mean(alike, ipt) + 1) / 2
            if bool(share.any()):
                hole = F.cosine_similarity(_mean(f, ipt), _mean(g, share), 1)
                total = total + self.inpaint * _h((hole + 1) / 2)
        return total

    def gradient(
        self, z: Tensor, target: Features, anchor: Features, plan: EditPlan, grid: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        """G = scale (m_gen dE_edit/dz + (1 - m_gen) dE_con/dz).

        Args:
            z: what the target's features were computed from, with its graph.
            target, anchor, plan, grid: as for the energies.
        """
        gen = plan.at("gen", (z.shape[2], z.shape[3])).to(z)
        first = self.of_object(target, anchor, plan, grid).sum()
        second = self.of_rest(target, anchor, plan, grid).sum()
        made = [
            torch.autograd.grad(e, z, retain_graph=True)[0] if e.requires_grad else torch.zeros_like(z)
            for e in (first, second)
        ]
        return self.scale * (made[0] * gen + made[1] * (1 - gen))


def _h(c: Tensor) -> Tensor:
    return 1 / (1 + 4 * c.clamp(min=0)) - 4 * c.clamp(max=0)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the places of a mask: (b, *) of (b, *, i, j)."""
    weight = mask.to(values)
    return (values * weight).sum((-2, -1)) / weight.sum()


def _resized(target: Features, anchor: Features, grid: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Nearest, as in the released code; in float32, as half precision loses the gradient."""
    wide = [[f if f.dtype == torch.float64 else f.float() for f in layers] for layers in (target, anchor)]
    return [(F.interpolate(f, grid), F.interpolate(g, grid)) for f, g in zip(*wide, strict=True)]
