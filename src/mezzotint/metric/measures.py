"""Measures of a set of images against a reference, each with its card: Frechet, kernel, precision and so on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from mezzotint.metric.card import MetricCard
from mezzotint.metric.features import Features
from mezzotint.metric.frechet import frechet_error, frechet_gaussians
from mezzotint.metric.kernel import GaussianKernel, PolynomialKernel, kernel_distance, kernel_distance_subsets
from mezzotint.metric.manifold import density_coverage, precision_recall
from mezzotint.metric.result import Estimate, MetricResult

__all__ = ["MEASURES", "Density", "Frechet", "KernelDistance", "Measure", "Precision"]


@runtime_checkable
class Measure(Protocol):
    """What compares two sets of features; `keep` says whether it needs all rows or their moments alone."""

    keep: ClassVar[bool]

    def __call__(self, made: Features, real: Features) -> list[MetricResult]: ...


@dataclass(frozen=True)
class Frechet:
    """`frechet_distance`, with `frechet_error` where all rows are there and outnumber the features.

    Args:
        error: whether to estimate it; it takes a few times as long as the distance, half a minute for 2048 features.

    >>> import torch
    >>> one = Features(torch.tensor([[0.0], [2.0]]))
    >>> Frechet()(one, Features(torch.tensor([[3.0], [5.0]])))[0].value
    9.0
    """

    error: bool = True
    keep: ClassVar[bool] = False

    def __call__(self, made: Features, real: Features) -> list[MetricResult]:
        """One result."""
        a, b = made.moments, real.moments
        value = frechet_gaussians(a.mean, a.cov, b.mean, b.cov)
        error = None
        if self.error and made.rows is not None and real.rows is not None and min(made.n, real.n) > made.rows.shape[1]:
            try:
                error = frechet_error(made.rows, real.rows)
            except ValueError:  # features that are always 0 make a covariance singular
                error = None
        return [_result("frechet", made, real, Estimate(value, error))]


@dataclass(frozen=True)
class KernelDistance:
    """`kernel_distance` over all pairs; with `subsets`, the mean over that many of `size` rows, as KID is published.

    Args:
        kernel: `PolynomialKernel` or `GaussianKernel`.
        subsets: None for all pairs (no choice in it; cost grows with n^2).
        size: rows in a subset.
        seed: names the subsets.
    """

    kernel: PolynomialKernel | GaussianKernel = field(default_factory=PolynomialKernel)
    subsets: int | None = None
    size: int = 1000
    seed: int = 0
    keep: ClassVar[bool] = True

    def __call__(self, made: Features, real: Features) -> list[MetricResult]:
        """One result."""
        a, b, metric = made.all_rows(), real.all_rows(), f"kernel {self.kernel.label}"
        if self.subsets is None:
            return [_result(metric, made, real, kernel_distance(a, b, self.kernel))]
        mean, std = kernel_distance_subsets(a, b, self.kernel, subsets=self.subsets, size=self.size, seed=self.seed)
        metric = f"{metric}, {self.subsets} subsets of {self.size}"
        notes = f"seed {self.seed}; standard deviation over the subsets {std:.6g}"
        return [_result(metric, made, real, Estimate(mean), notes)]


@dataclass(frozen=True)
class Precision:
    """`precision_recall`: two results, precision and recall.

    Args:
        k: neighbours that make a ball.
    """

    k: int = 3
    keep: ClassVar[bool] = True

    def __call__(self, made: Features, real: Features) -> list[MetricResult]:
        """Precision, recall."""
        return _pair(precision_recall, made, real, self.k, "precision", "recall")


@dataclass(frozen=True)
class Density:
    """`density_coverage`: two results, density and coverage.

    Args:
        k: neighbours that make a ball.
    """

    k: int = 5
    keep: ClassVar[bool] = True

    def __call__(self, made: Features, real: Features) -> list[MetricResult]:
        """Density, coverage."""
        return _pair(density_coverage, made, real, self.k, "density", "coverage")


MEASURES: dict[str, Measure] = {
    "frechet": Frechet(),
    "kernel": KernelDistance(),
    "precision": Precision(),
    "density": Density(),
}


def _pair(
    measure: Callable[[Tensor, Tensor, int], tuple[Estimate, Estimate]], made: Features, real: Features, k: int, *names
) -> list[MetricResult]:
    both = measure(made.all_rows(), real.all_rows(), k)
    return [_result(f"{name}, k={k}", made, real, estimate) for name, estimate in zip(names, both, strict=True)]


def _result(metric: str, made: Features, real: Features, estimate: Estimate, notes: str = "") -> MetricResult:
    card = MetricCard(
        metric, made.extractor, made.extractor_hash, made.resize, n=made.n, n_reference=real.n, notes=notes
    )
    return MetricResult(estimate.value, card, estimate.error)
