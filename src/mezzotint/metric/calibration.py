"""Whether stated uncertainty is true: calibration of probabilities, coverage of intervals, spread against error."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.overlap import as_mask
from mezzotint.metric.ranking import average_ranks

__all__ = ["calibration_error", "coverage", "spread_correlation"]


def calibration_error(probability: Tensor, truth: Tensor, bins: int = 15) -> float:
    """Expected calibration error of probabilities of a yes-or-no outcome, in [0, 1]; 0 where what is given 30 % comes
    true in 30 %.

        ECE = sum_k |B_k| / n |mean(truth in B_k) - mean(probability in B_k)|,   bins of equal width

    Args:
        probability: in [0, 1], any shape: each voxel is one case.
        truth: of that shape, bool or 0 and 1.
        bins: how many.

    Raises:
        ValueError: for shapes that differ, nothing inside, probabilities outside [0, 1], or no bin.

    >>> calibration_error(torch.tensor([0.25, 0.25, 0.25, 0.25]), torch.tensor([1, 0, 0, 0]))
    0.0
    """
    if probability.shape != truth.shape or probability.numel() == 0 or bins < 1:
        raise ValueError(
            f"calibration_error got {tuple(probability.shape)} and {tuple(truth.shape)}, {bins} bins; expected equal "
            "shapes with something inside, and a bin or more"
        )
    p = probability.detach().double().flatten()
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("calibration_error got probabilities outside [0, 1] or NaN; give a sigmoid's or an ensemble's")
    t = as_mask("calibration_error", truth).flatten().double()
    place = (p * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=p.device).index_add_(0, place, t - p)
    return float(gap.abs().sum() / len(p))


def coverage(low: Tensor, high: Tensor, truth: Tensor) -> Float[Tensor, "b"]:
    """Share of each sample's values that lie in their interval, (b,) float64: 0.9 for calibrated 90 % intervals.

    Args:
        low, high, truth: (b, *s).

    Raises:
        ValueError: for shapes that differ, or low above high.

    >>> coverage(torch.zeros(1, 4), torch.ones(1, 4), torch.tensor([[0.5, 1.0, 2.0, -1.0]]))
    tensor([0.5000], dtype=torch.float64)
    """
    if not low.shape == high.shape == truth.shape or low.ndim < 2:
        raise ValueError(f"coverage got {tuple(low.shape)}, {tuple(high.shape)}, {tuple(truth.shape)}; expected equal")
    if bool((low > high).any()):
        raise ValueError("coverage got an interval whose low is above its high")
    return ((low <= truth) & (truth <= high)).flatten(1).double().mean(1)


def spread_correlation(
    spread: Tensor, error: Tensor, kind: Literal["spearman", "pearson"] = "spearman"
) -> Float[Tensor, "b"]:
    """Correlation of each sample's spread map with its |error| map, (b,) float64 in [-1, 1]; NaN if either is constant.

    Args:
        spread: standard deviation over posterior samples, (b, *s).
        error: restoration minus truth, (b, *s); its sign does not matter.
        kind: "spearman", of ranks (equal values share the mean of theirs), or "pearson".

    Raises:
        ValueError: for shapes that differ or another kind.

    >>> spread_correlation(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.1, -0.2, 9.0]])).round(decimals=6)
    tensor([1.], dtype=torch.float64)
    """
    if spread.shape != error.shape or spread.ndim < 2:
        raise ValueError(
            f"spread_correlation got {tuple(spread.shape)} and {tuple(error.shape)}; expected equal batches"
        )
    if kind not in ("spearman", "pearson"):
        raise ValueError(f"spread_correlation got kind={kind!r}; expected spearman or pearson")
    a, b = spread.double().flatten(1), error.double().abs().flatten(1)
    if kind == "spearman":
        a, b = (torch.stack([average_ranks(row) for row in x]) for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    size = a.square().sum(1).sqrt() * b.square().sum(1).sqrt()
    return torch.where(size > 0, (a * b).sum(1) / size, torch.full_like(size, torch.nan)).clamp(-1, 1)
