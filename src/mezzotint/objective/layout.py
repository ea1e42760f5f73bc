"""What a layout predictor is trained by: where objects are, and that stated relations hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.nn.layout_predictor import CentreMixture

__all__ = ["RELATIONS", "layout_loss", "relation_hinge"]

RELATIONS = ("above", "below", "left of", "right of")
_ENOUGH = -0.2  # beyond this the hinge is satisfied


def relation_hinge(
    first: Float[Tensor, "*b k 2"], second: Float[Tensor, "*b k 2"], relation: str
) -> Float[Tensor, "*b"]:
    """max(max_k y1_k - min_k y2_k, -0.2) for "the first is above the second": the worst pair of components counts.

    y points down; below, left of and right of in the same way.

    Args:
        first, second: the means of the mixtures' components, (x, y) in shares of width and height.
        relation: one of `RELATIONS`.

    Raises:
        ValueError: for another relation.

    Source: arXiv 2304.03869, sheet section 3.4.

    >>> high, low = torch.tensor([[0.5, 0.2]]), torch.tensor([[0.5, 0.5]])
    >>> [round(float(relation_hinge(high, low, name)), 3) for name in ("above", "below")]
    [-0.2, 0.3]
    """
    if relation not in RELATIONS:
        raise ValueError(f"unknown relation {relation!r}; expected one of {', '.join(RELATIONS)}")
    axis = 1 if relation in ("above", "below") else 0
    near, far = (first, second) if relation in ("above", "left of") else (second, first)
    return (near[..., axis].amax(-1) - far[..., axis].amin(-1)).clamp_min(_ENOUGH)


def layout_loss(
    mixture: CentreMixture,
    centres: Float[Tensor, "b k 2"],
    relations: Sequence[tuple[int, str, int] | None],
    weight: float = 0.1,
) -> Float[Tensor, ""]:
    """Mean of the hinge of each stated relation + weight * mean of -log p(centre) over the objects.

    Args:
        mixture: of each caption's objects, (b, k).
        centres: where they are.
        relations: of each caption (i, relation, j), object i in relation to object j; None where none is stated.
        weight: of the likelihood; the paper's is 0.1.

    Raises:
        ValueError: for another number of relations, or one of an object that there is not.

    Source: arXiv 2304.03869, sheet section 3.4.

    >>> at = torch.tensor([[[0.5, 0.2], [0.5, 0.8]]])
    >>> sure = CentreMixture(torch.zeros(1, 2, 1), at[:, :, None], torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1))
    >>> round(float(layout_loss(sure, at, [(0, "above", 1)])), 4)                        # -0.2 + 0.1 log(2 pi)
    -0.0162
    """
    b, k = centres.shape[:2]
    if len(relations) != b:
        raise ValueError(f"{len(relations)} relations for {b} captions; give one a caption, None where none is stated")
    total = -weight * mixture.log_prob(centres).mean()
    hinges = []
    for name in RELATIONS:  # a few groups, not one kernel a caption
        rows = [(i, rel[0], rel[2]) for i, rel in enumerate(relations) if rel is not None and rel[1] == name]
        if not rows:
            continue
        i, one, two = torch.tensor(rows, device=centres.device).unbind(1)
        if int(torch.maximum(one, two).max()) >= k or int(torch.minimum(one, two).min()) < 0:
            raise ValueError(f"a relation names an object beyond the {k} of its caption; count them from 0")
        hinges.append(relation_hinge(mixture.means[i, one], mixture.means[i, two], name))
    unknown = {rel[1] for rel in relations if rel is not None} - set(RELATIONS)
    if unknown:
        raise ValueError(f"unknown relations {sorted(unknown)}; expected {', '.join(RELATIONS)}")
    return total + torch.cat(hinges).mean() if hinges else total
