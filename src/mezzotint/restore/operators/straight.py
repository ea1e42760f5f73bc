"""Rounding that lets gradients pass."""

from __future__ import annotations

from torch import Tensor

__all__ = ["straight_round"]


def straight_round(x: Tensor) -> Tensor:
    """round(x) with the gradient of x (straight-through, Bengio et al. 2013, arXiv 1308.3432).

    >>> import torch
    >>> x = torch.tensor(1.7, requires_grad=True)
    >>> straight_round(x).backward(); x.grad.item()
    1.0
    """
    return x.round().detach() + (x - x.detach())  # exactly round(x): the second term is 0
