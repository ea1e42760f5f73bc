"""Kernel distance: the unbiased squared maximum mean discrepancy of two sets of features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.noise import fold
from mezzotint.metric.features import check_pair, worked
from mezzotint.metric.result import Estimate, spread

__all__ = ["GaussianKernel", "PolynomialKernel", "kernel_distance", "kernel_distance_subsets"]

_ENTRIES = 1 << 22  # of a block of the kernel matrix, 32 MiB in float64

Kernel = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (scale x.y + offset)^degree; scale None is 1/d. The defaults are KID's (arXiv 1801.01401, section 4).

    >>> PolynomialKernel()(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    8.0
    """

    degree: int = 3
    scale: float | None = None
    offset: float = 1.0

    @property
    def label(self) -> str:
        """For the card."""
        scale = "1/d" if self.scale is None else f"{self.scale:g}"
        return f"({scale} x.y + {self.offset:g})^{self.degree}"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The matrix of all pairs, (n, m)."""
        scale = 1 / a.shape[1] if self.scale is None else self.scale
        return (a @ b.T * scale + self.offset) ** self.degree


@dataclass(frozen=True)
class GaussianKernel:
    """k(x, y) = exp(-|x - y|^2 / (2 width^2)); width 10 on unit CLIP features is CMMD's (arXiv 2401.09603, section 4).

    Raises:
        ValueError: for a width that is not positive.
    """

    width: float = 10.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"GaussianKernel got width={self.width}; expected a positive number")

    @property
    def label(self) -> str:
        """For the card."""
        return f"exp(-|x - y|^2 / (2 {self.width:g}^2))"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The matrix of all pairs, (n, m)."""
        squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        return torch.exp(squared.clamp(min=0) / (-2 * self.width**2))


def kernel_distance(
    features_a: Float[Tensor, "n d"], features_b: Float[Tensor, "m d"], kernel: Kernel = PolynomialKernel()
) -> Estimate:
    """Unbiased squared MMD over all pairs, with its jackknife error; may be below 0.

        sum_{i != j} k(a_i, a_j) / (n (n - 1)) + sum_{i != j} k(b_i, b_j) / (m (m - 1)) - 2 mean_{ij} k(a_i, b_j)

    The leave-one-out values follow from the row sums of the kernel matrices, which are made in blocks: O((n + m)^2 d)
    time and little memory. Unlike the Frechet distance it is unbiased, so it can be read at a few hundred samples.

    Args:
        features_a, features_b: one feature vector a row; worked in float64.
        kernel: (n, d), (m, d) -> (n, m), symmetric.

    Returns:
        Value and standard error (None below three rows a set).

    Raises:
        ValueError: for fewer than two rows, different lengths of feature, or values that are not finite.

    Source: Gretton et al. 2012 (JMLR 13), equation 3; Binkowski et al. 2018 (arXiv 1801.01401), section 3.

    >>> kernel_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]), GaussianKernel(1.0)).value
    0.786938...
    """
    check_pair(features_a, features_b, 2, ("features_a", "features_b"))
    a, b = worked(features_a), worked(features_b).to(features_a.device)
    own_a, own_b = _row_sums(a, a, kernel)[0] - _diagonal(a, kernel), _row_sums(b, b, kernel)[0] - _diagonal(b, kernel)
    cross_a, cross_b = _row_sums(a, b, kernel)
    n, m = len(a), len(b)
    total = cross_a.sum()
    value = _value(own_a.sum(), n, own_b.sum(), m, total)
    if min(n, m) < 3:
        return Estimate(float(value))
    without_a = _value(own_a.sum() - 2 * own_a, n - 1, own_b.sum(), m, total - cross_a)
    without_b = _value(own_a.sum(), n, own_b.sum() - 2 * own_b, m - 1, total - cross_b)
    return Estimate(float(value), math.sqrt(spread(without_a) + spread(without_b)))


def kernel_distance_subsets(
    features_a: Float[Tensor, "n d"],
    features_b: Float[Tensor, "m d"],
    kernel: Kernel = PolynomialKernel(),
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Mean of `kernel_distance` over random subsets, and its standard deviation over them: the form of published KIDs.

    The subsets are functions of the seed. Their standard deviation is what KIDs are quoted with; it is that of one
    subset of `size`, not the error of the mean (`kernel_distance` has one).

    Args:
        features_a, features_b, kernel: as there.
        subsets: how many.
        size: rows of each set in a subset, drawn without repetition.
        seed: names the subsets.

    Raises:
        ValueError: as there, or for a size outside 2 to the smaller set, or no subset.
    """
    check_pair(features_a, features_b, 2, ("features_a", "features_b"))
    least = min(len(features_a), len(features_b))
    if subsets < 1 or not 2 <= size <= least:
        raise ValueError(f"subsets={subsets} of size={size}; expected 1 or more, of 2 to {least} rows")
    values = []
    for index in range(subsets):
        generator = torch.Generator().manual_seed(fold(seed, "kernel-subset", index))
        rows = [torch.randperm(len(f), generator=generator)[:size].to(f.device) for f in (features_a, features_b)]
        values.append(_plain(worked(features_a[rows[0]]), worked(features_b[rows[1]]), kernel))
    drawn = torch.tensor(values, dtype=torch.float64)
    return Estimate(float(drawn.mean()), float(drawn.std(correction=0)))


def _plain(a: Tensor, b: Tensor, kernel: Kernel) -> float:
    own = [_row_sums(x, x, kernel)[0].sum() - _diagonal(x, kernel).sum() for x in (a, b)]
    return float(_value(own[0], len(a), own[1], len(b), _row_sums(a, b, kernel)[0].sum()))


def _value(own_a: Tensor, n: int, own_b: Tensor, m: int, cross: Tensor) -> Tensor:
    return own_a / (n * (n - 1)) + own_b / (m * (m - 1)) - 2 * cross / (n * m)


def _row_sums(a: Tensor, b: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Sums of k(a_i, b_j) over j, and over i."""
    rows, columns = [], a.new_zeros(len(b))
    for part in a.split(max(1, _ENTRIES // len(b))):
        block = kernel(part, b)
        rows.append(block.sum(1))
        columns += block.sum(0)
    return torch.cat(rows), columns


def _diagonal(a: Tensor, kernel: Kernel) -> Tensor:
    """k(a_i, a_i), from small blocks."""
    return torch.cat([kernel(part, part).diagonal() for part in a.split(64)])
