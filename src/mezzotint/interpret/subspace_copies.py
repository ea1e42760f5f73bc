"""Whether samples are new or copies of the training set, and how many training samples make them new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["HalfPoint", "half_point", "nearest", "novelty"]


def nearest(x: Float[Tensor, "b *s"], among: Float[Tensor, "n *s"]) -> Float[Tensor, " b"]:
    """Distance from each x to the nearest of others, (b,) float64."""
    flat, others = x.detach().double().flatten(1), among.detach().double().flatten(1)
    return torch.cat([torch.cdist(part, others).amin(1) for part in flat.split(1024)])


def novelty(
    generated: Float[Tensor, "b *s"],
    train: Float[Tensor, "n *s"],
    fresh: Float[Tensor, "m *s"],
    factor: float = 0.5,
) -> float:
    """The share of generated samples that are no copies: further from the training set than `factor` times the usual.

    The usual is the median distance from fresh samples of the truth to the training set. Samples that are nowhere near
    the data count as new as well: tell their distance from it beside this.

    Args:
        generated: of the model.
        train: what it was trained on.
        fresh: of the same distribution, not trained on.
        factor: > 0.

    Raises:
        ValueError: for a factor that is not positive, or no sample.

    Source: our measure in place of the generalisation score of arXiv 2409.02426, which needs a copy detector (SSCD).

    >>> novelty(torch.tensor([[0.0], [5.0]]), torch.tensor([[0.0]]), torch.tensor([[2.0]]))
    0.5
    """
    if not factor > 0 or not len(generated) or not len(train) or not len(fresh):
        raise ValueError(f"factor={factor}, samples {len(generated)}, {len(train)}, {len(fresh)}; expected all > 0")
    usual = float(nearest(fresh, train).median())
    return float((nearest(generated, train) > factor * usual).double().mean())


@dataclass(frozen=True)
class HalfPoint:
    """Where a share passes one half.

    Args:
        point: N / d there, by a logistic curve in log2(N / d).
        interval: 95 %, by bootstrap over the measured values; (nan, nan) for fewer than three.
        slope: of the curve, a doubling.
        bracketed: whether the shares measured lie on both sides of one half. If not, the point is that of the nearer
            end of the range or beyond, and says nothing but on which side to look.
    """

    point: float
    interval: tuple[float, float]
    slope: float
    bracketed: bool


def half_point(
    ratios: Sequence[float | int], shares: Sequence[float | int], seed: int = 0, resamples: int = 200
) -> HalfPoint:
    """Fit share = 1 / (1 + exp(-slope (log2 ratio - log2 point))) in least squares.

    Args:
        ratios: samples over dimension, > 0, one a measurement.
        shares: in [0, 1].
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: for numbers of values that differ, fewer than two, or ratios that are not positive.

    Source: the protocol is ours, built on arXiv 2409.02426 (its curves are sigmoids in log2 N).

    >>> round(half_point([2, 4, 8, 16], [0.0, 0.2, 0.8, 1.0]).point, 3)
    5.657
    """
    if len(ratios) != len(shares) or len(ratios) < 2 or min(ratios) <= 0:
        raise ValueError(f"{len(ratios)} ratios, {len(shares)} shares; expected two or more pairs, ratios > 0")
    x, y = (torch.tensor(list(map(float, v)), dtype=torch.float64) for v in (ratios, shares))
    x = x.log2()
    place, slope = _fit(x[None], y[None])
    n, interval = len(x), (math.nan, math.nan)
    if n > 2:
        rows = (
            (Noise([seed]).uniform("bootstrap", 0, (resamples, n), dtype=torch.float64)[0] * n).long().clamp(max=n - 1)
        )
        drawn = 2 ** _fit(x[rows], y[rows])[0]
        low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        interval = (low, high)
    return HalfPoint(2 ** float(place), interval, float(slope), bool(y.min() <= 0.5 <= y.max()))


def _fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Place and slope of logistic curves for rows of points, by a grid and its refinement: nothing can diverge."""
    low, high = x.min() - 2, x.max() + 2  # a place outside is told by its end
    places, slopes = torch.linspace(float(low), float(high), 161).double(), torch.logspace(-1, 1.3, 48).double()
    curve = torch.sigmoid(slopes[:, None, None] * (x[:, None, None, :] - places[:, None]))  # rows, slopes, places, n
    off = (curve - y[:, None, None, :]).square().sum(-1)
    best = off.flatten(1).argmin(1)
    slope, place = slopes[best // len(places)], places[best % len(places)]
    step = float(places[1] - places[0])
    for _ in range(12):
        near_p = place[:, None] + step * torch.linspace(-1, 1, 9).double()
        near_s = slope[:, None] * 2 ** (0.2 * torch.linspace(-1, 1, 5).double())
        curve = torch.sigmoid(near_s[:, :, None, None] * (x[:, None, None, :] - near_p[:, None, :, None]))
        best = (curve - y[:, None, None, :]).square().sum(-1).flatten(1).argmin(1)
        rows = torch.arange(len(x))
        slope, place, step = near_s[rows, best // 9], near_p[rows, best % 9], step * 0.5
    return place.squeeze(0) if len(place) == 1 else place, slope.squeeze(0) if len(slope) == 1 else slope
