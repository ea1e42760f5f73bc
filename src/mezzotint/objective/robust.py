"""Distances that an outlier cannot rule, and the scale c below which an error counts as none.

With q the square of the error (its sum or its mean over a sample) and r = sqrt(q):

    loss             value                 d/dr                     r >> c
    Squared          q                     2 r                      pulls without bound
    PseudoHuber      sqrt(q + c^2) - c     r / sqrt(q + c^2)        pulls as 1
    Cauchy           ln(1 + q / (2 c^2))   r / (q / 2 + c^2)        pulls as 2 / r
    GemanMcClure     2 q / (q + 4 c^2)     16 c^2 r / (q + 4c^2)^2  pulls as r^-3

A loss of one number a sample weighs whole samples; the elementwise one weighs each element by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "AdaptiveScale",
    "Cauchy",
    "ConstantScale",
    "ElementwiseCauchy",
    "FixedScale",
    "GemanMcClure",
    "PseudoHuber",
    "RobustLoss",
    "RobustScale",
    "Squared",
]

Reduce = Literal["sum", "mean"]


@runtime_checkable
class RobustLoss(Protocol):
    """A distance of every sample from 0."""

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """The distance of each error, at least 0; c > 0 is the scale."""
        ...


@dataclass(frozen=True)
class _OfSquare:
    """What depends on q alone."""

    reduce: Reduce = "mean"

    def __post_init__(self) -> None:
        if self.reduce not in ("sum", "mean"):
            raise ValueError(f"{type(self).__name__} got reduce={self.reduce!r}; expected sum or mean")

    def square(self, error: Tensor) -> Tensor:
        """q, (b,), in float32 or wider."""
        flat = error.to(torch.promote_types(error.dtype, torch.float32)).square().flatten(1)
        return flat.sum(1) if self.reduce == "sum" else flat.mean(1)


@dataclass(frozen=True)
class Squared(_OfSquare):
    """q; the scale is not used.

    Args:
        reduce: q is the "mean" or the "sum" over a sample.
    """

    def __call__(self, error: Float[Tensor, "b *s"], c: float = 1.0) -> Float[Tensor, " b"]:
        """See RobustLoss."""
        return self.square(error)


@dataclass(frozen=True)
class PseudoHuber(_OfSquare):
    """sqrt(q + c^2) - c, with q the squared norm of the whole sample: not elementwise, which is another loss.

    Args:
        reduce: "sum" (iCT) or "mean" (as compared in 2502.01441).

    Source: arXiv 2310.14189, equation 7 (section 3.3).

    >>> PseudoHuber()(torch.tensor([[3.0, 4.0]]), c=12.0)
    tensor([1.])
    """

    reduce: Reduce = "sum"

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """See RobustLoss; written as q / (sqrt(q + c^2) + c), in which nothing cancels."""
        q = self.square(error)
        return q / ((q + c * c).sqrt() + c)


@dataclass(frozen=True)
class Cauchy(_OfSquare):
    """ln(1 + q / (2 c^2)): grows as a logarithm, so that an outlier's pull falls as 2 / r and never dies.

    With the "mean", as in the authors' code, it is sqrt(dim) times more tolerant at the same c than with the "sum".

    Args:
        reduce: "mean" or "sum".

    Source: arXiv 2502.01441 (the mean: its code); log1p, as ln(q/2 + c^2) - 2 ln c cancels in float32, is ours.
    """

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """See RobustLoss."""
        return torch.log1p(self.square(error) / (2 * c * c))


@dataclass(frozen=True)
class GemanMcClure(_OfSquare):
    """2 q / (q + 4 c^2): bounded, so that an outlier is given up (compared in arXiv 2502.01441).

    Args:
        reduce: "mean" or "sum".
    """

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """See RobustLoss."""
        q = self.square(error)
        return 2 * q / (q + 4 * c * c)


@dataclass(frozen=True)
class ElementwiseCauchy:
    """mean_j ln(1 + d_j^2 / (2 c^2)): weighs elements, not samples (a variant in the code of arXiv 2502.01441)."""

    def __call__(self, error: Float[Tensor, "b *s"], c: float) -> Float[Tensor, " b"]:
        """See RobustLoss."""
        wide = error.to(torch.promote_types(error.dtype, torch.float32))
        return torch.log1p(wide.square() / (2 * c * c)).flatten(1).mean(1)


@runtime_checkable
class RobustScale(Protocol):
    """The scale c of a stage of training."""

    def __call__(self, levels: int, first: int, size: int) -> float:
        """c > 0 for N = `levels` (`first` at the beginning) and samples of `size` elements."""
        ...


def _positive(what: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{what}={value}; expected a finite number > 0")


@dataclass(frozen=True)
class ConstantScale:
    """c as it is given.

    Args:
        c: > 0.

    Raises:
        ValueError: if c is not positive.
    """

    c: float

    def __post_init__(self) -> None:
        _positive("ConstantScale got c", self.c)

    def __call__(self, levels: int, first: int, size: int) -> float:
        """See RobustScale."""
        return self.c


@dataclass(frozen=True)
class FixedScale:
    """c = factor sqrt(size), whatever the number of levels.

    Args:
        factor: > 0.

    Raises:
        ValueError: if factor is not positive.

    Source: arXiv 2310.14189, section 3.3.

    >>> round(FixedScale()(11, 11, 4 * 32 * 32), 5)
    0.03456
    """

    factor: float = 0.00054

    def __post_init__(self) -> None:
        _positive("FixedScale got factor", self.factor)

    def __call__(self, levels: int, first: int, size: int) -> float:
        """See RobustScale."""
        return self.factor * math.sqrt(size)


@dataclass(frozen=True)
class AdaptiveScale:
    """c = factor sqrt(size) at first, then exp(slope ln(N - 1) + offset) sqrt(size / 4096).

    Neighbouring levels come nearer as N grows, so that errors shrink and what counts as small must shrink with them.
    The curve was fitted by the authors to latents of 4x32x32 = 4096 elements; the factor sqrt(size / 4096), which is
    1 there, is our choice for others, so that all values keep their ratio to the first.

    Args:
        factor: of the first stage, > 0.
        slope, offset: of the later ones; the paper prints -1.18 and -0.72 (within 6 %).

    Raises:
        ValueError: if factor is not positive.

    Source: arXiv 2502.01441, adaptive scaling c; numbers of its code.

    >>> [round(AdaptiveScale()(n, 11, 4096), 4) for n in (11, 21, 641)]
    [0.0346, 0.0136, 0.0003]
    """

    factor: float = 0.00054
    slope: float = -1.15
    offset: float = -0.85

    def __post_init__(self) -> None:
        _positive("AdaptiveScale got factor", self.factor)

    def __call__(self, levels: int, first: int, size: int) -> float:
        """See RobustScale."""
        if levels == first:
            return self.factor * math.sqrt(size)
        return math.exp(self.slope * math.log(levels - 1) + self.offset) * math.sqrt(size / 4096)
