"""Generalised energy distance: whether a set of sampled masks varies as the annotators do."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.overlap import as_mask

__all__ = ["best_match_dice", "ged"]


def ged(samples: Tensor, annotations: Tensor) -> Float[Tensor, "b"]:
    """Squared generalised energy distance between sampled and annotated masks (float64), >= 0; 0 for equal sets.

        GED^2 = 2 E d(S, Y) - E d(S, S') - E d(Y, Y'),   d = 1 - IoU

    Expectations are means over all pairs, those of a mask with itself among them, so that it is the distance of the
    two sets as they are; two empty masks have IoU 1.

    Args:
        samples: (b, n, *s) masks, n of each case.
        annotations: (b, m, *s), m annotators.

    Raises:
        ValueError: for shapes that do not fit, or values other than 0 and 1.

    Source: Kohl et al. 2018 (1806.05034), section 3.

    >>> a, b = torch.tensor([[[True, True, False]]]), torch.tensor([[[True, False, False]]])
    >>> ged(a, b), ged(a, a)
    (tensor([1.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    s, y = _rows("ged", samples, annotations)
    cross, own, theirs = (_distances(*pair).mean((1, 2)) for pair in ((s, y), (s, s), (y, y)))
    return (2 * cross - own - theirs).clamp(min=0)


def best_match_dice(samples: Tensor, annotations: Tensor) -> Float[Tensor, "b"]:
    """Mean over annotators of the best Dice any sample reaches: how much of their variety is covered (float64).

        mean_y max_s Dice(s, y)

    Args:
        samples, annotations: as of `ged`.

    >>> a, b = torch.tensor([[[True, True]]]), torch.tensor([[[True, True], [False, True]]])
    >>> best_match_dice(b, a)
    tensor([1.], dtype=torch.float64)
    """
    s, y = _rows("best_match_dice", samples, annotations)
    overlap = 1 - _distances(s, y)
    return (2 * overlap / (1 + overlap)).amax(1).mean(1)


def _rows(name: str, samples: Tensor, annotations: Tensor) -> tuple[Tensor, Tensor]:
    a, b = samples.shape, annotations.shape
    if len(a) < 3 or len(a) != len(b) or a[0] != b[0] or a[2:] != b[2:] or 0 in (a[1], b[1]):
        raise ValueError(
            f"{name} got {tuple(a)} and {tuple(b)}; expected (b, n, *s) and (b, m, *s), n and m at least 1"
        )
    return as_mask(name, samples).flatten(2).double(), as_mask(name, annotations).flatten(2).double()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """1 - IoU of all pairs, (b, n, m)."""
    both = a @ b.mT
    union = a.sum(2)[:, :, None] + b.sum(2)[:, None] - both
    return torch.where(union > 0, 1 - both / union.clamp(min=1), torch.zeros_like(union))
