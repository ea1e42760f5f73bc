"""How much a linear map can read off a representation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["linear_probe"]


def linear_probe(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    held: Float[Tensor, "m d"],
    held_labels: Int64[Tensor, " m"],
    *,
    ridge: float = 1e-2,
) -> float:
    """The share of held-out samples whose class a ridge regression names: argmax of W z, z the standardised features.

        W = argmin mean |W z - onehot(label)|^2 + ridge |W|^2,   with a free constant

    In closed form and float64, so that nothing is left to a learning rate or a seed (our choice; a logistic regression
    is the more usual probe).

    Args:
        features, labels: that the map is fitted to; labels count from 0.
        held, held_labels: that it is measured on.
        ridge: > 0, in units of a standardised feature's variance.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: for lengths that differ, or nothing to fit or measure.

    >>> x, y = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    >>> linear_probe(x, y, x, y)
    1.0
    """
    if len(features) != len(labels) or len(held) != len(held_labels) or len(features) < 2 or not len(held):
        raise ValueError(
            f"a probe got {len(features)} features with {len(labels)} labels and {len(held)} held out with "
            f"{len(held_labels)}; expected equal lengths, at least 2 to fit and 1 to measure"
        )
    if not ridge > 0:
        raise ValueError(f"a probe got ridge={ridge}; expected a number > 0")
    x, y = features.detach().double(), F.one_hot(labels).double()
    middle, spread = x.mean(0), x.std(0, correction=0)
    z = (x - middle) / spread.clamp(min=1e-12)
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(z.T @ z / len(z) + ridge * eye, z.T @ (y - y.mean(0)) / len(z))
    said = ((held.detach().double() - middle) / spread.clamp(min=1e-12)) @ weight + y.mean(0)
    return float((said.argmax(1) == held_labels.to(said.device)).double().mean())
