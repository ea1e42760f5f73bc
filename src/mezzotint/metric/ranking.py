"""How well a score ranks what it looks for above the rest: areas under curves, and the best Dice of any threshold."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mezzotint.metric.overlap import as_mask

__all__ = ["BestDice", "auprc", "auroc", "best_possible_dice"]


class BestDice(NamedTuple):
    """The greatest Dice over all thresholds, and the least score that counts as found. Chosen with the truth in hand:
    an upper bound, not what a user would get."""

    value: float
    threshold: float


def auroc(score: Tensor, truth: Tensor) -> float:
    """Area under the receiver operating curve: how often a positive outranks a negative, ties counting half.

        (sum of the positives' ranks - P (P + 1) / 2) / (P N)

    Args:
        score: any shape, higher for what is looked for.
        truth: of that shape, bool or 0 and 1.

    Raises:
        ValueError: for shapes that differ, a score with NaN, or a truth of one kind only.

    >>> auroc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
    0.75
    """
    s, t = _checked("auroc", score, truth)
    positives = int(t.sum())
    rank_sum = float(average_ranks(s)[t].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * (len(t) - positives))


def auprc(score: Tensor, truth: Tensor) -> float:
    """Area under the precision-recall curve as average precision; a random score has the prevalence.

        sum_n (recall_n - recall_{n-1}) precision_n   over the distinct scores, from high to low

    Args:
        score, truth: as of `auroc`.

    Raises:
        ValueError: as `auroc`.

    >>> round(auprc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])), 6)
    0.833333
    """
    _, found, taken, positives = _curve("auprc", score, truth)
    recall = found / positives
    steps = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((steps * found / taken).sum())


def best_possible_dice(score: Tensor, truth: Tensor) -> BestDice:
    """The greatest Dice of {score >= threshold} with the truth, over all thresholds.

        max_n 2 found_n / (taken_n + P)

    Args:
        score, truth: as of `auroc`.

    Raises:
        ValueError: as `auroc`.

    >>> value, threshold = best_possible_dice(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
    >>> round(value, 6), round(threshold, 6)
    (0.8, 0.35)
    """
    levels, found, taken, positives = _curve("best_possible_dice", score, truth)
    values = 2 * found / (taken + positives)
    best = int(values.argmax())
    return BestDice(float(values[best]), float(levels[best]))


def average_ranks(x: Tensor) -> Tensor:
    """Ranks 1 to n of a row (float64); equal values share the mean of theirs."""
    _, where, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[where]


def _curve(name: str, score: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """The distinct scores from high to low; positives and all that are at or above each; positives in all."""
    s, t = _checked(name, score, truth)
    levels, where, counts = torch.unique(s, return_inverse=True, return_counts=True)
    hits = torch.zeros(len(levels), dtype=torch.float64, device=s.device).index_add_(0, where, t.double())
    return levels.flip(0), hits.flip(0).cumsum(0), counts.flip(0).cumsum(0).double(), int(t.sum())


def _checked(name: str, score: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if score.shape != truth.shape:
        raise ValueError(f"{name} got {tuple(score.shape)} and {tuple(truth.shape)}; expected equal shapes")
    s, t = score.detach().double().flatten(), as_mask(name, truth).flatten()
    if bool(torch.isnan(s).any()):
        raise ValueError(f"{name} got a score with NaN")
    if not 0 < int(t.sum()) < len(t):
        raise ValueError(f"{name} needs positives and negatives; this truth has {int(t.sum())} of {len(t)}")
    return s, t
