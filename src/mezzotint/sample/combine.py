"""A weighted sum of tensors with weights that are Python floats: one kernel a term, nothing for a zero weight."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["combine"]


def combine(*terms: tuple[float, Tensor]) -> Tensor:
    """sum_i w_i x_i.

    Terms of weight 0 are left out, so that a last step to sigma = 0 returns the data prediction itself: the result
    may be one of the arguments and must not be changed in place.

    >>> combine((2.0, torch.ones(2)), (0.0, torch.full((2,), torch.nan)), (-1.0, torch.ones(2)))
    tensor([1., 1.])
    """
    kept = [(w, x) for w, x in terms if w != 0.0]
    if not kept:
        return torch.zeros_like(terms[0][1])
    (weight, first), *rest = kept
    if not rest:
        return first if weight == 1.0 else torch.mul(first, weight)
    total = torch.mul(first, weight)
    for weight, x in rest:
        total = total.add_(x, alpha=weight)
    return total
