"""How far two masks cover one another: Dice and intersection over union."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Empty", "dice", "iou"]

Empty = Literal["one", "nan"]


def dice(a: Tensor, b: Tensor, empty: Empty = "one") -> Float[Tensor, "b"]:
    """Dice overlap of each pair of masks (float64), in [0, 1].

        2 |A and B| / (|A| + |B|)

    Args:
        a, b: (b, *s) bool, or numbers that are 0 and 1. Of several classes: `labels == k`, class by class.
        empty: value where both masks are empty: "one" (they agree) or "nan" (left out of a mean by `nanmean`).

    Raises:
        ValueError: for shapes that differ, or values other than 0 and 1.

    >>> dice(torch.tensor([[True, True, False]]), torch.tensor([[False, True, True]]))
    tensor([0.5000], dtype=torch.float64)
    """
    both, size_a, size_b = _counts("dice", a, b, empty)
    return _ratio(2 * both, size_a + size_b, empty)


def iou(a: Tensor, b: Tensor, empty: Empty = "one") -> Float[Tensor, "b"]:
    """Intersection over union of each pair of masks (float64), in [0, 1].

        |A and B| / |A or B| = dice / (2 - dice)

    Args:
        a, b, empty: as of `dice`.

    Raises:
        ValueError: as `dice`.

    >>> iou(torch.tensor([[True, True, False, False]]), torch.tensor([[False, True, False, False]]))
    tensor([0.5000], dtype=torch.float64)
    """
    both, size_a, size_b = _counts("iou", a, b, empty)
    return _ratio(both, size_a + size_b - both, empty)


def as_mask(name: str, x: Tensor) -> Tensor:
    """A mask as bool; ValueError for values other than 0 and 1."""
    if x.dtype == torch.bool:
        return x
    if not bool(((x == 0) | (x == 1)).all()):
        raise ValueError(f"{name} got values other than 0 and 1; give masks, such as x > 0 or labels == k")
    return x != 0


def _counts(name: str, a: Tensor, b: Tensor, empty: str) -> tuple[Tensor, Tensor, Tensor]:
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"{name} got shapes {tuple(a.shape)} and {tuple(b.shape)}; expected two equal batches")
    if empty not in ("one", "nan"):
        raise ValueError(f"{name} got empty={empty!r}; expected one or nan")
    a, b = as_mask(name, a).flatten(1), as_mask(name, b).flatten(1)
    return (a & b).sum(1).double(), a.sum(1).double(), b.sum(1).double()


def _ratio(part: Tensor, whole: Tensor, empty: str) -> Tensor:
    value = part / whole.clamp(min=1)
    return torch.where(whole > 0, value, torch.full_like(value, 1.0 if empty == "one" else torch.nan))
