"""A weighted sum of tensors, the weights Python floats: at most one kernel a term, nothing for a zero weight."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["combine"]

_ONE = 2.0**-50  # weights that are made to sum to 1 do so to a few roundings
_FAR = 8.0  # an interpolation no further outside than this loses nothing; beyond it terms are added one by one


def combine(*terms: tuple[float, Tensor]) -> Tensor:
    """sum_i w_i x_i.

    Where the weights sum to 1 (every step on Flow and VE schedules) the sum is a chain of interpolations, which is
    one kernel less. Terms of weight 0 are left out, so that a last step to sigma = 0 returns the data prediction
    itself: the result may be one of the arguments and must not be changed in place.

    >>> combine((2.0, torch.ones(2)), (0.0, torch.full((2,), torch.nan)), (-1.0, torch.ones(2)))
    tensor([1., 1.])
    """
    kept = [term for term in terms if term[0] != 0.0]
    if len(kept) < 2:
        if not kept:
            return torch.zeros_like(terms[0][1])
        weight, only = kept[0]
        return only if weight == 1.0 else torch.mul(only, weight)
    shares = _shares(tuple([weight for weight, _ in kept]))
    if shares is not None:
        # from the last term to the first: the mean of what was seen moves towards each next one
        mean = torch.lerp(kept[-1][1], kept[-2][1], shares[0])
        for share, (_, x) in zip(shares[1:], kept[-3::-1]):
            mean = mean.lerp_(x, share)
        return mean
    weight, first = kept[0]
    total = torch.mul(first, weight)
    for weight, x in kept[1:]:
        total = total.add_(x, alpha=weight)
    return total


@lru_cache(maxsize=4096)  # the weights are those of a plan's rows
def _shares(weights: tuple[float, ...]) -> tuple[float, ...] | None:
    """How far each interpolation goes: with W the weights so far, a <- a + w/(W + w) (x - a).

    None unless the weights sum to 1, or if one of the interpolations would leave its ends far behind.
    """
    if abs(sum(weights) - 1.0) >= _ONE:
        return None
    so_far, shares = weights[-1], []
    for weight in weights[-2::-1]:
        so_far += weight
        if abs(weight) > _FAR * abs(so_far):
            return None
        shares.append(weight / so_far)
    return tuple(shares)
