"""Training a layout predictor on captions whose objects' centres are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.data.order import indices
from mezzotint.nn.layout_predictor import LayoutPredictor
from mezzotint.objective.layout import RELATIONS, layout_loss

__all__ = ["LayoutExample", "fit_layout"]


@dataclass(frozen=True)
class LayoutExample:
    """A caption and where its objects are.

    Args:
        caption: the whole.
        objects: phrases of it.
        centres: (x, y) of each, shares of width and height, y down.
        relation: (i, relation, j) where the caption states one.
    """

    caption: str
    objects: tuple[str, ...]
    centres: tuple[tuple[float, float], ...]
    relation: tuple[int, str, int] | None = None


def fit_layout(
    predictor: LayoutPredictor,
    examples: Sequence[LayoutExample],
    *,
    epochs: int = 3,
    batch: int = 64,
    lr: float = 3e-4,
    seed: int = 0,
) -> LayoutPredictor:
    """Train a predictor: AdamW (weight decay 0.01) on `layout_loss`.

    Args:
        predictor: trained in place.
        examples: as many objects in each.
        epochs, batch, lr: of the sheet's small version (the paper's: 100 epochs, 4e-5 for the head, 1e-6 for RoBERTa).
        seed: of the order.

    Returns:
        The predictor in eval mode.

    Raises:
        ValueError: before any step, for no examples, unequal numbers of objects, a caption that the predictor cannot
            read, centres outside the image, a relation that is none, or epochs or a batch below 1.

    Source: arXiv 2304.03869, sheet sections 3.4 and 7.
    """
    if not examples:
        raise ValueError("no examples to train on; give captions with their objects' centres")
    tokens, mask, places = predictor.prepare([e.caption for e in examples], [e.objects for e in examples])
    if any(len(e.centres) != len(e.objects) for e in examples):
        raise ValueError("an example has another number of centres than objects; give one centre an object")
    if epochs < 1 or batch < 1:
        raise ValueError(f"epochs={epochs}, batch={batch}; expected at least 1 of each")
    for e in examples:  # here, as later the predictor is half trained
        if not all(0 <= v <= 1 for centre in e.centres for v in centre):
            raise ValueError(
                f"{e.caption!r} has its objects at {e.centres}; expected shares of width and height, 0 to 1"
            )
        if e.relation is None:
            continue
        one, name, two = e.relation
        if name not in RELATIONS or not (0 <= one < len(e.objects) and 0 <= two < len(e.objects)):
            raise ValueError(
                f"{e.caption!r} has the relation {e.relation}; expected (i, name, j) of its objects, with a name of "
                f"{', '.join(RELATIONS)}"
            )
    centres = torch.tensor([e.centres for e in examples])
    device = predictor.mark.device
    optimiser = torch.optim.AdamW(predictor.parameters(), lr=lr, weight_decay=0.01)
    predictor.train()
    for step in range(epochs * max(1, len(examples) // batch)):
        rows = indices(seed, step, batch, len(examples))
        part: tuple[Tensor, ...] = tuple(x[rows].to(device) for x in (tokens, mask, places, centres))
        loss = layout_loss(predictor(*part[:3]), part[3], [examples[i].relation for i in rows.tolist()])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return predictor.eval()
