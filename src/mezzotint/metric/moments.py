"""Mean and covariance of features that come in batches, in float64."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mezzotint.metric.result import finite

__all__ = ["Moments"]


class Moments:
    """Count, mean and scatter of rows seen so far: what a Frechet distance needs of a set that is too large to keep.

        mean <- mean + d n_b / (n + n_b),   M <- M + M_b + d d^T n n_b / (n + n_b),   d = mean_b - mean

    Each batch is centred on its own mean before it is added, so nothing cancels. Two processes' moments are merged by
    the same formula.

    Args:
        features: the first batch, if there is one already.

    Source: Chan, Golub, LeVeque 1983 (The American Statistician 37), equation 2.1.

    >>> import torch
    >>> moments = Moments(torch.tensor([[0.0], [2.0]]))
    >>> moments.update(torch.tensor([[4.0]])).cov.item()
    4.0
    """

    def __init__(self, features: Tensor | None = None) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None
        if features is not None:
            self.update(features)

    @classmethod
    def of(cls, mean: Float[Tensor, "d"], cov: Float[Tensor, "d d"], count: int) -> Moments:
        """Moments that someone else took, such as the mu and sigma of a published reference set of `count` images.

        Raises:
            ValueError: for shapes that do not fit, a count below 2, or values that are not finite.
        """
        if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or count < 2:
            raise ValueError(f"moments of {count} rows with shapes {tuple(mean.shape)} and {tuple(cov.shape)}; "
                             "expected at least two rows, (d,) and (d, d)")  # fmt: skip
        mean, cov = (finite("moments", value.detach()).cpu().double() for value in (mean, cov))
        return cls()._add(count, mean, cov * (count - 1))

    def update(self, features: Float[Tensor, "n d"]) -> Moments:
        """Add rows; returns itself.

        Raises:
            ValueError: for no rows, another number of features than before, or values that are not finite.
        """
        if features.ndim != 2 or len(features) == 0:
            raise ValueError(f"Moments got features of shape {tuple(features.shape)}; expected (n, d) with rows")
        rows = finite("features", features.detach()).cpu().double()
        mean = rows.mean(0)
        centred = rows - mean
        return self._add(len(rows), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Add what another has seen; returns itself."""
        if other._mean is None or other._scatter is None:
            return self
        return self._add(other.count, other._mean, other._scatter)

    @property
    def mean(self) -> Float[Tensor, "d"]:
        """The mean of every feature."""
        if self._mean is None:
            raise ValueError("no features were added yet; call update(features) first")
        return self._mean

    @property
    def cov(self) -> Float[Tensor, "d d"]:
        """The unbiased covariance, scatter / (n - 1)."""
        if self._scatter is None or self.count < 2:
            raise ValueError(f"a covariance needs at least two rows; these moments have seen {self.count}")
        return self._scatter / (self.count - 1)

    def _add(self, count: int, mean: Tensor, scatter: Tensor) -> Moments:
        if self._mean is None or self._scatter is None:
            self.count, self._mean, self._scatter = count, mean.clone(), scatter.clone()
            return self
        if len(mean) != len(self._mean):
            raise ValueError(f"features have {len(mean)} numbers a row after {len(self._mean)}; use one extractor")
        total, delta = self.count + count, mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._scatter = self._scatter + scatter + delta.outer(delta) * (self.count * count / total)
        self.count = total
        return self
