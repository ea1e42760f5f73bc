"""Leak-proof self-attention: what fills the vacated region does not look at the object, nor at what is like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.edit.pixelman_plan import EditPlan
from mezzotint.nn.site import Call, Handler

__all__ = ["Blocked", "LeakProof", "Similar"]

Blocked = Literal["gen|sim|gud", "gen|sim", "none"]

_HIDDEN = -1e4  # exp of it is 0 in float32, and it overflows nothing in half precision
_SIMILAR = 0.1


class LeakProof(Handler):
    """logits[q, k] -= 10^4 for queries q in m_ipt and keys k in m_gen, m_sim and m_gud.

    Masks are brought to each layer's grid of tokens. Where m_sim would hide every key of a layer it is left out there
    (our choice).

    Args:
        plan: with the masks.
        blocked: which keys; "gen|sim|gud" are the paper's, "gen|sim" the released code's.
        similar: m_sim, (b, h, w), on any grid.

    Raises:
        ValueError: at the call, where the object's own places are every key of a layer.

    Source: arXiv 2412.14283, section 3.4 of the sheet.
    """

    explicit = True

    def __init__(self, plan: EditPlan, blocked: Blocked, similar: Bool[Tensor, "b h w"]) -> None:
        self.plan, self.blocked, self.similar = plan, blocked, similar
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # a layer on whose grid nothing is vacated stays fused
        self.explicit = not call.cross and call.grid is not None and bool(self.plan.at("ipt", call.grid).any())
        return q, k, v

    def logits(self, call: Call, logits: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads n m"]:
        hole, keys = self._masks(call)
        keys = keys.to(logits.device)
        rows = logits.shape[0] // len(keys)  # guided, the batch holds each sample twice
        both = hole.to(logits.device)[None, None, :, None] & keys.repeat(rows, 1)[:, None, None, :]
        return torch.where(both, logits + _HIDDEN, logits)

    def _masks(self, call: Call) -> tuple[Tensor, Tensor]:
        """Queries (n,) and keys (b, n) of a grid."""
        grid = call.grid
        assert grid is not None
        if grid not in self._known:
            hole = self.plan.at("ipt", grid).flatten()
            fixed = self.plan.at("gen", grid)
            if self.blocked == "gen|sim|gud":
                fixed = fixed | self.plan.at("gud", grid)
            fixed = fixed.flatten()
            if bool(fixed.all()):
                raise ValueError(
                    f"at {call.site!r}, of {grid[0]} x {grid[1]} tokens, the object covers every key: nothing is left "
                    "to fill the hole from; take a smaller mask, a larger picture, or leak_proof='none'"
                )
            similar = F.adaptive_avg_pool2d(self.similar[:, None].float(), grid).flatten(1) >= 0.5
            fixed = fixed.to(similar.device)
            keys = fixed | similar
            self._known[grid] = hole, torch.where(keys.all(1, keepdim=True), fixed, keys)
        return self._known[grid]


class Similar(Handler):
    """m_sim: the places that the object's queries look at, in the last layers of the decoder.

    The maps of the layers, averaged over heads, queries in m_gen and layers, each brought to a grid of a quarter of the
    latent, are scaled from their least to their largest; what is at least 0.1 is like the object. A map that is
    constant has no such place.

    Args:
        plan: with the masks.
        size: (height, width) of the latent.
        samples: b, of the evaluation.

    Source: arXiv 2412.14283, section 3.4 of the sheet; resizing by areas is our choice.
    """

    explicit = True

    def __init__(self, plan: EditPlan, size: tuple[int, int], samples: int) -> None:
        self.plan, self.samples = plan, samples
        self.grid = (max(1, size[0] // 4), max(1, size[1] // 4))
        self.seen: list[Tensor] = []

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.explicit = not call.cross and call.grid is not None and bool(self.plan.at("gen", call.grid).any())
        return q, k, v

    def maps(self, call: Call, maps: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads n m"]:
        assert call.grid is not None
        rows = self.plan.at("gen", call.grid).flatten().to(maps)
        looked = torch.einsum("bhnm,n->bm", maps, rows / rows.sum()) / maps.shape[1]
        looked = looked.view(-1, self.samples, *call.grid).mean(0)  # guided, the batch holds each sample twice
        self.seen.append(F.adaptive_avg_pool2d(looked[:, None], self.grid)[:, 0])
        return maps

    def mask(self) -> Bool[Tensor, "b i j"] | None:
        """What was found; None where no layer showed the object."""
        return similar_of(self.seen) if self.seen else None


def similar_of(seen: Sequence[Float[Tensor, "b i j"]]) -> Bool[Tensor, "b i j"]:
    """(mean - least) / (largest - least) >= 0.1, and nothing of a constant map.

    >>> similar_of([torch.tensor([[[0.0, 0.05, 1.0]]]), torch.tensor([[[0.0, 0.05, 1.0]]])]).tolist()
    [[[False, False, True]]]
    """
    mean = torch.stack(list(seen)).mean(0)
    low, high = mean.amin((1, 2), keepdim=True), mean.amax((1, 2), keepdim=True)
    span = high - low
    return (mean - low >= _SIMILAR * span) & (span > 1e-7 * high)
