"""Precision, recall, density and coverage: which samples lie in the balls around those of the other set."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.features import check_pair, worked
from mezzotint.metric.result import Estimate, mean_of

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]

_ENTRIES = 1 << 22  # of a block of distances, 32 MiB in float64


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of the made samples that look real, of the real ones that could have been made."""

    precision: Estimate
    recall: Estimate


class DensityCoverage(NamedTuple):
    """Density: how many real balls a made sample lies in, over k (1 is expected for equal distributions; may be above
    1). Coverage: the share of real samples with a made one in their ball."""

    density: Estimate
    coverage: Estimate


def precision_recall(made: Float[Tensor, "n d"], real: Float[Tensor, "m d"], k: int = 3) -> PrecisionRecall:
    """Improved precision and recall.

        precision = mean_i 1[made_i in some B(real_j, r_k(real_j))],   recall = mean_j 1[real_j in some B(made_i, ...)]

    r_k is the distance to the k-th neighbour within the own set; a point on a ball's edge is inside. Distances are
    made in blocks. The errors are binomial, given the balls.

    Args:
        made, real: features, one vector a row; worked in float64. Compare at equal numbers: both depend on n.
        k: neighbours that make a ball.

    Raises:
        ValueError: for a k below 1, sets of k rows or fewer, different lengths, or values that are not finite.

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2.

    >>> line = torch.arange(8.0)[:, None]
    >>> precision_recall(line + 100, line).precision.value, precision_recall(line[:4], line).recall.value
    (0.0, 0.875)
    """
    counts, _, caught = _inside(made, real, k)
    return PrecisionRecall(_share(counts > 0), _share(caught))


def density_coverage(made: Float[Tensor, "n d"], real: Float[Tensor, "m d"], k: int = 5) -> DensityCoverage:
    """Density and coverage, which use the balls around real samples only and so suffer less from outliers.

        density = 1/(k n) sum_ij 1[made_i in B(real_j, r_k(real_j))],   coverage = mean_j 1[some made_i is in it]

    Args:
        made, real: as for `precision_recall`.
        k: neighbours that make a ball; 5 in the paper.

    Raises:
        ValueError: as `precision_recall`.

    Source: Naeem et al. 2020 (arXiv 2002.09797), equations 4 and 5.
    """
    counts, covered, _ = _inside(made, real, k)
    return DensityCoverage(mean_of(counts / k), _share(covered))


def _inside(made: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) real balls that hold made_i; (m,) whether real_j's ball holds any; (m,) whether real_j is in a made ball."""
    if k < 1:
        raise ValueError(f"k={k}; expected a number of neighbours of at least 1")
    check_pair(made, real, k + 1)
    a, b = worked(made), worked(real).to(made.device)
    centre = b.mean(0)  # shorter vectors, so less cancels in the distances
    a, b = a - centre, b - centre
    # a margin above rounding, so that ties and copies are inside whatever order the sums were made in
    margin = 1e-12 * torch.maximum(a.square().sum(1).max(), b.square().sum(1).max())
    ball_a, ball_b = _radii(a, k) + margin, _radii(b, k) + margin
    counts, covered, caught = [], torch.zeros(len(b), dtype=torch.bool, device=b.device), None
    for start, part in _parts(a, len(b)):
        squared = _squared(part, b)
        hit = squared <= ball_b
        counts.append(hit.sum(1))
        covered |= hit.any(0)
        reached = (squared <= ball_a[start : start + len(part), None]).any(0)
        caught = reached if caught is None else caught | reached
    assert caught is not None
    return torch.cat(counts).double(), covered, caught


def _radii(rows: Tensor, k: int) -> Tensor:
    """Squared distance of each row to its k-th neighbour."""
    out = []
    for start, part in _parts(rows, len(rows)):
        squared = _squared(part, rows)
        own = torch.arange(len(part), device=rows.device)
        squared[own, start + own] = 0  # itself, the nearest of all
        out.append(squared.kthvalue(k + 1, dim=1).values)
    return torch.cat(out)


def _parts(rows: Tensor, width: int) -> list[tuple[int, Tensor]]:
    size = max(1, _ENTRIES // width)
    return [(start, rows[start : start + size]) for start in range(0, len(rows), size)]


def _squared(a: Tensor, b: Tensor) -> Tensor:
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.T, alpha=-2).clamp_(min=0)


def _share(hits: Tensor) -> Estimate:
    p = float(hits.double().mean())
    return Estimate(p, math.sqrt(p * (1 - p) / len(hits)))
